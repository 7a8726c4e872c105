"""The page of all claims: what the paper says and prints, what was found here, on what, and where.

The paper's figures come from its printed values by the test that decides the claim, so no number
is typed twice.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os.path import relpath
from pathlib import Path
from typing import Any

import pandas as pd

from contrastdp.errors import InputError
from contrastdp.evidence import claims
from contrastdp.evidence.claims import NOT_RUN, Verdict
from contrastdp.frames import as_rows, as_table, given, number, text
from contrastdp.report import markup
from contrastdp.report.markup import signed
from contrastdp.report.paper_tables import RUN_COLUMNS

COLUMNS = (
    text("id", "scope", "statement", "source", "test", "parameters")
    | number("paper_effect")
    | text("paper_words")
    | number("effect", "low", "high")
    | text("unit")
    | given("threshold")
    | text("verdict", "words", "scale", "data", "subset", "seeds", "n_test", "links")
)
VERDICTS = (claims.REPRODUCED, claims.NOT_REPRODUCED, claims.INCONCLUSIVE, NOT_RUN)
NOT_GIVEN, SIMULATED = "not given", "simulated data"
PRINTED_FROM = (
    *("dataset", "arm", "generator", "real", "synthetic", "selection", "trainer"),
    *("train_on", "eps", "baseline"),
)
Row = Mapping[str, Any]


# ---------------------------------------------------------------- what the paper prints
def printed_runs(
    arms: Sequence[Mapping[str, str]], reported: Mapping[str, Row], table: str
) -> pd.DataFrame:
    """The printed values of one of the paper's tables as if they were runs of one seed.

    arms: rows of arms.tsv at the scale `paper`, which say what each reported id was made of;
    reported: of paper_tables.read_reported; table: such as cifar10_table2. The columns are
    RUN_COLUMNS; a value that the paper does not give is empty. Of rows of an earlier text version,
    and of figures, there are none.
    """
    dataset, _, number = table.partition("_table")
    found = []
    for arm in arms:
        for name in arm["reported"].split():
            row = reported.get(name)
            if row is None:
                raise InputError(f"arm {arm['arm']}: no reported row has the id '{name}'")
            if (row["dataset"], row["table"], row["text_version"]) != (dataset, number, "v2"):
                continue
            found.append(
                {key: arm[key] or None for key in PRINTED_FROM}
                | {kind: row[f"{kind}_pct"] for kind in ("clean", "robust")}
                | {"seed": 0, "printed": row["synthetic"]}
            )
    return as_table(found, RUN_COLUMNS)


def printed_cells(reported: pd.DataFrame, variants: Sequence[str]) -> pd.DataFrame:
    """The printed Gaussian tables (config/reported/gaussian.csv) as one simulation a variant."""
    cells = reported.rename(columns={"rob": "robust"}).assign(regeneration=1)
    return cells.merge(pd.DataFrame({"variant": variants}), how="cross")


def judge_printed(
    listed: Sequence[Row], printed: Row, tests: Mapping[str, Callable[..., Verdict]]
) -> dict[str, dict[str, Any]]:
    """Judge the printed values: claim's id -> row of claims.judge, where they can tell.

    listed: claims of config/claims.yaml; printed: evidence by name. Claims on other evidence, and
    those for which nothing is printed, are left out.
    """
    chosen = [claim for claim in listed if set(claim["evidence"]) <= printed.keys()]
    scopes = list(dict.fromkeys(claim["scope"] for claim in chosen))
    rows = claims.judge(chosen, printed, scopes=scopes, tests=tests)
    return {row["id"]: row for row in as_rows(rows) if row["verdict"] != NOT_RUN}


# ---------------------------------------------------------------- gathering
def gather(
    listed: Sequence[Row],
    judged: pd.DataFrame,
    printed: Mapping[str, Row],
    *,
    runs: Mapping[str, pd.DataFrame],
    links: Mapping[str, Sequence[str]],
    optional: Sequence[str],
    scale: str,
) -> pd.DataFrame:
    """One row a claim in COLUMNS, in the order of `listed`.

    judged: of claims.judge, of all scopes that were run; printed: of judge_printed; runs: by
    scope, in RUN_COLUMNS (none for simulations); links: by scope, paths of what shows the
    evidence; optional: scopes that are no claims of the paper itself, left out where they were not
    run. A claim of another scope that was not run is 'not run'. InputError for a judged scope that
    lacks one of its claims, or has one that is not listed.
    """
    found = {row["id"]: row for row in as_rows(judged)}
    scopes = set(judged["scope"])
    _check_complete(listed, found, scopes)
    rows = []
    for claim in listed:
        scope, name = claim["scope"], claim["id"]
        row = {key: claim[key] for key in ("id", "scope", "statement", "source", "test")}
        row |= {"parameters": _parameters(claim["parameters"]), "scale": scale}
        if name in printed:
            paper = printed[name]
            row |= {"paper_effect": paper["effect"], "paper_words": paper["evidence"].split(";")[0]}
            row |= {"unit": paper["unit"]}
        if name in found:
            kept = ("effect", "low", "high", "unit", "threshold", "verdict")
            row |= {key: found[name][key] for key in kept} | {"words": found[name]["evidence"]}
            row |= _made_of(runs.get(scope)) | {"links": " ".join(links.get(scope, ()))}
        elif scope in optional:
            continue
        else:
            row |= {"verdict": NOT_RUN, "words": f"{scope} is not part of the scale '{scale}'"}
            row |= {"threshold": claim["parameters"].get("threshold")}
        rows.append(row)
    return as_table(rows, COLUMNS)


def _check_complete(listed: Sequence[Row], found: Row, scopes: set[str]) -> None:
    wanted = {claim["id"] for claim in listed if claim["scope"] in scopes}
    odd = sorted(wanted ^ found.keys())
    if odd:
        raise InputError(
            f"claim {odd[0]}: is judged but not listed, or listed but not judged with the others "
            "of its scope; judge its scope again"
        )


def _parameters(parameters: Row) -> str:
    def said(value: Any) -> str:
        if isinstance(value, Mapping):
            return " and ".join(f"{key} {said(inner)}" for key, inner in value.items())
        if isinstance(value, list):
            return ", ".join(
                " over ".join(map(str, each)) if isinstance(each, list) else said(each)
                for each in value
            )
        return "no synthetic images" if value is None else str(value)

    return "; ".join(f"{key}: {said(value)}" for key, value in parameters.items())


def _made_of(runs: pd.DataFrame | None) -> dict[str, str]:
    if runs is None or runs.empty:
        return {"data": SIMULATED}
    if missing := [key for key in ("data", "subset") if runs[key].isna().all()]:
        raise InputError(f"runs: have no column '{missing[0]}'; make the table again")
    texts = {key: _or(runs[key].dropna().unique()) for key in ("data", "subset", "n_test")}
    return texts | {"seeds": _or(sorted(runs.groupby("arm").size().unique()))}


def _or(values: Iterable[Any]) -> str:
    return " or ".join(map(str, values))


# ---------------------------------------------------------------- for people
def judged_markdown(judged: pd.DataFrame) -> str:
    """Claims of some scopes as Markdown: a count of the verdicts, then one row a claim."""
    kept = [
        verdict for verdict in VERDICTS if verdict != NOT_RUN or NOT_RUN in set(judged["verdict"])
    ]
    effect = judged["effect"].map("{:g}".format, na_action="ignore")
    bounds = (
        " [" + judged["low"].map("{:g}".format) + ", " + judged["high"].map("{:g}".format) + "] "
    )
    cells = {
        "claim": judged["statement"],
        "source": judged["source"],
        "verdict": "**" + judged["verdict"] + "**",
        "effect [interval]": effect + bounds + judged["unit"],
        "against": judged["threshold"].map("{:g}".format),
        "evidence": judged["evidence"],
    }
    counts = f"Of {len(judged)} claims: {_counts(judged, kept)}."
    return f"{counts}\n\n{markup.markdown(pd.DataFrame(cells))}"


def _counts(judged: pd.DataFrame, verdicts: Iterable[str]) -> str:
    return ", ".join(f"{(judged['verdict'] == verdict).sum()} {verdict}" for verdict in verdicts)


def markdown(
    table: pd.DataFrame, folder: str | Path, tests: Mapping[str, Callable[..., Verdict]]
) -> str:
    """The page as Markdown: a count of the verdicts, the claims, and what each test does.

    folder: where the page will stand, for its links.
    """
    rows = as_rows(table)
    scale = rows[0]["scale"] if rows else "?"
    header = ["Claim", "Paper's figures", "Ours [interval]", "Held against", "Verdict"]
    header += ["What was found", "Test", "Run on", "Evidence"]
    cells = [
        [
            f"{row['statement']} ({row['source']})",
            _paper(row),
            _ours(row),
            markup.NONE if row["threshold"] is None else f"{float(row['threshold']):g}",
            f"**{row['verdict']}**",
            row["words"],
            f"`{row['test']}` ({row['parameters']})",
            _run_on(row),
            ", ".join(
                f"[{Path(path).name}]({relpath(path, folder)})"
                for path in (row["links"] or "").split()
            )
            or "–",
        ]
        for row in rows
    ]
    used = dict.fromkeys(row["test"] for row in rows)
    lines = [
        f"# The paper's claims, at scale `{scale}`",
        "",
        f"Of {len(rows)} claims: {_counts(table, VERDICTS)}. A claim is reproduced where the whole "
        "interval of its effect lies on the claimed side of what it is held against, not "
        "reproduced where none of it does, inconclusive in between. The paper's figures are what "
        "the same test makes of its printed values, which come without seeds.",
        "",
        markup.markdown(pd.DataFrame(cells, columns=header)),
        "The tests:",
        "",
        *(f"- `{name}`: {(tests[name].__doc__ or '?').splitlines()[0]}" for name in used),
        "",
    ]
    return "\n".join(lines)


def _paper(row: Row) -> str:
    if row["paper_effect"] is None:
        return NOT_GIVEN
    return f"{signed(row['paper_effect'], '{:g}')} {row['unit']} ({row['paper_words']})"


def _ours(row: Row) -> str:
    if row["verdict"] == NOT_RUN:
        return "–"
    effect, low, high = (signed(row[key], "{:g}") for key in ("effect", "low", "high"))
    # One seed has no spread: what stands as its bounds is the verdict's caution, not an interval.
    interval = "no interval: one seed" if row["seeds"] == "1" else f"{low}, {high}"
    return f"{effect} [{interval}] {row['unit']}"


def _run_on(row: Row) -> str:
    if row["verdict"] == NOT_RUN:
        return "–"
    if row["data"] == SIMULATED:
        return SIMULATED
    part = {"yes": " (subset)", "no": ""}.get(row["subset"], f" (subset: {row['subset']})")
    seeds = "1 seed" if row["seeds"] == "1" else f"{row['seeds']} seeds"
    return f"{row['data']}{part}, {row['n_test']} test images, {seeds}"
