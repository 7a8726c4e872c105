"""How large each generator's guidance is, beside what its images are worth: one row an arm.

Reads records and tables alone, never pixels or a model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contrastdp.data.images import read_records
from contrastdp.errors import InputError
from contrastdp.evidence.statistics import mean_interval
from contrastdp.registry import declared
from contrastdp.report.tables import read_typed

SETTINGS = (
    *("loss", "pairs", "head", "at", "encoder_input", "direction", "tau", "lambda"),
    *("window_low", "window_high", "clip", "clamp", "batch"),
)
RESULTS = (
    *("clean_mean", "robust_mean", "robust_low", "robust_high"),
    *("difference", "difference_low", "difference_high"),
)
COLUMNS = (
    *("arm", "title", "dataset", "generator", *SETTINGS, "seeds"),
    *("size_mean", "size_low", "size_high", "confidence", "rarest_class", *RESULTS),
)
TEXT = (
    *("arm", "title", "dataset", "generator"),
    *("loss", "pairs", "at", "encoder_input", "direction", "clamp"),
)


def measure_shards(paths: Sequence[str]) -> dict[str, float]:
    """Of one seed's labelled shards: mean guidance_size and confidence, share of the rarest class.

    The size is the norm of what was added to the predicted noise over that of the noise, a mean
    over guided steps and images. One shard's records are in memory at a time. Raises InputError
    where a shard has no guidance_size.
    """
    size = confidence = 0.0
    classes: dict[int, int] = {}
    for path in paths:
        records, _ = read_records(path)
        if "guidance_size" not in records:
            raise InputError(f"{path}: has no array 'guidance_size'; sample and label it again")
        size += float(records["guidance_size"].sum(dtype=np.float64))
        confidence += float(records["confidence"].sum(dtype=np.float64))
        for label, count in zip(*np.unique(records["label"], return_counts=True), strict=True):
            classes[int(label)] = classes.get(int(label), 0) + int(count)
    images = sum(classes.values())
    return {
        "size": size / images,
        "confidence": confidence / images,
        "rarest": min(classes.get(c, 0) for c in range(max(classes) + 1)) / images,
    }


def size_rows(
    arms: Sequence[Mapping[str, Any]],
    shards: Mapping[tuple[str, int], Sequence[str]],
    robustness: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """One row an arm with the keys of COLUMNS; what does not apply to an arm is None.

    arms: arm, title, dataset, generator, seeds (a list) and the settings of its guidance; shards:
    labelled shards by (arm, seed); robustness: rows of the arms' robustness table. Means over
    seeds, with 95% t intervals; percent of images, and percentage points of accuracy. Raises
    InputError for an arm that the robustness table lacks.
    """
    known = {row["arm"]: row for row in robustness}
    rows = []
    for arm in arms:
        if arm["arm"] not in known:
            raise InputError(f"arm {arm['arm']}: is in no row of the robustness table; add it")
        found = [measure_shards(shards[arm["arm"], seed]) for seed in arm["seeds"]]
        size = mean_interval([seed["size"] for seed in found])
        row = {name: arm.get(name) for name in COLUMNS} | {
            "seeds": len(found),
            "size_mean": size.mean,
            "size_low": size.low,
            "size_high": size.high,
            "confidence": mean_interval([seed["confidence"] for seed in found]).mean,
            "rarest_class": mean_interval([seed["rarest"] for seed in found]).mean,
        }
        row |= {name: known[arm["arm"]][name] for name in RESULTS}
        rows.append({key: _rounded(value) for key, value in row.items()})
    return rows


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def read_sizes(path: str | Path) -> list[dict[str, Any]]:
    """Read the CSV of make_guidance_table: numbers as float, an empty cell as None."""
    return read_typed(path, columns=COLUMNS, text=TEXT)


# ---------------------------------------------------------------- for people
def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown: caption, then variant, pairs, head, lambda, size, difference."""
    caption = (
        "Size: norm of what the guidance adds to the predicted noise over the norm of that noise, "
        "mean over guided steps and images [95% t interval over seeds]. lambda belongs to the "
        "guidance batch. Difference: robust accuracy against the reference, percentage points "
        "[95% t interval over paired seeds]."
    )
    header = ("Images", "Pairs", "Head", "lambda", "Batch", "Size", "Robust", "Difference")
    pairs = {name: entry.about["title"] for name, entry in declared("guidance", "PAIRS").items()}
    lines = [caption, "", "| " + " | ".join(header) + " |"]
    lines.append("| --- | --- " + "| ---: " * 6 + "|")
    for row in rows:
        contrastive = row["pairs"] is not None
        cells = (
            row["title"],
            pairs[row["pairs"]] if contrastive else "",
            ("" if not contrastive else str(row["head"] or "none")),
            "" if row["lambda"] is None else f"{row['lambda']:g}",
            "" if row["loss"] is None else str(row["batch"]),
            _interval(row, "size_mean", "size_low", "size_high", ".3f"),
            f"{row['robust_mean']:.2f}",
            _interval(row, "difference", "difference_low", "difference_high", "+.2f"),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _interval(row: Mapping[str, Any], mean: str, low: str, high: str, form: str) -> str:
    if row[mean] is None:
        return ""
    if row[low] is None:
        return f"{row[mean]:{form}}"
    return f"{row[mean]:{form}} [{row[low]:{form}}, {row[high]:{form}}]"
