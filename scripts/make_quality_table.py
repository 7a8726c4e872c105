"""Make the table of sample quality: CSV for programs, Markdown for people."""

from collections.abc import Mapping, Sequence

from contrastdp.files import replacing, write_csv
from contrastdp.jobs.run import run
from contrastdp.report import quality_table


def make_quality_table(
    *, measures: Sequence[str], titles: Mapping[str, str], csv: str, markdown: str
) -> None:
    """Write rows of real images and of one data set's generators, for each number of real images.

    measures: files of measure_samples; titles: generator -> title, in the order of the rows.
    """
    found = quality_table.read_measures(measures)
    rows = quality_table.quality_rows(found, titles)
    text = quality_table.caption(rows, next(iter(found.values())))
    write_csv(csv, rows, quality_table.COLUMNS)
    with replacing(markdown) as temporary:
        temporary.write_text(quality_table.markdown_table(rows, text), encoding="utf-8")


if "snakemake" in globals():
    run(make_quality_table, snakemake)
