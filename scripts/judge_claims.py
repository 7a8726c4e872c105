"""Decide the paper's claims from result tables: reproduced, not reproduced or inconclusive."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from contrastdp.errors import InputError
from contrastdp.evidence import image_claims, robust_guidance_claims
from contrastdp.evidence.claims import judge
from contrastdp.files import read_json, read_text, write_text
from contrastdp.frames import read_table, write_table
from contrastdp.jobs.run import run
from contrastdp.report import gradients_table, measured_table
from contrastdp.report.claims_page import judged_markdown
from contrastdp.report.paper_tables import RUN_COLUMNS
from contrastdp.theory import claims as theory_claims

OF_GUIDANCE = {"measured": measured_table.RUNS, "gradients": gradients_table.RUNS}


def judge_claims(
    *,
    claims: str,
    evidence: Sequence[str],
    names: Sequence[str],
    scopes: Sequence[str],
    csv: str,
    md: str,
) -> None:
    """Judge the claims of `scopes` in the YAML file `claims`; write them as CSV and Markdown.

    evidence: CSV or JSON files; names: the name of each by which claims ask for it. A CSV has the
    columns of its name in theory.claims or OF_GUIDANCE, or is a page's runs.
    """
    if len(evidence) != len(names):
        raise InputError(
            f"judge_claims: {len(evidence)} evidence files for {len(names)} names; give one each"
        )
    known = theory_claims.EVIDENCE | OF_GUIDANCE
    content = {
        name: read_json(path)
        if Path(path).suffix == ".json"
        else read_table(path, known.get(name, RUN_COLUMNS))
        for name, path in zip(names, evidence, strict=True)
    }
    try:
        listed = yaml.safe_load(read_text(claims))["claims"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{claims}: holds no list 'claims' ({reason}); restore it") from None
    tests = image_claims.TESTS | robust_guidance_claims.TESTS | theory_claims.TESTS
    judged = judge(listed, content, scopes=scopes, tests=tests)
    write_table(csv, judged)
    write_text(md, judged_markdown(judged))


if "snakemake" in globals():
    run(judge_claims, snakemake)
