"""The table of the false-robustness audit: one row an arm and seed, each measure, and a verdict."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from contrastdp.errors import InputError
from contrastdp.evidence.outcomes import difference
from contrastdp.evidence.statistics import wilson_interval
from contrastdp.files import check_numbers, read_json
from contrastdp.frames import as_table, given, number, text, whole
from contrastdp.report import markup

KEYS = ("dataset", "arm", "seed", "other", "attack", "n", "images")
FLAGS = ("clean", "at_zero", "zero_gradient", "saturated", "apgd_ce", "apgd_dlr", "square")
OWN = ("eps",)  # settings that audits of one table may differ in, each shown in its row
# Share of images above which the whole interval must lie for a sign: one or two images of a
# hundred are what single runs of short attacks differ by.
TOLERATED = 0.02
ALIKE = 0.5  # of the images that one of two attacks broke alone, each's share where they are alike
SHARES = ("clean", "apgd_ce", "apgd_dlr", "square", "transfer", "largest_eps")
SIGNS = ("zero_gradient", "square_of_left")
INTERVALS = (*SIGNS, *SHARES)
COUNTS = (
    *("changed_at_zero", "square_alone", "apgd_ce_alone", "left"),
    *("transfer_alone", "own_alone", "rises"),
)
COLUMNS = (
    text("dataset", "arm", "title")
    | whole("seed")
    | text("other")
    | given("eps")
    | whole("n")
    | text("verdict")
    | number(*(f"{name}{end}" for name in INTERVALS for end in ("", "_low", "_high")))
    | number("saturated")
    | whole(*COUNTS)
    | text("by_eps")
)
NO_SIGN = "no sign of masking"
VERDICTS = {
    "at_zero": "differs at eps 0",
    "zero_gradient": "zero gradients",
    "square_of_left": "Square breaks what gradient attacks leave",
    "square": "Square beats APGD-CE",
    "by_eps": "accuracy rises with eps",
    "largest_eps": "accuracy left at the largest eps",
    "transfer": "transfer beats own attack",
}
Audits = Mapping[tuple[str, int], Mapping[str, Any]]


def read_audits(paths: Iterable[str]) -> dict[tuple[str, int], dict[str, Any]]:
    """Read files of audit_network, by (arm, seed).

    Raises InputError in one line for a file that lacks a key or a flag, for flags of another number
    than n, for a second file of one arm and seed, and for audits of one data set whose attacks
    differ by more than eps.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    first: dict[str, tuple[str, Any]] = {}
    for path in paths:
        content = read_json(path)
        _check(path, content)
        name = content["arm"], content["seed"]
        if name in found:
            raise InputError(
                f"{path}: arm {name[0]}, seed {name[1]}, was given twice; give it once"
            )
        alike = {key: value for key, value in content["attack"].items() if key not in OWN}
        alike["n"] = content["n"]
        other_path, other = first.setdefault(content["dataset"], (path, alike))
        if alike != other:
            how = difference("audit", alike, other)
            raise InputError(f"{path}: {how} in {other_path}; audit both alike")
        found[name] = content
    if not found:
        raise InputError("no audits given; name at least one")
    return found


def _check(path: str, content: Any) -> None:
    again = "delete it and run again"
    for key in KEYS:
        if not isinstance(content, dict) or key not in content:
            raise InputError(f"{path}: lacks '{key}'; {again}")
    check_numbers(path, content, ("seed", "n"))
    images, n = content["images"], content["n"]
    for name in (*FLAGS, "transfer", "by_eps"):
        if name not in images:
            raise InputError(f"{path}: images lacks '{name}'; {again}")
    listed = {name: images[name] for name in FLAGS}
    listed |= {f"by_eps {rung['eps']}": rung["right"] for rung in images["by_eps"]}
    if images["transfer"] is not None:
        listed["transfer"] = images["transfer"]
    for name, flags in listed.items():
        if len(flags) != n:
            raise InputError(f"{path}: images.{name} has {len(flags)} entries for {n}; {again}")


