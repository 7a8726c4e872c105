"""The paper's tables beside ours: cells, comparisons with baselines, and a verdict on each."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from contrastdp.errors import InputError
from contrastdp.evidence import comparisons, memorisation
from contrastdp.evidence.claims import INCONCLUSIVE, decide
from contrastdp.evidence.statistics import (
    Estimate,
    mean_interval,
    paired_difference,
    wilson_interval,
)
from contrastdp.frames import as_rows, as_table, given, number, read_table, text, whole
from contrastdp.report import markup, tables
from contrastdp.report.tables import MEASURES, percent, rounded

REPORTED_COLUMNS = (
    text("id", "table", "dataset", "arm", "synthetic")
    | number("clean_pct", "clean_std", "robust_pct", "robust_std")
    | text("text_version", "note")
)
ROW_KEYS = (*tables.ARM_KEYS, "baseline", "reported")
NOT_RUN, OURS_ONLY, NOT_GIVEN, NOT_RECORDED = "not run", "ours only", "not given", "not recorded"
USED = text("data", "subset") | whole("train", "test") | text("network") | whole("parameters")
CELL_COLUMNS = (
    text("id", "method", "synthetic", "text_version")
    | number("paper_clean", "paper_clean_std", "paper_robust", "paper_robust_std")
    | text("arm", "title", "dataset", "generator", "selection", "trainer")
    | given("eps")
    | whole("real", "synthetic_used")
    | text("train_on")
    | whole("seeds", "n_test")
    | number(*(f"{kind}_{part}" for kind in MEASURES for part in ("mean", "std", "low", "high")))
    | tables.LAST
    | memorisation.COLUMNS
    | USED
    | text("clean_verdict", "robust_verdict")
)
COMPARISON_COLUMNS = (
    text("id", "baseline_id", "arm", "baseline", "title", "baseline_title", "measure")
    | number("paper_difference", "paper_std", "difference", "low", "high")
    | whole("pairs")
    | comparisons.COLUMNS
    | text("subset", "settings", "verdict")
)
COMPARED = ("arm", "baseline", "measure")
RUN_COLUMNS = (
    text("arm")
    | whole("seed")
    | text("dataset", "generator")
    | whole("real", "synthetic")
    | text("train_on", "selection", "trainer")
    | given("batch", "steps", "shift", "eps")
    | text("baseline")
    | number("clean", "robust")
    | whole("n_test")
    | number("last_clean", "last_robust")
    | text("printed", "data", "subset", "attack", "mixed_attacks")
)
Row = Mapping[str, Any]


# ---------------------------------------------------------------- what the paper prints
def read_reported(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read the paper's values by id: accuracies and their std in percent, None where not given.

    A row has the keys of REPORTED_COLUMNS, and `size`, its number of synthetic images. Raises
    InputError for other columns, an id that is repeated or not snake case, or a size such as 'x'.
    """
    found: dict[str, dict[str, Any]] = {}
    for line, row in enumerate(as_rows(read_table(path, REPORTED_COLUMNS)), 2):
        name = row["id"] or ""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise InputError(f"{path}, line {line}: id is '{name}', expected snake case")
        if name in found:
            raise InputError(f"{path}, line {line}: id {name} stands twice; give each row its own")
        size = images_of(row["synthetic"] or "")
        if size is None:
            raise InputError(
                f"{path}, line {line}: synthetic is '{row['synthetic']}', expected such as 0 or 50K"
            )
        found[name] = row | {"size": size}
    return found


def images_of(size: str) -> int | None:
    """The number that the paper prints as 0, 50K or 1M; None for any other text."""
    found = re.fullmatch(r"(\d+)([KM]?)", size)
    return int(found[1]) * {"": 1, "K": 1000, "M": 1000000}[found[2]] if found else None


def check_plan(rows: Sequence[Row], reported: Mapping[str, Row], layout: Sequence[str]) -> None:
    """Check the rows of a paper's table against what is reported; InputError in one line.

    Refused are: a layout with an unknown or repeated id, or with one method and size twice; an arm
    with an unknown id, an id of another data set, or one that another arm has; and a baseline that
    is no other arm of the table with the same data set and eps, or has another positive number of
    synthetic images.
    """
    places: dict[tuple[str, int, str], str] = {}
    for name in layout:
        if name not in reported:
            raise InputError(f"layout: no reported row has the id '{name}'; correct it")
        row = reported[name]
        place = row["arm"], row["size"], row["text_version"]
        if place in places:
            raise InputError(f"layout: ids {places[place]} and {name} are one cell; lay out one")
        places[place] = name
    by_name = {row.get("arm"): row for row in rows}
    owner: dict[str, str] = {}
    for row in rows:
        arm = row.get("arm", "?")
        missing = [key for key in ROW_KEYS if key not in row]
        if missing:
            raise InputError(f"arm {arm}: lacks '{missing[0]}'; see arms.tsv")
        for name in row["reported"]:
            if name not in reported:
                raise InputError(f"arm {arm}: no reported row has the id '{name}'; correct it")
            if reported[name]["dataset"] != row["dataset"]:
                raise InputError(
                    f"arm {arm}: is of {row['dataset']} but the reported row {name} of "
                    f"{reported[name]['dataset']}; correct one"
                )
            if name in owner:
                raise InputError(
                    f"arms {owner[name]} and {arm}: both have the reported row {name}; choose one"
                )
            owner[name] = arm
        if row["baseline"] is not None:
            _check_baseline(row, by_name)


