"""Make the table of what two classifiers' gradients point at, over bands of t."""

from collections.abc import Sequence

from contrastdp.files import write_text
from contrastdp.frames import write_table
from contrastdp.jobs.run import run
from contrastdp.report import gradients_table


def make_gradients_table(*, measures: Sequence[str], csv: str, markdown: str, runs: str) -> None:
    """Write a row a measure and band (csv, markdown), and one a measure, band and seed (runs).

    measures: files of measure_gradients.
    """
    found = gradients_table.gradient_runs(measures)
    table = gradients_table.gradients_table(found)
    write_table(csv, table, digits="%.6g")
    write_table(runs, found)
    text = gradients_table.caption(found)
    write_text(markdown, gradients_table.markdown_table(table, text))


if "snakemake" in globals():
    run(make_gradients_table, snakemake)
