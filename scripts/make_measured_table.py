"""Make the table of images by generator's setting, beside what a paper prints."""

from collections.abc import Mapping, Sequence
from typing import Any

from contrastdp.files import write_text
from contrastdp.frames import write_table
from contrastdp.jobs.run import run
from contrastdp.report import measured_table


def make_measured_table(
    *,
    measures: Sequence[str],
    reported: str,
    rows: Sequence[Mapping[str, Any]],
    csv: str,
    markdown: str,
    runs: str,
) -> None:
    """Write a row a setting and metric (csv, markdown), and one a setting and seed (runs).

    measures: files of measure_samples; reported: CSV of the printed values; rows: of measured.tsv,
    with titles.
    """
    found = measured_table.measured_runs(rows, measures)
    table = measured_table.measured_table(found, measured_table.read_reported(reported))
    write_table(csv, table, digits="%.6g")
    write_table(runs, found)
    write_text(markdown, measured_table.markdown_table(table, measured_table.caption(found)))


if "snakemake" in globals():
    run(make_measured_table, snakemake)