def _check_baseline(row: Row, by_name: Mapping[Any, Row]) -> None:
    base = by_name.get(row["baseline"])
    if base is None or base is row or tables.group(base) != tables.group(row):
        raise InputError(
            f"arm {row['arm']}: its baseline {row['baseline']} is no other arm of this table with "
            "its data set and eps; add it to the table or name another"
        )
    if base["synthetic"] not in (0, row["synthetic"]):
        raise InputError(
            f"arm {row['arm']}: has {row['synthetic']} synthetic images but its baseline "
            f"{row['baseline']} {base['synthetic']}; compare equal numbers, or with none"
        )


# ---------------------------------------------------------------- what was run
def accuracy_interval(values: Sequence[float], n_test: int) -> tuple[Estimate, float, float]:
    """Mean over seeds with the 95% interval that counts both seeds and test images.

    values: accuracies in percent, one a seed; n_test: test images. On each side the half widths of
    the t interval over seeds and of Wilson's interval over images are added in quadrature; one
    seed leaves Wilson's alone. Returns the estimate over seeds, and low and high in percent.
    """
    over_seeds = mean_interval(values)
    mean = over_seeds.mean
    low, high = wilson_interval(min(max(mean / 100, 0.0), 1.0), n_test)
    half = 0.0 if over_seeds.low is None else mean - over_seeds.low
    below, above = math.hypot(mean - 100 * low, half), math.hypot(100 * high - mean, half)
    return over_seeds, max(0.0, mean - below), min(100.0, mean + above)


def used(evaluations: tables.Evaluations, row: Row) -> dict[str, Any]:
    """The data and the network behind an arm's evaluations, with the keys of USED.

    data: title; subset: 'yes', 'no', or 'not recorded'; train, test: images of the splits; network:
    in words; parameters: their number. An evaluation may lack `data` and `network`; what they do
    not say is None, but for data (the data set's name), test (n_test) and network ('not
    recorded'). Raises InputError where the arm's seeds differ in them.
    """
    found = []
    for seed in row["seeds"]:
        content = evaluations[row["arm"], seed]
        data, network = content.get("data") or {}, dict(content.get("network") or {})
        parameters = network.pop("parameters", None)
        words = [str(network.pop("architecture", NOT_RECORDED))]
        words += [f"{key} {value}" for key, value in network.items()]
        subset = data.get("subset")
        found.append(
            {
                "data": data.get("title", row["dataset"]),
                "subset": NOT_RECORDED if subset is None else "yes" if subset else "no",
                "train": data.get("train"),
                "test": data.get("test", content["n_test"]),
                "network": ", ".join(words),
                "parameters": parameters,
            }
        )
        for key in USED:
            if found[-1][key] != found[0][key]:
                raise InputError(
                    f"arm {row['arm']}, seed {seed}: {key} is {found[-1][key]!r} but "
                    f"{found[0][key]!r} for seed {row['seeds'][0]}; run one of them again"
                )
    return found[0]


def run_table(
    evaluations: tables.Evaluations,
    rows: Sequence[Row],
    reported: Mapping[str, Row] | None = None,
    *,
    mixed_attacks: Collection[str] = (),
) -> pd.DataFrame:
    """One row an arm and seed in RUN_COLUMNS, accuracies in percent.

    last_clean, last_robust: of the last checkpoint, empty where it was not attacked.
    printed: the number of synthetic images that the paper prints for the arm, such as 50K, which a
    reduced arm stands for; empty without `reported` rows of the arm. attack: tables.attack_name;
    mixed_attacks: 'yes' for the data sets of that argument, whose attacks may differ, else empty.
    """
    found = [
        {key: row.get(key) for key in RUN_COLUMNS}
        | {
            "seed": seed,
            "eps": content["attack"].get("eps"),
            "clean": round(100 * content["clean_accuracy"], 4),
            "robust": round(100 * content["robust_accuracy"], 4),
            "n_test": content["n_test"],
            **{
                f"last_{kind}": round(100 * content["last"][f"{kind}_accuracy"], 4)
                for kind in (MEASURES if "last" in content else ())
            },
            "printed": _printed_size(row, reported or {}),
            "attack": tables.attack_name(content["attack"]),
            "mixed_attacks": "yes" if row["dataset"] in mixed_attacks else None,
        }
        | {key: about[key] for key in ("data", "subset")}
        for row in rows
        for about in [used(evaluations, row)]
        for seed in row["seeds"]
        for content in [evaluations[row["arm"], seed]]
    ]
    return as_table(found, RUN_COLUMNS)


