"""Gather all claims of a scale into one page: the paper's figures, ours, verdicts, evidence."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from contrastdp.evidence import claims, image_claims, robust_guidance_claims
from contrastdp.files import read_csv, write_text
from contrastdp.frames import read_table, write_table
from contrastdp.jobs.run import run
from contrastdp.report import claims_page, measured_table
from contrastdp.report.paper_tables import RUN_COLUMNS, read_reported
from contrastdp.theory import claims as theory_claims
from contrastdp.theory.tables import read_printed


def gather_claims(
    *,
    listed: Sequence[Mapping[str, Any]],
    judged: Sequence[str],
    runs: Sequence[str],
    arms: str,
    reported: str,
    gaussian: str,
    measured: str,
    names: Sequence[str],
    printed: Sequence[str],
    optional: Sequence[str],
    links: Mapping[str, Sequence[str]],
    scale: str,
    csv: str,
    md: str,
) -> None:
    """Write every claim to csv and md.

    listed: claims as in config/claims.yaml; judged: CSV files of judge_claims; runs: CSV files of
    runs, names: the table of each; arms: the TSV of experiments; reported, gaussian, measured: CSV
    of printed values on images, of section 3 and of images by setting; printed: tables of the
    paper; optional: scopes that are left out where not run; links: by scope, files that show the
    evidence. Raises InputError as claims_page.gather does.
    """
    tests = image_claims.TESTS | robust_guidance_claims.TESTS | theory_claims.TESTS
    verdicts = pd.concat([read_table(path, claims.COLUMNS) for path in judged])
    at_paper = [row for row in read_csv(arms, delimiter="\t") if row["scale"] == "paper"]
    known, tables = read_reported(reported), read_printed(gaussian)
    variants = {claim["parameters"].get("variant") for claim in listed} - {None}
    evidence = {name: claims_page.printed_runs(at_paper, known, name) for name in printed}
    evidence |= {"reported": tables, "cells": claims_page.printed_cells(tables, sorted(variants))}
    evidence["measured"] = measured_table.printed_runs(measured_table.read_reported(measured))
    found = claims_page.gather(
        listed,
        verdicts,
        claims_page.judge_printed(listed, evidence, tests),
        runs={name: read_table(path, RUN_COLUMNS) for name, path in zip(names, runs, strict=True)},
        links=links,
        optional=optional,
        scale=scale,
    )
    write_table(csv, found)
    write_text(md, claims_page.markdown(found, Path(md).parent, tests))


if "snakemake" in globals():
    run(gather_claims, snakemake)
