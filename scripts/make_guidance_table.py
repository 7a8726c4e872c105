"""Make the table of the guidance's size: CSV for programs, Markdown for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from contrastdp.files import write_text
from contrastdp.frames import read_table, write_table
from contrastdp.jobs.run import run
from contrastdp.report import guidance_table
from contrastdp.report.tables import COLUMNS


def make_guidance_table(
    *,
    shards: Sequence[str],
    owners: Sequence[Sequence[Any]],
    arms: Sequence[Mapping[str, Any]],
    robustness: str,
    csv: str,
    markdown: str,
) -> None:
    """Write one row an arm, in the order of `arms`.

    shards: labelled shards; owners: (arm, seed) of each of them, in that order; arms: with the
    settings of their guidance, as guidance_table.size_rows says; robustness: CSV of make_table
    with these arms.
    """
    found: dict[tuple[str, int], list[str]] = {}
    for path, (arm, seed) in zip(shards, owners, strict=True):
        found.setdefault((arm, seed), []).append(path)
    table = guidance_table.size_table(arms, found, read_table(robustness, COLUMNS))
    write_table(csv, table)
    write_text(markdown, guidance_table.markdown_table(table))


if "snakemake" in globals():
    run(make_guidance_table, snakemake)