# ---------------------------------------------------------------- measures and verdict
def audit_row(content: Mapping[str, Any], title: str) -> dict[str, Any]:
    """One audit as a row with the keys of COLUMNS; shares in percent with 95% Wilson intervals.

    zero_gradient and saturated: of the images that are right unattacked; square_of_left: share that
    Square breaks of what APGD-CE and APGD-DLR both leave right; the accuracies: of all images.
    square_alone and apgd_ce_alone: images that one of the two breaks and the other does not, alike
    transfer_alone and own_alone (APGD-CE); rises: largest number of images by which accuracy at one
    eps exceeds that at a smaller one. None where it does not apply. verdict: signs says it.
    """
    images, n = content["images"], content["n"]
    clean, transfer = images["clean"], images["transfer"]
    own, by_eps = images["apgd_ce"], images["by_eps"]
    left = [a and b for a, b in zip(own, images["apgd_dlr"], strict=True)]
    counts = {name: (sum(images[name]), n) for name in ("clean", "apgd_ce", "apgd_dlr", "square")}
    counts["transfer"] = (sum(transfer), n) if transfer is not None else (0, 0)
    counts["largest_eps"] = (sum(by_eps[-1]["right"]), n)
    counts["zero_gradient"] = (_both(clean, images["zero_gradient"]), sum(clean))
    counts["square_of_left"] = (_only(left, images["square"]), sum(left))
    row: dict[str, Any] = {key: content[key] for key in ("dataset", "arm", "seed", "other", "n")}
    row |= {"title": title, "eps": content["attack"]["eps"]}
    for name, (count, total) in counts.items():
        row |= _share(name, count, total)
    row["saturated"] = _percent(_both(clean, images["saturated"]), sum(clean))
    row["changed_at_zero"] = sum(a != b for a, b in zip(clean, images["at_zero"], strict=True))
    row |= {"square_alone": _only(own, images["square"]), "left": sum(left)}
    row["apgd_ce_alone"] = _only(images["square"], own)
    row["transfer_alone"] = None if transfer is None else _only(own, transfer)
    row["own_alone"] = None if transfer is None else _only(transfer, own)
    rights = [sum(rung["right"]) for rung in by_eps]
    row["rises"] = max([0, *(after - before for before, after in pairwise(rights))])
    row["by_eps"] = "; ".join(
        f"{rung['eps']:.4g}: {100 * right / n:.1f}"
        for rung, right in zip(by_eps, rights, strict=True)
    )
    named = [VERDICTS[sign] for sign in signs(row, by_eps)]
    return row | {"verdict": "; ".join(named) or NO_SIGN}


