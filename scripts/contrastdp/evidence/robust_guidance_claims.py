"""Tests that decide the claims on robust-classifier guidance (Kawar, Ganz & Elad, TMLR 2023).

Evidence of each is one entry: `measured`, the runs of make_measured_table, or `gradients`, those of
make_gradients_table. All differences are paired by seed. Of several data sets each must bear the
claim out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from contrastdp.evidence.claims import (
    NOT_RUN,
    Contrast,
    Verdict,
    claim_test,
    entered_by,
    weakest,
)

SCALE = "s="  # how the setting of a row of the panel `scales` begins


@claim_test
def changes_with_scale(
    evidence: Mapping[str, Any],
    *,
    measure: str,
    methods: Sequence[str],
    rises: bool,
    threshold: float,
    level: float,
) -> Verdict:
    """Whether a measure rises (or falls) with the guidance scale s, of each of `methods`.

    A seed gives the slope of the measure over the rank of s, times the number of ranks less one:
    the change from the smallest s to the largest that a line through all of them shows. The sign is
    such that the claim says it is above `threshold`.
    """
    found = []
    for dataset, method, values in _scales(evidence["measured"], measure, methods):
        centred = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
        change = values.to_numpy() @ centred / (centred @ centred) * (values.shape[1] - 1)
        named = f"{method} on {dataset}, {_told(values.columns)}"
        found.append(Contrast(named, list(change if rises else -change)))
    word = "rise" if rises else "fall"
    unit = f"{measure}, smallest {word} from the least s to the largest"
    return _decided(found, unit, threshold, level, f"{' and '.join(methods)} at two scales s")


@claim_test
def better_at_best_scale(
    evidence: Mapping[str, Any],
    *,
    measure: str,
    ours: str,
    rival: str,
    threshold: float,
    level: float,
) -> Verdict:
    """Whether a method has the smaller measure than its rival, each at its best s above 0.

    Best is the s with the least mean over all other seeds, chosen anew for each seed (leave one
    out), so that no seed is compared on the choice that it made itself. One seed alone, as a
    printed table is, chooses and compares.
    """
    found = []
    methods = {(d, m): v for d, m, v in _scales(evidence["measured"], measure, [ours, rival])}
    for dataset in dict.fromkeys(name for name, _ in methods):
        if {(dataset, ours), (dataset, rival)} <= methods.keys():
            one, other = (_at_best(methods[(dataset, method)]) for method in (ours, rival))
            shared = sorted(one.keys() & other.keys())
            named = f"{rival} less {ours} on {dataset}"
            found.append(Contrast(named, [other[seed] - one[seed] for seed in shared]))
    unit = f"{measure}, smallest difference"
    return _decided(found, unit, threshold, level, f"{ours} beside {rival} at scales s above 0")


@claim_test
def best_setting(
    evidence: Mapping[str, Any],
    *,
    measure: str,
    panel: str,
    method: str,
    setting: str,
    threshold: float,
    level: float,
) -> Verdict:
    """Whether one setting of a method has a smaller measure than each other one in its panel."""
    runs = evidence["measured"]
    runs = runs[(runs["panel"] == panel) & (runs["method"] == method) & runs[measure].notna()]
    found = []
    for dataset, group in runs.groupby("dataset", sort=False):
        values = group.pivot(index="seed", columns="setting", values=measure)
        for other in values.columns.drop(setting, errors="ignore") if setting in values else ():
            both = values[[setting, other]].dropna()
            if len(both):
                named = f"{other} on {dataset}"
                found.append(Contrast(named, list(both[other] - both[setting])))
    unit = f"{measure}, smallest difference to another setting"
    return _decided(found, unit, threshold, level, f"{method} at {setting} beside another setting")


@claim_test
def better_aligned(
    evidence: Mapping[str, Any], *, measure: str, threshold: float, level: float
) -> Verdict:
    """Whether the robust classifier's gradients have the larger measure, in the mean over bands."""
    runs = evidence["gradients"]
    runs = runs[runs["measure"] == measure]
    means = runs.groupby(["dataset", "seed"], sort=False)[["robust", "vanilla"]].mean()
    differences = means["robust"] - means["vanilla"]
    found = [
        Contrast(str(dataset), list(values))
        for dataset, values in differences.groupby(level="dataset", sort=False)
    ]
    unit = f"{measure}, smallest difference of robust and vanilla"
    return _decided(found, unit, threshold, level, f"gradients with {measure}")


# ---------------------------------------------------------------- runs
def _scales(
    runs: pd.DataFrame, measure: str, methods: Sequence[str]
) -> list[tuple[str, str, pd.DataFrame]]:
    """(data set, method, measure by seed and rising s) where two or more s were measured."""
    chosen = runs[(runs["panel"] == "scales") & runs["method"].isin(methods)]
    chosen = chosen[chosen[measure].notna()]
    chosen = chosen.assign(s=chosen["setting"].str.removeprefix(SCALE).astype(float))
    found = []
    for (dataset, method), group in chosen.groupby(["dataset", "method"], sort=False):
        values = group.pivot(index="seed", columns="s", values=measure).dropna()
        if values.shape[1] > 1 and len(values):
            found.append((str(dataset), str(method), values.sort_index(axis=1)))
    return found


def _at_best(values: pd.DataFrame) -> dict[Any, float]:
    """Seed -> the measure at the s above 0 that is best on all other seeds."""
    guided = values[[s for s in values.columns if s > 0]]
    found = {}
    for seed in guided.index:
        others = guided.drop(seed) if len(guided) > 1 else guided
        found[seed] = float(guided.loc[seed, others.mean().idxmin()])
    return found


def _decided(
    found: Sequence[Contrast], unit: str, threshold: float, level: float, wanted: str
) -> Verdict:
    if found:
        return weakest(found, unit=unit, threshold=threshold, level=level)
    nothing = math.nan
    return Verdict(nothing, nothing, nothing, unit, threshold, NOT_RUN, f"no {wanted}")


def _told(scales: Sequence[float]) -> str:
    return f"s = {', '.join(f'{s:g}' for s in scales)}"


TESTS = entered_by(__name__)