def _printed_size(row: Row, reported: Mapping[str, Row]) -> str | None:
    sizes = [reported[name]["synthetic"] for name in row.get("reported", ()) if name in reported]
    return sizes[0] if sizes else None


# ---------------------------------------------------------------- cells and their verdicts
def cell_table(
    evaluations: tables.Evaluations,
    rows: Sequence[Row],
    reported: Mapping[str, Row],
    layout: Sequence[str],
    *,
    comparable: bool,
    nearest: memorisation.Nearest | None = None,
    mixed_attacks: Collection[str] = (),
) -> pd.DataFrame:
    """One row a reported cell, in the order of `layout`, then one for each arm without a cell.

    rows: arms with the keys of ROW_KEYS, and perhaps eps and train_on; comparable: whether this
    scale's settings are the paper's. Columns are CELL_COLUMNS: accuracies in percent,
    low and high of accuracy_interval. A verdict is absolute: 'agrees' where the paper's value lies
    in the interval, else 'differs by x points' (ours minus the paper's), and 'not comparable' with
    the reason where data or settings are not the paper's. A cell without arm is 'not run', an arm
    without cell 'ours only'.
    """
    tables.check_evaluations(evaluations, rows, mixed_attacks)
    check_plan(rows, reported, layout)
    owner = {name: row for row in rows for name in row["reported"]}
    shown = {owner[name]["arm"] for name in layout if name in owner}
    pairs: list[tuple[Row | None, Row | None]] = [
        (reported[name], owner.get(name)) for name in layout
    ]
    pairs += [(None, row) for row in rows if row["arm"] not in shown]
    cells = (_cell(evaluations, paper, row, comparable, nearest or {}) for paper, row in pairs)
    return as_table(cells, CELL_COLUMNS)


def _cell(
    evaluations: tables.Evaluations,
    paper: Row | None,
    row: Row | None,
    comparable: bool,
    nearest: memorisation.Nearest,
) -> dict[str, Any]:
    cell: dict[str, Any] = {}
    if paper is not None:
        cell |= {key: paper[key] for key in ("id", "synthetic", "text_version", "dataset")}
        cell["method"] = paper["arm"]
        for kind in MEASURES:
            cell[f"paper_{kind}"] = paper[f"{kind}_pct"]
            cell[f"paper_{kind}_std"] = paper[f"{kind}_std"]
    if row is None:
        return cell | {f"{kind}_verdict": NOT_RUN for kind in MEASURES}

    contents = [evaluations[row["arm"], seed] for seed in row["seeds"]]
    n_test = contents[0]["n_test"]
    kept = ("arm", "title", "dataset", "generator", "selection", "trainer", "real")
    cell |= {key: row[key] for key in kept} | used(evaluations, row)
    cell |= {"synthetic_used": row["synthetic"], "train_on": row.get("train_on")}
    cell |= {"eps": contents[0]["attack"].get("eps"), "seeds": len(contents), "n_test": n_test}
    reasons = [] if paper is None else _reductions(cell, paper, comparable)
    beside = tables.last_means(evaluations, row) | memorisation.nearest_cells(nearest, row)
    cell |= {key: rounded(value) for key, value in beside.items()}
    for kind in MEASURES:
        values = percent(evaluations, row, kind).values()
        ours, low, high = accuracy_interval(list(values), n_test)
        numbers = tables.parts(ours) | {"low": low, "high": high}
        cell |= {f"{kind}_{key}": rounded(value) for key, value in numbers.items()}
        cell[f"{kind}_verdict"] = (
            OURS_ONLY if paper is None else _absolute(cell, kind, reasons, len(contents))
        )
    return cell


def _reductions(cell: Row, paper: Row, comparable: bool) -> list[str]:
    reasons = []
    if cell["subset"] == "yes":
        reasons.append("a subset of the data")
    if not comparable:
        reasons.append("settings that are not the paper's")
    if cell["synthetic_used"] != paper["size"]:
        reasons.append(f"{cell['synthetic_used']:,} synthetic images for {paper['size']:,}")
    return reasons


