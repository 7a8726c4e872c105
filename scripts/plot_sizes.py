"""Plot accuracy against the number of synthetic images, a line a generator."""

from collections.abc import Mapping, Sequence

import pandas as pd

from contrastdp.errors import InputError
from contrastdp.frames import read_table
from contrastdp.jobs.run import run
from contrastdp.report import figures
from contrastdp.report.tables import COLUMNS


def plot_sizes(
    *,
    tables: Sequence[str],
    generators: Mapping[str, str],
    dataset: str,
    real: int,
    trainer: str,
    png: str,
    pdf: str,
    selection: str = "none",
    bars: str = "interval",
) -> None:
    """Draw clean and robust accuracy against synthetic size for the rows that match the settings.

    tables: CSV files of make_table (an arm may stand in several); generators: name -> title in
    the legend, in order; dataset, real, trainer, selection: what a row must have; bars: interval
    (95% t interval over seeds) or std. The row of the same data set, real count and trainer with
    0 synthetic images is the dashed line.
    Raises InputError where a generator has no row, or two rows of one size.
    """
    rows = pd.concat([read_table(path, COLUMNS) for path in tables])
    rows = rows.drop_duplicates("arm", keep="last")
    alike = rows.query("dataset == @dataset and real == @real and trainer == @trainer")
    baseline = alike.query("synthetic == 0")
    if len(baseline) > 1:
        names = " and ".join(baseline["arm"])
        raise InputError(f"arms {names} both have no synthetic data; leave one out of the tables")
    curves = {}
    for name, title in generators.items():
        curve = alike.query("generator == @name and selection == @selection and synthetic > 0")
        if curve.empty:
            raise InputError(f"generator {name}: no row of {', '.join(tables)} matches it")
        twice = curve[curve.duplicated("synthetic")]
        if len(twice):
            same = curve["synthetic"] == twice["synthetic"].iloc[0]
            names = " and ".join(curve.loc[same, "arm"])
            raise InputError(f"arms {names} have one generator and size; choose one")
        curves[title] = curve.sort_values("synthetic")
    figures.save(figures.size_curves(curves, baseline=baseline, bars=bars), png=png, pdf=pdf)


if "snakemake" in globals():
    run(plot_sizes, snakemake)
