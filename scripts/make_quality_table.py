"""Make the table of sample quality: CSV for programs, Markdown for people."""

from collections.abc import Mapping, Sequence

from contrastdp.files import write_text
from contrastdp.frames import write_table
from contrastdp.jobs.run import run
from contrastdp.report import quality_table


def make_quality_table(
    *, measures: Sequence[str], titles: Mapping[str, str], csv: str, markdown: str
) -> None:
    """Write rows of real images and of one data set's generators, for each number of real images.

    measures: files of measure_samples; titles: generator -> title, in the order of the rows.
    """
    found = quality_table.read_measures(measures)
    table = quality_table.quality_table(found, titles)
    text = quality_table.caption(table, next(iter(found.values())))
    write_table(csv, table)
    write_text(markdown, quality_table.markdown_table(table, text))


if "snakemake" in globals():
    run(make_quality_table, snakemake)
