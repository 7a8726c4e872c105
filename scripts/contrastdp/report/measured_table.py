"""Images of generators by setting, beside the printed values of Kawar, Ganz & Elad (TMLR 2023).

Their numbers are in Inception's features and ours in those of our own encoder, so they stand beside
each other and are never compared.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from contrastdp.errors import InputError
from contrastdp.evidence.statistics import mean_interval
from contrastdp.frames import as_rows, as_table, number, read_table, text, whole
from contrastdp.report import markup
from contrastdp.report.measures import read_measure

# the parts of the table, and the printed tables that have the same rows
PANELS = {"quality": ("1",), "scales": ("5", "6"), "threats": ("4",), "denoiser_steps": ("3",)}
METHODS = ("unguided", "vanilla classifier", "robust classifier")
SURVEY = "2"  # the printed table of what people prefer; its panel here is 'survey'
# our metric -> the printed one
METRICS = {"frechet": "fid", "frechet_debiased": None, "precision": "precision", "recall": "recall"}
REPORTED = text("table", "dataset", "method", "setting", "metric") | number("value")
REPORTED |= text("not_run")
RUNS = (
    text("dataset", "panel", "method", "setting", "generator", "title")
    | whole("real", "seed", "n", "n_heldout", "neighbours", "features")
    | number(*METRICS)
)
COLUMNS = (
    text("panel", "dataset", "method", "setting", "title", "metric")
    | number("mean", "low", "high")
    | whole("seeds", "n")
    | number("paper")
    | text("paper_table", "paper_dataset", "compared")
)
ROW = ("panel", "dataset", "method", "setting", "title")
Row = Mapping[str, Any]


def read_reported(path: str) -> pd.DataFrame:
    """The printed values, in REPORTED."""
    return read_table(path, REPORTED)


# ---------------------------------------------------------------- runs
def measured_runs(rows: Sequence[Row], paths: Iterable[str]) -> pd.DataFrame:
    """One row a row of measured.tsv and seed, in RUNS.

    rows: of measured.tsv with their titles; paths: files of measure_samples. Raises InputError for
    a file that is damaged, given twice or missing.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for path in paths:
        content = read_measure(path)
        key = tuple(content[name] for name in ("dataset", "generator", "real", "seed"))
        if key in found:
            raise InputError(f"{path}: measures {_told(key)} a second time; give each file once")
        found[key] = content
    runs = []
    for row in rows:
        for seed in range(row["seeds"]):
            key = row["dataset"], row["generator"], row["real"], seed
            if key not in found:
                raise InputError(f"measures of {_told(key)} are missing; run measure_generator")
            runs.append(_run(row, seed, found[key]))
    return as_table(runs, RUNS)


def _told(key: tuple[Any, ...]) -> str:
    return "{1} ({0}, {2} real images, seed {3})".format(*key)


def _run(row: Row, seed: int, content: Row) -> dict[str, Any]:
    made = content["rows"]["synthetic"]
    named = {name: row[name] for name in ("dataset", "panel", "method", "setting", "generator")}
    named |= {"title": row["title"], "real": row["real"], "seed": seed, "n": made["n"]}
    named |= {name: content[name] for name in ("n_heldout", "features")}
    return named | {name: made[name] for name in METRICS} | _neighbours(content)


def _neighbours(content: Row) -> dict[str, int]:
    return {"neighbours": content["settings"]["neighbours"]}


def printed_runs(reported: pd.DataFrame) -> pd.DataFrame:
    """The printed values as if they were runs of one seed, in RUNS."""
    found = []
    for panel, printed in PANELS.items():
        rows = reported[reported["table"].isin(printed)]
        own = ["dataset", "method", "setting"]
        for key, values in rows.fillna({"setting": ""}).groupby(own, sort=False):
            given = dict(zip(values["metric"], values["value"], strict=True))
            named = dict(zip(own, key, strict=True)) | {"panel": panel, "seed": 0}
            found.append(named | {ours: given.get(theirs) for ours, theirs in METRICS.items()})
    return as_table(({**row, "setting": row["setting"] or None} for row in found), RUNS)


# ---------------------------------------------------------------- the table
def measured_table(runs: pd.DataFrame, reported: pd.DataFrame) -> pd.DataFrame:
    """A row a row of measured.tsv and metric, then what is printed and not run, in COLUMNS."""
    printed = as_rows(reported)
    rows = []
    for key, group in runs.fillna({"setting": ""}).groupby(list(ROW), sort=False):
        named = dict(zip(ROW, key, strict=True))
        named["setting"] = named["setting"] or None
        counts = {"seeds": len(group), "n": group["n"].iloc[0]}
        if group["n"].nunique() > 1:
            raise InputError(
                f"{named['title']}: seeds measured on {group['n'].min()} and {group['n'].max()} "
                "images; measure them alike"
            )
        for metric in METRICS:
            seen = mean_interval(list(group[metric]))
            own = {"metric": metric, "mean": seen.mean, "low": seen.low, "high": seen.high}
            rows.append(named | counts | own | _beside(named, metric, printed))
    order = {panel: place for place, panel in enumerate(PANELS)}
    rows.sort(key=lambda row: order[row["panel"]])
    return as_table([*rows, *_not_run(printed)], COLUMNS)


