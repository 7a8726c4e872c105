"""Make the table of the false-robustness audit: CSV for programs, Markdown for people."""

from collections.abc import Mapping, Sequence

from contrastdp.files import write_text
from contrastdp.frames import write_table
from contrastdp.jobs.run import run
from contrastdp.report import audit_table


def make_audit_table(
    *, audits: Sequence[str], titles: Mapping[str, str], csv: str, markdown: str
) -> None:
    """Write a row for each arm and seed of a table, with its measures and verdict.

    audits: files of audit_network; titles: arm -> title, in the order of the rows.
    """
    found = audit_table.read_audits(audits)
    table = audit_table.audit_table(found, titles)
    write_table(csv, table)
    write_text(markdown, audit_table.markdown_table(table, audit_table.caption(table, found)))


if "snakemake" in globals():
    run(make_audit_table, snakemake)