def signs(row: Mapping[str, Any], by_eps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys of VERDICTS that a row shows.

    A share is a sign where its whole interval lies above TOLERATED; of two attacks one beats the
    other where the interval of its share of the images that one of them broke alone lies above
    ALIKE, and accuracy rises where the larger eps so leaves more; a single image is a sign where it
    changed at eps 0 or is left at the largest eps, 1, at which every image may become any other.
    """
    found = {name: (row[f"{name}_low"] or 0) > 100 * TOLERATED for name in SIGNS}
    found["at_zero"] = row["changed_at_zero"] > 0
    found["largest_eps"] = row["largest_eps"] > 0
    found["square"] = _beats(row["square_alone"], row["apgd_ce_alone"])
    found["transfer"] = _beats(row["transfer_alone"] or 0, row["own_alone"] or 0)
    rights = [rung["right"] for rung in by_eps]
    found["by_eps"] = any(
        _beats(_only(large, small), _only(small, large)) for small, large in pairwise(rights)
    )
    return [name for name in VERDICTS if found[name]]


def _beats(alone: int, other_alone: int) -> bool:
    both = alone + other_alone
    return both > 0 and wilson_interval(alone / both, both)[0] > ALIKE


def _both(one: Sequence[bool], other: Sequence[bool]) -> int:
    return sum(a and b for a, b in zip(one, other, strict=True))


def _only(one: Sequence[bool], other: Sequence[bool]) -> int:
    """Images with the first flag and not the second: of rights, those that the second broke."""
    return sum(a and not b for a, b in zip(one, other, strict=True))


def _share(name: str, count: int, total: int) -> dict[str, float | None]:
    low, high = wilson_interval(count / total, total) if total else (None, None)
    ends = {"": count / total if total else None, "_low": low, "_high": high}
    return {f"{name}{end}": None if v is None else round(100 * v, 2) for end, v in ends.items()}


def _percent(count: int, total: int) -> float | None:
    return round(100 * count / total, 2) if total else None


def audit_table(audits: Audits, titles: Mapping[str, str]) -> pd.DataFrame:
    """Rows of audit_row, arms in the order of `titles` (arm -> title), then seeds.

    Raises InputError for an arm without a title.
    """
    for arm, _ in audits:
        if arm not in titles:
            raise InputError(f"arm {arm}: has no title; add it to arms.tsv")
    order = {arm: place for place, arm in enumerate(titles)}
    names = sorted(audits, key=lambda name: (order[name[0]], name[1]))
    return as_table((audit_row(audits[name], titles[name[0]]) for name in names), COLUMNS)


# ---------------------------------------------------------------- for people
def caption(table: pd.DataFrame, audits: Audits) -> str:
    """What the audit did, at which budget, how its columns read, and how many rows show a sign."""
    shown = (table["verdict"] != NO_SIGN).sum()
    spent = next(iter(audits.values()))["attack"]
    n = " or ".join(map(str, sorted(table["n"].unique())))
    sentences = (
        f"{shown} of {len(table)} networks show a sign of masked gradients.",
        f"On the first {n} images of the validation split, in percent with 95% Wilson intervals; "
        f"AutoPGD with {spent['steps']} steps, Square with {spent['queries']} queries, one run "
        "each, so these are no robust accuracies.",
        "Zero gradient: share of right images without a gradient of the cross entropy. Saturated: "
        "with one that moves no probability in float32, no sign by itself.",
        "Square of left: share that Square breaks of what APGD-CE and APGD-DLR leave.",
        "In brackets: images that this attack breaks and APGD-CE does not / the reverse.",
        "By eps: accuracy under APGD-CE, which must fall, to 0 at eps 1.",
        "Transfer: images made on the other arm's network.",
        "At 0: images whose outcome differs between attacks of size 0 and plain evaluation.",
        f"A sign: Zero gradient or Square of left above {100 * TOLERATED:g} with the whole "
        "interval, an attack without own gradients ahead of APGD-CE by more than chance, accuracy "
        "that rises with eps by more than chance, or one image left at eps 1 or changed at 0. "
        "See docs/audit.md.",
    )
    return " ".join(sentences)


def markdown_table(table: pd.DataFrame, text: str) -> str:
    """The table as GitHub Markdown, its caption above; text: the caption."""
    titles = table.loc[table["seed"] == table["seed"].iloc[0], "title"]
    cells = {
        "Arm": table["title"].mask(table["title"].isin(titles[titles.duplicated()]), table["arm"]),
        "Seed": table["seed"],
        "Verdict": table["verdict"],
        "Clean": _share_text(table, "clean"),
        "At 0": table["changed_at_zero"],
        "Zero gradient": _share_text(table, "zero_gradient"),
        "Saturated": markup.shown(table["saturated"], "{:.1f}"),
        "APGD-CE": _share_text(table, "apgd_ce"),
        "APGD-DLR": _share_text(table, "apgd_dlr"),
        "Square": _share_text(table, "square") + _alone(table, "square_alone", "apgd_ce_alone"),
        "Square of left": _share_text(table, "square_of_left"),
        "Transfer": _share_text(table, "transfer") + _alone(table, "transfer_alone", "own_alone"),
        "From": table["other"],
        "By eps": table["by_eps"],
    }
    right = cells.keys() - {"Arm", "Verdict", "From", "By eps"}
    return f"{text}\n\n" + markup.markdown(pd.DataFrame(cells), right)


def _share_text(table: pd.DataFrame, name: str) -> pd.Series:
    bounds = table[f"{name}_low"], table[f"{name}_high"], "{:.1f}"
    return markup.shown(table[name], "{:.1f}") + markup.interval(*bounds)


def _alone(table: pd.DataFrame, one: str, other: str) -> pd.Series:
    """Images that one attack breaks alone, and the other."""
    return (" (" + table[one].astype("str") + " / " + table[other].astype("str") + ")").fillna("")
