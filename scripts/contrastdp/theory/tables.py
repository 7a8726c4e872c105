"""The Gaussian tables of section 3: their columns, and the printed ones read."""

from pathlib import Path

import pandas as pd

from contrastdp.errors import InputError
from contrastdp.frames import number, read_table, text, whole

KEY = ("table", "angle", "d", "source", "n")  # one cell of the printed tables

PRINTED = (
    text("table", "angle")
    | whole("d")
    | text("source")
    | whole("n")
    | number("clean", "clean_std", "rob", "rob_std")
)
CELLS = (
    text("table", "angle")
    | whole("d")
    | text("source")
    | whole("n")
    | text("variant")
    | whole("regeneration")
    | number("clean", "clean_std", "robust", "robust_std")
)
PROPOSITION = (
    text("error", "model")
    | whole("real")
    | text("synthetic")
    | number("c", "angle", "value", "value_se", "from_0", "from_0_se", "from_90", "from_90_se")
    | number("from_smaller_c", "from_smaller_c_se")
)
THEOREM = text("quantity") | whole("real") | number("target", "c", "limit", "value", "low", "high")
VERDICTS = (
    text("table", "variant")
    | whole("cells")
    | number("clean_points", "robust_points", "points", "points_low", "points_high")
    | number("p_fit", "within_2se", "within_2se_trials_only")
    | number("std_ratio", "largest_z", "largest_z_allowed")
    | whole("outlying")
    | text("verdict")
)


def read_printed(path: str | Path) -> pd.DataFrame:
    """The printed tables of a file, in PRINTED; InputError where it has none, or a cell twice."""
    found = read_table(path, PRINTED)
    if found.empty:
        raise InputError(f"{path}: has no cells; restore the printed tables")
    twice = found.index[found.duplicated([*KEY])]
    if len(twice):
        cell = found.loc[twice[0], [*KEY]].fillna("").astype(str)
        raise InputError(
            f"{path}, line {twice[0] + 2}: repeats the cell '{' '.join(cell)}' "
            f"({' '.join(KEY)}); remove one row"
        )
    return found
