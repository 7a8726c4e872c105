"""Plot what two classifiers' gradients point at, over t."""

from contrastdp.frames import read_table
from contrastdp.jobs.run import run
from contrastdp.report import figures, gradients_table
from contrastdp.report.gradient_figures import alignment_figure


def plot_gradients(*, table: str, dataset: str, png: str, pdf: str) -> None:
    """Draw one data set's rows of make_gradients_table's CSV."""
    rows = read_table(table, gradients_table.COLUMNS)
    figure = alignment_figure(gradients_table.of_dataset(rows, dataset))
    figures.save(figure, png=png, pdf=pdf)


if "snakemake" in globals():
    run(plot_gradients, snakemake)