def _absolute(cell: Row, kind: str, reasons: Sequence[str], seeds: int) -> str:
    paper = cell[f"paper_{kind}"]
    if paper is None:
        return f"{NOT_GIVEN} in the paper's text"
    if reasons:
        return f"not comparable (reduced: {', '.join(reasons)})"
    if cell[f"{kind}_low"] <= paper <= cell[f"{kind}_high"]:
        verdict = "agrees"
    else:
        verdict = f"differs by {markup.signed(cell[f'{kind}_mean'] - paper, '{:+.1f}')} points"
    return verdict + (", one seed" if seeds == 1 else "")


# ---------------------------------------------------------------- comparisons with baselines
def comparison_table(
    evaluations: tables.Evaluations,
    rows: Sequence[Row],
    reported: Mapping[str, Row],
    layout: Sequence[str],
    *,
    comparable: bool,
    outcomes: comparisons.Outcomes | None = None,
    mixed_attacks: Collection[str] = (),
) -> pd.DataFrame:
    """Each arm against its baseline, clean and robust: the paper's difference, ours, a verdict.

    The paper's difference is taken between the arm's row and the baseline's of the same printed
    table, text version and size (or without synthetic images); its std is that of independent
    rows, where both print one. Ours is paired over seeds with a 95% t interval, in points. The
    verdict is about the sign: reproduced where the interval lies on the paper's side of 0, not
    reproduced on the other, inconclusive otherwise, with fewer than two pairs, without width, or
    where the paper finds no difference. Without a difference in the paper: 'ours only' and what
    ours is. Beside it stand the exact tests over seeds, adjusted for all of the table's pairs of
    arms and both measures, and McNemar's where outcomes has the images. Columns are
    COMPARISON_COLUMNS.
    """
    tables.check_evaluations(evaluations, rows, mixed_attacks)
    check_plan(rows, reported, layout)
    by_name = {row["arm"]: row for row in rows}
    found = []
    for row in rows:
        if row["baseline"] is None:
            continue
        base = by_name[row["baseline"]]
        printed: list[str | None] = [name for name in layout if name in row["reported"]]
        tested = {
            kind: comparisons.compare(row, base, kind, evaluations, outcomes or {})
            for kind in MEASURES
        }
        for name in printed or [None]:
            twin = _twin(name, base, reported)
            for kind in MEASURES:
                paper, spread = _paper_difference(reported, name, twin, kind)
                ours = paired_difference(
                    percent(evaluations, row, kind), percent(evaluations, base, kind)
                )
                found.append(
                    {
                        "id": name,
                        "baseline_id": twin,
                        "arm": row["arm"],
                        "baseline": base["arm"],
                        "title": row["title"],
                        "baseline_title": base["title"],
                        "measure": kind,
                        "paper_difference": rounded(paper),
                        "paper_std": rounded(spread),
                        "difference": rounded(ours.mean if ours else None),
                        "low": rounded(ours.low if ours else None),
                        "high": rounded(ours.high if ours else None),
                        "pairs": ours.count if ours else 0,
                        "subset": used(evaluations, row)["subset"],
                        "settings": "the paper's" if comparable else "reduced",
                        "verdict": _relative(paper, ours),
                    }
                    | tested[kind]
                )
    return comparisons.adjusted(as_table(found, COMPARISON_COLUMNS), COMPARED)


def _twin(name: str | None, base: Row, reported: Mapping[str, Row]) -> str | None:
    """The baseline's reported row in the same printed table, or None."""
    if name is None:
        return None
    row = reported[name]
    alike = [
        other
        for other in base["reported"]
        if all(reported[other][key] == row[key] for key in ("table", "text_version"))
        and reported[other]["size"] in (row["size"], 0)
    ]
    # A baseline without synthetic images has one row, a twin one of each size.
    return alike[0] if alike else None


def _paper_difference(
    reported: Mapping[str, Row], name: str | None, twin: str | None, kind: str
) -> tuple[float | None, float | None]:
    if name is None or twin is None:
        return None, None
    pair = [reported[one] for one in (name, twin)]
    values, spreads = ([row[f"{kind}_{part}"] for row in pair] for part in ("pct", "std"))
    if None in values:
        return None, None
    return values[0] - values[1], None if None in spreads else math.hypot(*spreads)


def _relative(paper: float | None, ours: Estimate | None) -> str:
    low, high = (None, None) if ours is None else (ours.low, ours.high)
    # Differences that are alike in every seed are luck, not certainty.
    if low is None or high is None or high - low < 1e-9:
        return INCONCLUSIVE if paper is not None else f"{OURS_ONLY}: {INCONCLUSIVE}"
    if paper is not None:
        sign = round(paper, 6)
        return decide(low, high, 0.0, above=sign > 0) if sign else INCONCLUSIVE
    found = INCONCLUSIVE if low <= 0 <= high else "higher" if low > 0 else "lower"
    return f"{OURS_ONLY}: {found}"