def _beside(named: Row, metric: str, printed: Sequence[Row]) -> dict[str, Any]:
    """The printed value of the same method and setting: of this data set, or else of another."""
    wanted = {"method": named["method"], "setting": named["setting"], "metric": METRICS[metric]}
    alike = [
        row
        for row in printed
        if row["table"] in PANELS[named["panel"]] and wanted.items() <= row.items()
    ]
    if not alike:
        return {"compared": None}
    own = [row for row in alike if row["dataset"] == named["dataset"]]
    row = (own or alike)[0]
    why = "features differ" if own else "data set and features differ"
    shown = {"paper": row["value"], "paper_table": row["table"], "paper_dataset": row["dataset"]}
    return shown | {"compared": f"not comparable: {why}"}


def _not_run(printed: Sequence[Row]) -> list[dict[str, Any]]:
    panel_of = {table: panel for panel, tables in PANELS.items() for table in tables}
    sums: dict[str, float] = {}
    for row in printed:
        if row["table"] == SURVEY:
            sums[row["setting"]] = sums.get(row["setting"], 0.0) + row["value"]
    found = []
    for row in printed:
        if row["not_run"] is None:
            continue
        why = f"not run: {row['not_run']}"
        if row["table"] == SURVEY and abs(sums[row["setting"]] - 100) > 0.05:
            why += f"; the printed row sums to {sums[row['setting']]:g}%"
        shown = {name: row[name] for name in ("dataset", "method", "setting", "metric")}
        shown |= {"panel": panel_of.get(row["table"], "survey"), "compared": why}
        shown |= {"paper": row["value"], "paper_table": row["table"]}
        found.append(shown | {"paper_dataset": row["dataset"]})
    return found


# ---------------------------------------------------------------- for people
SHOWN = {
    "Fréchet distance": ("frechet", "{:.2f}"),
    "debiased": ("frechet_debiased", "{:.2f}"),
    "Precision": ("precision", "{:.3f}"),
    "Recall": ("recall", "{:.3f}"),
}


def caption(runs: pd.DataFrame) -> str:
    """What the numbers are."""

    def of(name: str) -> str:
        return " or ".join(map(str, sorted(runs[name].dropna().unique())))

    sentences = (
        "Mean over seeds with its 95% t interval; a seed has a training subset, networks and "
        "noise of its own.",
        f"All images are held against {of('n_heldout')} test images, by which nothing was chosen, "
        f"in the {of('features')} features of our own encoder.",
        "The Fréchet distance is of Gaussians fitted to these features, and no FID, which is "
        f"Inception's; precision and recall take the nearest {of('neighbours')} neighbours.",
        "Rows of the same n compare. Debiased: the jackknife's estimate without the part that n "
        "makes.",
        "Paper: the printed value of the same method and setting. It is of Inception's features, "
        "and mostly of another data set, so it is not comparable.",
    )
    return " ".join(sentences)


def markdown_table(table: pd.DataFrame, text: str) -> str:
    """The table as GitHub Markdown, its caption above; what is not run stands in a second one."""
    ours, printed = table[table["seeds"].notna()], table[table["seeds"].isna()]
    rows = []
    for key, group in ours.fillna({"setting": ""}).groupby(list(ROW), sort=False):
        named = dict(zip(ROW, key, strict=True))
        of = group.set_index("metric")
        row = {"Panel": named["panel"], "Data": named["dataset"], "Method": named["method"]}
        row |= {"Setting": named["setting"] or markup.NONE, "Generator": named["title"]}
        row |= {"n": str(of["n"].iloc[0]), "Seeds": str(of["seeds"].iloc[0])}
        for title, (metric, form) in SHOWN.items():
            one = of.loc[[metric]]
            cell = markup.shown(one["mean"], form) + markup.interval(one["low"], one["high"], form)
            row[title] = cell.iloc[0]
        row["Paper, not comparable"] = _printed(group)
        rows.append(row)
    parts = [text, "", markup.markdown(pd.DataFrame(rows), ["n", "Seeds"])]
    if len(printed):
        parts += ["Printed, and not run:", "", markup.markdown(_listed(printed), ["Value"])]
    return "\n".join(parts)


def _printed(group: pd.DataFrame) -> str:
    given = group[group["paper"].notna()]
    said = [
        f"{METRICS[row['metric']]} {row['paper']:g} ({row['paper_dataset']})"
        for row in as_rows(given)
    ]
    return ", ".join(said) or markup.NONE


def _listed(printed: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Table": printed["paper_table"],
            "Data": printed["paper_dataset"],
            "Method": printed["method"],
            "Setting": printed["setting"],
            "Metric": printed["metric"],
            "Value": printed["paper"].map("{:g}".format),
            "Why": printed["compared"],
        }
    )
