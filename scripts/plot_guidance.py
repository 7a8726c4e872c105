"""Plot the variants of the guidance: accuracy against its size, and each variant's gain."""

from collections.abc import Sequence

from contrastdp.errors import InputError
from contrastdp.frames import read_table
from contrastdp.jobs.run import run
from contrastdp.report import figures
from contrastdp.report.guidance_figure import guidance_figure
from contrastdp.report.guidance_table import COLUMNS


def plot_guidance(
    *, table: str, dataset: str, swept: Sequence[Sequence[str]], png: str, pdf: str
) -> None:
    """Draw the rows of one data set of make_guidance_table's CSV.

    swept: arms that differ by lambda alone, a list a loss, joined by lines. Raises InputError where
    no row is guided.
    """
    rows = read_table(table, COLUMNS).query("dataset == @dataset")
    if rows["loss"].isna().all():
        raise InputError(f"{table}: no guided row of {dataset}; put an arm into the table")
    figures.save(guidance_figure(rows, swept), png=png, pdf=pdf)


if "snakemake" in globals():
    run(plot_guidance, snakemake)
