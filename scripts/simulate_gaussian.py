"""Simulate section 3: every table cell, Proposition 3.2 and Theorem 3.4 (numpy, one core)."""

from collections.abc import Mapping, Sequence
from typing import Any

from contrastdp.errors import InputError
from contrastdp.files import read_csv, write_csv
from contrastdp.jobs.run import run, track
from contrastdp.theory.gaussian import proposition_rows, simulate_tables, theorem_rows

CELL_COLUMNS = (
    *("table", "angle", "d", "source", "n", "variant", "regeneration"),
    *("clean", "clean_std", "robust", "robust_std"),
)
PROPOSITION_COLUMNS = (
    *("error", "model", "real", "synthetic", "c", "angle", "value", "value_se"),
    *("from_0", "from_0_se", "from_90", "from_90_se", "from_smaller_c", "from_smaller_c_se"),
)
THEOREM_COLUMNS = ("quantity", "real", "target", "c", "limit", "value", "low", "high")


def simulate_gaussian(
    *,
    reported: str,
    cells: str,
    proposition: str,
    theorem: str,
    geometry: Sequence[Mapping[str, Any]],
    variants: Mapping[str, Mapping[str, Any]],
    trials: int,
    test_points: int,
    regenerations: int,
    seed: int,
    proposition_settings: Mapping[str, Any],
    theorem_settings: Mapping[str, Any],
) -> None:
    """Simulate the cells named in `reported` and write cells, proposition and theorem as CSV.

    cells holds a row per cell, variant and regeneration: 0 is the run as printed, 1 to
    `regenerations` repeat everything with fresh draws.
    """
    wanted = read_csv(reported)
    if not wanted:
        raise InputError(f"{reported}: has no cells; restore the printed tables")
    rows = []
    for regeneration in track(range(regenerations + 1), "regenerations"):
        rows += simulate_tables(
            wanted,
            geometry,
            variants,
            trials=trials,
            test_points=test_points,
            seed=seed,
            regeneration=regeneration,
        )
    write_csv(cells, [_rounded(row) for row in rows], CELL_COLUMNS)
    write_csv(proposition, proposition_rows(**proposition_settings), PROPOSITION_COLUMNS)
    write_csv(theorem, theorem_rows(**theorem_settings), THEOREM_COLUMNS)


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: f"{x:.6f}" if isinstance(x, float) else x for k, x in row.items()}


if "snakemake" in globals():
    run(simulate_gaussian, snakemake)
