"""How large each generator's guidance is, beside what its images are worth: one row an arm.

Reads records and tables alone, never pixels or a model.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from contrastdp.data.images import read_records
from contrastdp.errors import InputError
from contrastdp.evidence.statistics import mean_interval
from contrastdp.frames import as_table, given, number, text, whole
from contrastdp.registry import declared
from contrastdp.report import markup

SETTINGS = (
    *("loss", "pairs", "head", "at", "encoder_input", "direction", "tau", "lambda"),
    *("window_low", "window_high", "clip", "clamp", "batch"),
)
RESULTS = (
    *("clean_mean", "robust_mean", "robust_low", "robust_high"),
    *("difference", "difference_low", "difference_high"),
)
COLUMNS = (
    text("arm", "title", "dataset", "generator")
    | given(*SETTINGS)
    | whole("seeds")
    | number("size_mean", "size_low", "size_high", "confidence", "rarest_class", *RESULTS)
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


def size_table(
    arms: Sequence[Mapping[str, Any]],
    shards: Mapping[tuple[str, int], Sequence[str]],
    robustness: pd.DataFrame,
) -> pd.DataFrame:
    """One row an arm in COLUMNS; what does not apply to an arm is empty.

    arms: arm, title, dataset, generator, seeds (a list) and the settings of its guidance; shards:
    labelled shards by (arm, seed); robustness: a robustness table with these arms. Means over
    seeds, with 95% t intervals; percent of images, and percentage points of accuracy. Raises
    InputError for an arm that the robustness table lacks.
    """
    known = robustness.set_index("arm")[list(RESULTS)]
    rows = []
    for arm in arms:
        if arm["arm"] not in known.index:
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
        row |= known.loc[arm["arm"]]
        rows.append({key: _rounded(value) for key, value in row.items()})
    return as_table(rows, COLUMNS)


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


# ---------------------------------------------------------------- for people
def markdown_table(table: pd.DataFrame) -> str:
    """The table as Markdown: caption, then variant, pairs, head, lambda, size, difference."""
    caption = (
        "Size: norm of what the guidance adds to the predicted noise over the norm of that noise, "
        "mean over guided steps and images [95% t interval over seeds]. lambda belongs to the "
        "guidance batch. Difference: robust accuracy against the reference, percentage points "
        "[95% t interval over paired seeds]."
    )
    pairs = {name: entry.about["title"] for name, entry in declared("guidance", "PAIRS").items()}
    head = table["head"].map(lambda size: str(size or "none"), na_action="ignore").astype("str")
    size = table["size_low"], table["size_high"], "{:.3f}"
    difference = table["difference_low"], table["difference_high"], "{:+.2f}"
    cells = {
        "Images": table["title"],
        "Pairs": table["pairs"].map(pairs),
        "Head": head.fillna("none").where(table["pairs"].notna()),
        "lambda": table["lambda"].map("{:g}".format, na_action="ignore"),
        "Batch": table["batch"].where(table["loss"].notna()),
        "Size": markup.shown(table["size_mean"], "{:.3f}") + markup.interval(*size),
        "Robust": markup.shown(table["robust_mean"], "{:.2f}"),
        "Difference": markup.shown(table["difference"], "{:+.2f}") + markup.interval(*difference),
    }
    shown = pd.DataFrame(cells).astype("str").fillna("")
    return f"{caption}\n\n" + markup.markdown(shown, list(shown)[2:])
