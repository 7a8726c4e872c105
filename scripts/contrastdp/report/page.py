"""The report: one HTML page from tables, figures, evaluations, benchmarks, settings and tags."""

import base64
import io
import json
import os
import re
import tokenize
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from contrastdp.errors import InputError
from contrastdp.evidence.claims import COLUMNS
from contrastdp.files import read_csv, read_text
from contrastdp.frames import read_table
from contrastdp.report import markup, tables

TEMPLATE = "page.html.j2"
TAG = re.compile(r"#\s*(PAPER|ASSUME):\s*(.*)")


# ---------------------------------------------------------------- what the numbers say
VERDICTS = {
    "higher": "Higher",
    "lower": "Lower",
    "open": "No difference detected (the interval contains 0)",
    "same": "Alike in every seed, so without an interval that could tell",
    "one": "One seed, so nothing can be told from chance",
}
CAUTION = (
    "Each comparison stands alone: the intervals are not widened for their number, so of twenty "
    "arms that do not differ one is expected to look as if it did."
)


def summarise(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Say which arms differ from their reference, from a robustness table.

    Returns for each reference a `sentence` and `verdicts`, pairs of a phrase and the arms it is
    true of. An arm counts as higher or lower only where its 95% interval leaves out 0. Where the
    interval contains 0 no difference was detected, which is not the same as none. One seed has no
    interval, and one without width (as many images in each seed) is luck, not certainty.
    """
    found = []
    by_name = table.set_index("arm")
    for reference, compared in table.groupby("reference", sort=False):
        base, low, high = (
            by_name.loc[reference],
            compared["difference_low"],
            compared["difference_high"],
        )
        said = compared["title"] + " " + markup.shown(compared["difference"], "{:+.2f}")
        said += markup.interval(low, high, "{:+.2f}").mask(low == high, "")
        verdict = pd.Series("open", compared.index).mask(low > 0, "higher").mask(high < 0, "lower")
        verdict = verdict.mask(low == high, "same").mask(low.isna(), "one")
        sentence = (
            f"Robust accuracy against {base['title']} ({base['robust_mean']:.1f}% of "
            f"{base['n_test']} test images of {base['dataset']}), in percentage points"
        )
        pairs = sorted(compared["pairs"].unique())
        if pairs != [1]:
            sentence += f" with 95% t intervals over {_or(pairs)} paired seeds"
        groups = [(phrase, list(said[verdict == key])) for key, phrase in VERDICTS.items()]
        found.append({"sentence": sentence + ":", "verdicts": [g for g in groups if g[1]]})
    return found


def _or(values: Iterable[Any]) -> str:
    return " or ".join(str(value) for value in values)


# ---------------------------------------------------------------- what was run
def describe_runs(evaluations: tables.Evaluations) -> list[tuple[str, str]]:
    """Facts about all evaluations: data, arms, seeds, attack, commit, device, package versions."""
    contents = list(evaluations.values())
    facts = [
        ("evaluations", str(len(contents))),
        ("arms", str(len({content["arm"] for content in contents}))),
        ("seeds", ", ".join(map(str, sorted({content["seed"] for content in contents})))),
    ]
    for dataset in sorted({content["dataset"] for content in contents}):
        of = [content for content in contents if content["dataset"] == dataset]
        sizes = _or(sorted({content["n_test"] for content in of}))
        for attack in {tables.describe_attack(content["attack"]): None for content in of}:
            facts.append((f"attack on {dataset}", f"{attack}; {sizes} test images"))
    sources = [content.get("provenance", {}) for content in contents]
    for key in ("commit", "device", "precision"):
        found = sorted({str(source.get(key, "unknown")) for source in sources})
        text = ", ".join(found)
        if key == "commit" and any(value.endswith("+") for value in found):
            text += " (+: with changes that were not committed)"
        facts.append((key, text))
    versions = [source.get("versions", {}) for source in sources]
    names = dict.fromkeys(name for version in versions for name in version)
    each = [
        f"{name} {_or(sorted({str(version.get(name, 'unknown')) for version in versions}))}"
        for name in names
    ]
    facts.append(("versions", ", ".join(each) or "unknown"))
    return facts


def list_evaluations(
    evaluations: tables.Evaluations, paths: Sequence[str], folder: Path
) -> list[dict[str, Any]]:
    """One row an evaluation: arm, seed, accuracies in percent, link relative to `folder`."""
    return [
        {
            "arm": content["arm"],
            "seed": content["seed"],
            "clean": f"{100 * content['clean_accuracy']:.2f}",
            "robust": f"{100 * content['robust_accuracy']:.2f}",
            "after": ", ".join(
                f"{name} {100 * value:.2f}"
                for name, value in content.get("accuracy_after", {}).items()
            ),
            "best": content.get("training", {}).get("best_step", "–"),
            "link": _relative(path, folder),
        }
        for content, path in zip(evaluations.values(), paths, strict=True)
    ]


def list_details(paths: Iterable[str], folder: Path) -> list[str]:
    """Links to further JSON files (trainings, metrics), relative to `folder`."""
    return [_relative(path, folder) for path in paths]


def _relative(path: str | Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def find_benchmarks(folder: str | Path) -> list[dict[str, str]]:
    """Benchmark files under `folder`, where each rule has a subfolder: items of rule and path."""
    folder = Path(folder)
    return [
        {"rule": path.relative_to(folder).parts[0], "path": str(path)}
        for path in sorted(folder.rglob("*.tsv"))
    ]


def sum_benchmarks(benchmarks: Iterable[Mapping[str, str]]) -> pd.DataFrame:
    """Jobs, seconds, cpu and memory of each rule from Snakemake's benchmark files.

    benchmarks: items with `rule` and `path` (TSV with the columns s, max_rss in MiB and
    cpu_time). A rule's seconds are the sum over its jobs, which may have run beside each other.
    """
    measured = []
    for item in benchmarks:
        for row in read_csv(item["path"], delimiter="\t"):
            job = {key: _number(row.get(key)) for key in ("s", "cpu_time", "max_rss")}
            if job["s"] is None:
                raise InputError(f"{item['path']}: column s is no number; delete it and run again")
            measured.append({"rule": item["rule"], **job})
    jobs = pd.DataFrame(measured, columns=["rule", "s", "cpu_time", "max_rss"])
    jobs = jobs.astype({"s": float, "cpu_time": float, "max_rss": float})
    each = jobs.groupby("rule", sort=False, as_index=False)
    return each.agg(
        jobs=("s", "size"), seconds=("s", "sum"), cpu=("cpu_time", "sum"), memory=("max_rss", "max")
    )


def show_times(times: pd.DataFrame) -> pd.DataFrame:
    """The cells of sum_benchmarks: rule, jobs, seconds in all and a job, processor, memory."""
    numbers = {
        "seconds": (times["seconds"], "{:,.1f}"),
        "a job": (times["seconds"] / times["jobs"], "{:,.1f}"),
        "cpu": (times["cpu"], "{:,.1f}"),
        "memory": (times["memory"], "{:,.0f}"),
    }
    cells = {name: markup.shown(*column) for name, column in numbers.items()}
    return times[["rule", "jobs"]].astype("str").assign(**cells).fillna(markup.NONE)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:  # Snakemake writes NA or - for jobs too short to be measured
        return None


# ---------------------------------------------------------------- settings and tags
def lay_out_settings(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Settings as sections that a page can show, each with a title, a header and rows of text.

    A list of mappings becomes a table with a line each; other nesting becomes dotted keys.
    """
    general = {k: v for k, v in settings.items() if not isinstance(v, Mapping) and not _is_rows(v)}
    sections: list[tuple[str, Any]] = [("general", general)] if general else []
    sections += [(key, value) for key, value in settings.items() if key not in general]
    laid = []
    for title, value in sections:
        if _is_rows(value):
            header = list(dict.fromkeys(key for item in value for key in item))
            rows = [[_text(item.get(key)) for key in header] for item in value]
        else:
            header = ["key", "value"]
            rows = [[key, _text(inner)] for key, inner in _flatten(value)]
        laid.append({"title": title, "header": header, "rows": rows})
    return laid


def _is_rows(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and all(isinstance(item, Mapping) for item in value)
    )


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flatten(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and not _is_rows(value):
        return ", ".join(_text(item) for item in value)
    return json.dumps(value, default=str)


def gather_tags(sources: Iterable[str]) -> list[dict[str, Any]]:
    """The PAPER and ASSUME tags of source files: file, line, tag and text, in file order.

    A tag is a comment that begins with PAPER: (differs from or fills in the paper) or ASSUME:
    (a guess); the comment lines that follow it directly belong to it. In Python files only
    comments count, not strings.
    """
    found: list[dict[str, Any]] = []
    for source in sources:
        last: int | None = None  # the line up to which the latest tag reaches
        for line, comment, alone in _comments(source, read_text(source)):
            match = TAG.match(comment)
            if match:
                tag, said = match.groups()
                found.append({"file": str(source), "line": line, "tag": tag, "text": said.strip()})
                last = line
            elif last is not None and alone and line == last + 1:
                found[-1]["text"] += " " + comment.lstrip("# ").strip()
                last = line
            else:
                last = None
    return found


def _comments(source: str, text: str) -> list[tuple[int, str, bool]]:
    """Comments as (line number, text from '#', stands alone on its line)."""
    if Path(source).suffix == ".py":
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        return [
            (token.start[0], token.string, token.line[: token.start[1]].strip() == "")
            for token in tokens
            if token.type == tokenize.COMMENT
        ]
    return [
        (number, line[line.index("#") :], line.lstrip().startswith("#"))
        for number, line in enumerate(text.splitlines(), 1)
        if "#" in line
    ]


# ---------------------------------------------------------------- parts of the page
def show_table(table: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """A table as the page shows it; table: `title`, `csv`, and `caption` or `markdown` (a path).

    A robustness table gets its rounded cells and its summary; any other CSV is shown as it is.
    The caption of a Markdown twin is the text above its table.
    """
    text = table.get("caption", "")
    if table.get("markdown"):
        lines = read_text(table["markdown"]).splitlines()
        cut = next((i for i, line in enumerate(lines) if line.startswith("|")), len(lines))
        text = " ".join(lines[:cut]).strip()
    shown = {"title": table["title"], "caption": text, "link": _relative(table["csv"], folder)}
    raw = pd.DataFrame(read_csv(table["csv"]))
    if list(raw) == list(tables.COLUMNS):
        summary = read_table(table["csv"], tables.COLUMNS)
        cells = tables.human_cells(summary)
        right = tables.set_right(cells)
    else:
        summary, cells = None, raw.map(_short)
        right = [name for name in cells if cells[name].map(_number).notna().all()]
    return shown | _grid(cells, right) | {"summary": summary}


def show_claims(path: str, folder: Path) -> dict[str, Any]:
    """The claims that judge_claims decided: statement, source, effect with interval, verdict."""
    judged = read_table(path, COLUMNS)
    numbers = ("effect", "low", "high", "threshold")
    effect, low, high, threshold = (
        judged[name].astype("str").map(_short, na_action="ignore") for name in numbers
    )
    interval = effect + " [" + low + ", " + high + "] " + judged["unit"]
    cells = {
        "Claim": judged["statement"],
        "Source": judged["source"],
        "Verdict": judged["verdict"],
        "Effect [interval]": interval.fillna(markup.NONE),
        "Threshold": threshold,
        "Compared": judged["evidence"],
    }
    return _grid(pd.DataFrame(cells), ["Threshold"]) | {"link": _relative(path, folder)}


def _grid(cells: pd.DataFrame, right: Collection[str]) -> dict[str, Any]:
    """What the template's grid shows: the header, rows, and whether a column is set right."""
    rows = cells.to_numpy().tolist()
    return {"header": list(cells), "rows": rows, "right": [name in right for name in cells]}


def _short(text: str) -> str:
    """A long fraction to four digits; any other text as it is."""
    number = _number(text)
    return f"{number:.4g}" if number is not None and "." in text and len(text) > 6 else text


def show_figure(figure: Mapping[str, str]) -> dict[str, str]:
    """A figure with its PNG as a data URI; figure: `title`, `caption`, `png` (a path)."""
    try:
        content = Path(figure["png"]).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{figure['png']}: no such file; run the rule that makes it") from None
    if not content.startswith(b"\x89PNG"):
        raise InputError(f"{figure['png']}: is not a PNG image; make it again")
    uri = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return {"title": figure["title"], "caption": figure.get("caption", ""), "uri": uri}


def render(**parts: Any) -> str:
    """Fill the template; every value is escaped, and a part that is missing is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(**parts)
