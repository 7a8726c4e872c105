"""What a toy panel shows, in numbers: how far its classes lie apart, and ring or blob.

The points of one guidance batch are coupled, so measures are taken batch by batch and intervals
come from resampling whole batches.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from contrastdp.data.images import opened
from contrastdp.errors import InputError
from contrastdp.files import replacing
from contrastdp.frames import as_table, number, text, whole

# Coefficient of variation (deviation over mean) of the radius around the centre, in the plane.
GAUSSIAN_CV = float(np.sqrt(4 / np.pi - 1))  # 0.5227, a Gaussian blob (Rayleigh's distribution)
DISC_CV = float(np.sqrt(1 / 8))  # 0.3536, an evenly filled disc
MEASURES = ("separability", "between", "within", "variance", "radial_cv", "position", "smaller")
KEYS = ("reading", "panel", "start", "size")
SETTING = text("reading", "panel") | number("start", "size", "lambda", "realised")
COLUMNS = SETTING | whole("batch") | number(*MEASURES)
SUMMARY_COLUMNS = (
    SETTING
    | whole("batches")
    | number(*(f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")))
)


def measure(points: np.ndarray, label: np.ndarray, *, mu: Sequence[float]) -> dict[str, float]:
    """Measures of one batch of points in the plane.

    points: (m, 2); label: (m,) 0 (around -mu) or 1 (around mu); mu: (2,). Returns, each the mean of
    both classes where it belongs to a class:
    between: distance of the class means; within: root mean square distance to the own class mean;
    separability: between / within; variance: of a coordinate about the class mean (sigma^2 for the
    mixture); radial_cv: deviation over mean of the distance to the class mean (GAUSSIAN_CV for a
    blob, DISC_CV for a filled disc, 0 for a ring); position: half the difference of the class means
    along mu, in units of |mu| (1 for the mixture); smaller: share of the points that the smaller
    class holds. A class of fewer than 3 points is left out, and what needs both is then NaN.
    """
    direction = np.asarray(mu, float)
    groups = [np.asarray(points, float)[np.asarray(label) == c] for c in (0, 1)]
    smaller = min(map(len, groups)) / len(points)
    spreads, variation = [], []
    for group in groups:
        if len(group) >= 3:
            away = group - group.mean(axis=0)
            radius = np.linalg.norm(away, axis=1)
            spreads.append((away**2).sum() / (len(group) - 1))
            variation.append(radius.std(ddof=1) / radius.mean())
    within = float(np.sqrt(np.mean(spreads)))
    between = position = np.nan
    if len(spreads) == 2:
        difference = groups[1].mean(axis=0) - groups[0].mean(axis=0)
        between = float(np.linalg.norm(difference))
        position = float(difference @ direction / (2 * direction @ direction))
    return {
        "separability": between / within,
        "between": between,
        "within": within,
        "variance": within**2 / 2,
        "radial_cv": float(np.mean(variation)),
        "position": position,
        "smaller": smaller,
    }


def resampled_batches(batches: int, *, resamples: int, seed: int) -> np.ndarray:
    """Which batches each bootstrap draw holds: (resamples, batches) indices."""
    return np.random.default_rng(seed).integers(0, batches, (resamples, batches))


def interval(
    values: np.ndarray, *, level: float, resamples: int, seed: int
) -> tuple[float, float, float]:
    """Mean over batches and its bootstrap interval at `level`, NaN values left out."""
    kept = values[~np.isnan(values)]
    if not len(kept):
        return np.nan, np.nan, np.nan
    drawn = kept[resampled_batches(len(kept), resamples=resamples, seed=seed)].mean(axis=1)
    low, high = np.percentile(drawn, (50 * (1 - level), 100 - 50 * (1 - level)))
    return float(kept.mean()), float(low), float(high)


def summarise(table: pd.DataFrame, *, level: float, resamples: int, seed: int) -> pd.DataFrame:
    """One row a panel from one row a batch: each measure's mean with `_low` and `_high`."""
    summary = []
    for key, batches in table.groupby(list(KEYS), sort=False):
        line = dict(zip(KEYS, key, strict=True))
        line |= {"lambda": batches["lambda"].iloc[0], "batches": len(batches)}
        line["realised"] = batches["realised"].to_numpy().mean()
        for name in MEASURES:
            found = interval(batches[name].to_numpy(), level=level, resamples=resamples, seed=seed)
            line |= dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))
        summary.append(line)
    return as_table(summary, SUMMARY_COLUMNS)


# ---------------------------------------------------------------- files
def write_points(
    path: str | Path, panels: Iterable[tuple[Mapping[str, Any], np.ndarray, np.ndarray]]
) -> None:
    """Write panels as npz: per panel (its key, points (batches, m, 2), classes (batches, m))."""
    arrays: dict[str, Any] = {}
    for key, points, label in panels:
        arrays[f"{_name(**key)}/points"] = np.asarray(points, np.float32)
        arrays[f"{_name(**key)}/label"] = np.asarray(label, np.int64)
    with replacing(path) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, **arrays)


def read_points(path: str | Path, **key: Any) -> tuple[np.ndarray, np.ndarray]:
    """One panel's points (batches, m, 2) and classes (batches, m); key: reading, panel, ..."""
    points, label = (f"{_name(**key)}/{part}" for part in ("points", "label"))
    with opened(path) as file:
        if not {points, label} <= {*file.files}:
            raise InputError(f"{path}: has no panel {_name(**key)}; correct the settings")
        return file[points], file[label]


def _name(*, reading: str, panel: str, start: float, size: float) -> str:
    return f"{reading}/{panel}/{start:g}/{size:g}"


def of_panel(
    table: pd.DataFrame,
    measure: str,
    *,
    reading: str,
    panel: str,
    start: float,
    size: float,
) -> np.ndarray:
    """One measure of one panel by batch, (batches,), from a table in COLUMNS."""
    found = table.query(
        "reading == @reading and panel == @panel and start == @start and size == @size"
    )
    if found.empty:
        raise InputError(
            f"toy measures: no panel '{panel}' of reading '{reading}' with start {start:g} and "
            f"size {size:g}; correct the claim or the settings"
        )
    return found.sort_values("batch")[measure].to_numpy()
