"""Tests of the paper's claims in section 3: the Gaussian tables, the propositions, the toy."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from contrastdp.errors import InputError
from contrastdp.evidence.claims import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    REPRODUCED,
    Verdict,
    claim_test,
    decide,
    entered_by,
)
from contrastdp.theory import tables, toy_measures
from contrastdp.theory.toy_measures import GAUSSIAN_CV, of_panel, resampled_batches

EVIDENCE = {
    "cells": tables.CELLS,
    "reported": tables.PRINTED,
    "proposition": tables.PROPOSITION,
    "theorem": tables.THEOREM,
    "verdicts": tables.VERDICTS,
    "toy": toy_measures.COLUMNS,
}  # the columns of what the tests ask for, by its name


@claim_test
def larger_in_most_cells(
    evidence: Mapping[str, Any],
    *,
    variant: str,
    measure: str,
    pairs: Sequence[Sequence[str]],
    blocks: Sequence[str],
    threshold: float,
    level: float,
    resamples: int,
    seed: int,
) -> Verdict:
    """The share of cells in which one source beats another, at equal table, angle and n.

    evidence: cells (simulated) and reported (printed). measure: clean or robust;
    pairs: [winner, loser] sources; blocks: 'table/angle' names. The effect is the share in the
    cells' expected values (means over regenerations), its interval at `level` from `resamples`
    bootstrap draws of the regenerations. The words tell what single runs find, whose own test
    draws blur the comparison.
    """
    simulated = evidence["cells"].query("variant == @variant and regeneration > 0")
    found = _gains(simulated, measure, pairs, "regeneration")
    found = found[found.index.isin(blocks, level="block")]
    if found.empty:
        raise InputError(
            f"cells: none compares {list(pairs)} under '{variant}' in {', '.join(blocks)}; "
            "correct the claim's parameters"
        )
    table = found.unstack("regeneration")
    gains = table.to_numpy()  # (contests, regenerations)
    expected = gains.mean(axis=1) > 0
    effect = float(expected.mean())
    tails = (50 * (1 - level), 100 - 50 * (1 - level))
    repeats = gains.shape[1]
    draws = np.random.default_rng(seed).multinomial(
        repeats, np.full(repeats, 1 / repeats), resamples
    )
    low, high = np.percentile((gains @ draws.T > 0).mean(axis=0), tails)
    single = np.percentile((gains > 0).mean(axis=0), tails)
    short = {"clean": "clean", "robust": "rob"}[measure]
    paper = (_gains(evidence["reported"], short, pairs)[table.index] > 0).mean()
    lost = table[~expected].groupby("block").size()
    where = ", ".join(f"{block} ({count})" for block, count in lost.items())
    return Verdict(
        effect,
        float(low),
        float(high),
        "share of comparisons",
        threshold,
        decide(float(low), float(high), threshold, above=True),
        f"{len(table)} comparisons; single runs find {single[0]:.2f} to {single[1]:.2f}, the "
        f"printed tables {paper:.2f}; the other way, by table/angle: {where or 'none'}",
    )


def _gains(
    table: pd.DataFrame, measure: str, pairs: Sequence[Sequence[str]], *repeated: str
) -> pd.Series:
    """How much better the first source of each pair is than the second, by place and pair."""
    place = ["block", "n", *repeated]
    values = table.assign(block=table["table"] + "/" + table["angle"])[[*place, "source", measure]]
    both = values.merge(pd.DataFrame(pairs, columns=["source", "other"]), on="source")
    both = both.merge(values.rename(columns={"source": "other"}), on=[*place, "other"])
    gains = both[f"{measure}_x"] - both[f"{measure}_y"]
    return gains.set_axis(pd.MultiIndex.from_frame(both[[*place, "source", "other"]]))


@claim_test
def table_agrees(evidence: Mapping[str, Any], *, variant: str, table: str) -> Verdict:
    """Whether a printed table is what a variant of the simulation gives.

    evidence: verdicts. The effect is the printed table's mean
    absolute difference from the expected values, in points; the interval is the variant's own over
    its repetitions. Reproduced where the table's verdict is so without exception; inconclusive
    where single cells lie outside.
    """
    rows = evidence["verdicts"].query("table == @table and variant == @variant")
    if rows.empty:
        raise InputError(
            f"verdicts: no row for table {table}, variant {variant}; correct the claim"
        )
    row = rows.iloc[0]
    known = {REPRODUCED: REPRODUCED, NOT_REPRODUCED: NOT_REPRODUCED}
    return Verdict(
        row["points"],
        row["points_low"],
        row["points_high"],
        "points (interval: the setting's own repetitions)",
        row["points_high"],
        known.get(row["verdict"], INCONCLUSIVE),
        f"{row['verdict']}; {row['within_2se']:.0%} of {2 * row['cells']} values "
        f"within 2 standard errors; chance of a fit this bad {row['p_fit']:.2g}; "
        f"largest |z| {row['largest_z']} (allowed {row['largest_z_allowed']})",
    )


def _of_proposition(evidence: Mapping[str, Any], error: str, model: str) -> pd.DataFrame:
    rows = evidence["proposition"].query("error == @error and model == @model")
    if rows.empty:
        raise InputError(f"proposition: no row of error {error}, model {model}; correct the claim")
    return rows


@claim_test
def extreme_at_angle(
    evidence: Mapping[str, Any],
    *,
    error: str,
    model: str,
    angle: float,
    extreme: str,
    threshold: float,
    z: float,
) -> Verdict:
    """Whether an error is largest or smallest over angles at the angle the proposition names.

    evidence: proposition. error: standard or robust; model: proof, limit or finite; angle: 0 or
    90 degrees; extreme: max or min. The effect is by how much another angle goes beyond the named
    one (in error, positive: against the claim), at the worst angle, c and n; its interval is `z`
    standard errors, paired over trials. Reproduced where none goes beyond by `threshold`.
    """
    sign = {"max": 1, "min": -1}[extreme]
    rows = _of_proposition(evidence, error, model)
    rows = rows[rows["angle"].abs() != angle]  # +90 and -90 degrees are the same mixture
    excess, half = sign * rows[f"from_{angle:g}"], z * rows[f"from_{angle:g}_se"]
    kept = (excess - half <= threshold).groupby([rows["c"], rows["real"]]).all()
    worst = excess.idxmax()
    row, low, high = rows.loc[worst], (excess - half)[worst], (excess + half)[worst]
    return Verdict(
        excess[worst],
        low,
        high,
        "error by which another angle goes beyond the named one",
        threshold,
        decide(low, high, threshold, above=False),
        f"{kept.sum()} of {len(kept)} settings (c, n) keep their {extreme}imum at {angle:g} "
        f"degrees; worst at c = {row['c']}, n = {row['real']}, {row['angle']:g} degrees",
    )


@claim_test
def falls_with_c(
    evidence: Mapping[str, Any], *, error: str, model: str, threshold: float, z: float
) -> Verdict:
    """Whether an error at the named direction (angle 0) falls with every step to a larger c.

    evidence: proposition. The effect is the change of the error over the worst step, its interval
    `z` standard errors, paired over trials. Reproduced where it is below `threshold`.
    """
    steps = _of_proposition(evidence, error, model).query("angle == 0")
    steps = steps.dropna(subset="from_smaller_c")
    change, half = steps["from_smaller_c"], z * steps["from_smaller_c_se"]
    worst = (change + half).idxmax()
    row, low, high = steps.loc[worst], (change - half)[worst], (change + half)[worst]
    falls = change.groupby(steps["real"], sort=False).sum()
    total = ", ".join(f"{fall:.4f} for n = {real}" for real, fall in falls.items())
    return Verdict(
        change[worst],
        low,
        high,
        "change of the error over the worst step",
        threshold,
        decide(low, high, threshold, above=False),
        f"{len(steps)} steps; worst to c = {row['c']} at n = {row['real']}; "
        f"from the smallest to the largest c: {total}",
    )


@claim_test
def fewer_needed_with_c(evidence: Mapping[str, Any], *, threshold: float) -> Verdict:
    """Whether a larger c needs fewer synthetic samples for a set robust accuracy.

    evidence: theorem. The effect is the slope of log n~ on log c, the flattest over (n, target),
    with its bootstrap interval; reproduced where it is below `threshold` and every larger c needs
    fewer samples (a target out of reach counts as infinitely many).
    """
    rows = evidence["theorem"]
    slopes = rows.query("quantity == 'exponent'").dropna(subset="value")
    if slopes.empty:
        raise InputError("theorem: no target was reached by three values of c; lower the targets")
    needed = rows.query("quantity == 'needed'").sort_values("c").fillna({"value": np.inf})
    falls = needed.groupby(["real", "target"])["value"].agg(_falls)
    effect, low, high = slopes.loc[slopes["value"].idxmax(), ["value", "low", "high"]]
    verdict = decide(low, high, threshold, above=False)
    values = ", ".join(
        f"{row.value:.2f} (n = {row.real}, target {row.target})" for row in slopes.itertuples()
    )
    return Verdict(
        effect,
        low,
        high,
        "slope of log n~ on log c",
        threshold,
        INCONCLUSIVE if not falls.all() and verdict == REPRODUCED else verdict,
        f"slopes {values}; n~ does not fall throughout in {(~falls).sum()} of {len(falls)} curves",
    )


def _falls(values: Iterable[float]) -> bool:
    return all(b < a or (np.isinf(a) and np.isinf(b)) for a, b in pairwise(values))


def _settings_with(table: pd.DataFrame, panels: Sequence[str]) -> list[dict]:
    """The settings (reading, start, size) in which all of `panels` were sampled, in their order."""
    present = table.groupby(["reading", "start", "size"], sort=False)["panel"].agg(set)
    found = present[present.map(set(panels).issubset)]
    return found.index.to_frame().to_dict("records")


def _setting_name(reading: str, start: float, size: float) -> str:
    return f"{reading}, N(0, {'' if start == 1 else f'{start**2:g}'}I), size {size:g}"


@claim_test
def toy_recovers(
    evidence: Mapping[str, Any],
    *,
    reading: str,
    start: float,
    measures: Sequence[str],
    threshold: float,
    level: float,
    resamples: int,
    seed: int,
) -> Verdict:
    """Whether the model without guidance gives back the mixture it was trained on.

    evidence: toy (measures by batch). The effect is the largest relative deviation, over
    `measures`, of the plain panel from draws of the mixture, with the bootstrap interval of that
    largest one over batches of both; reproduced where it is below `threshold`.
    """
    rows = evidence["toy"]
    deviations, drawn = {}, []
    for name in measures:
        plain = of_panel(rows, name, reading=reading, panel="plain", start=start, size=0.0)
        real = of_panel(rows, name, reading=reading, panel="real", start=1.0, size=0.0)
        deviations[name] = plain.mean() / real.mean() - 1
        a = resampled_batches(len(plain), resamples=resamples, seed=seed)
        b = resampled_batches(len(real), resamples=resamples, seed=seed + 1)
        drawn.append(np.abs(plain[a].mean(axis=1) / real[b].mean(axis=1) - 1))
    effect = max(map(abs, deviations.values()))
    tails = (50 * (1 - level), 100 - 50 * (1 - level))
    low, high = np.percentile(np.max(drawn, axis=0), tails)
    return Verdict(
        float(effect),
        float(low),
        float(high),
        "largest relative deviation from the mixture",
        threshold,
        decide(float(low), float(high), threshold, above=False),
        ", ".join(f"{name} {value:+.1%}" for name, value in deviations.items()),
    )


@claim_test
def toy_circle(
    evidence: Mapping[str, Any],
    *,
    reading: str,
    start: float,
    size: float,
    panels: Sequence[str],
    threshold: float,
    level: float,
    resamples: int,
    seed: int,
) -> Verdict:
    """Whether every one of `panels` forms a circle within each class.

    evidence: toy (measures by batch). The effect is the largest over panels of the coefficient of
    variation of the radius around the class mean, with its bootstrap interval over batches:
    0 for a ring, 0.354 for an evenly filled disc, 0.523 for a Gaussian blob. Reproduced where it is
    below `threshold`. The words tell every panel, and what other settings find.
    """
    rows = evidence["toy"]

    def values(panel: str, setting: Mapping[str, Any]) -> np.ndarray:
        return of_panel(rows, "radial_cv", panel=panel, **setting)

    chosen = {"reading": reading, "start": float(start), "size": float(size)}
    found = {panel: values(panel, chosen) for panel in panels}
    means = {panel: float(batches.mean()) for panel, batches in found.items()}
    drawn = [
        batches[resampled_batches(len(batches), resamples=resamples, seed=seed)].mean(axis=1)
        for batches in found.values()
    ]
    tails = (50 * (1 - level), 100 - 50 * (1 - level))
    low, high = np.percentile(np.max(drawn, axis=0), tails)
    plain = values("plain", chosen | {"size": 0.0}).mean()
    others = [
        float(values(panel, setting).mean())
        for setting in _settings_with(rows, panels)
        for panel in panels
        if setting != chosen
    ]
    return Verdict(
        max(means.values()),
        float(low),
        float(high),
        "deviation over mean of the radius, largest over losses",
        threshold,
        decide(float(low), float(high), threshold, above=False),
        ", ".join(f"{panel} {value:.3f}" for panel, value in means.items())
        + f"; plain {plain:.3f}, a Gaussian blob {GAUSSIAN_CV:.3f}; in the other settings "
        f"{sum(value < threshold for value in others)} of {len(others)} panels lie below "
        f"{threshold:.3f}",
    )


@claim_test
def toy_ratio(
    evidence: Mapping[str, Any],
    *,
    measure: str,
    panel: str,
    baseline: str,
    above: bool,
    reading: str,
    start: float,
    size: float,
    threshold: float,
    level: float,
    resamples: int,
    seed: int,
) -> Verdict:
    """Whether a measure of one panel is larger (`above`) or smaller than the same of another.

    evidence: toy (measures by batch). The effect is the ratio of the means over the batches that
    both have (which start from the same noise), its interval a bootstrap over those batches.
    baseline: a panel without guidance or of the same size. The words tell the other settings.
    """
    rows = evidence["toy"]

    def pair(setting: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        other = {**setting, **({"size": 0.0} if baseline.startswith("plain") else {})}
        a, b = (
            of_panel(rows, measure, panel=name, **where)
            for name, where in ((panel, setting), (baseline, other))
        )
        shared = min(len(a), len(b))
        return a[:shared], b[:shared]

    chosen = {"reading": reading, "start": float(start), "size": float(size)}
    a, b = pair(chosen)
    index = resampled_batches(len(a), resamples=resamples, seed=seed)
    tails = (50 * (1 - level), 100 - 50 * (1 - level))
    low, high = np.percentile(a[index].mean(axis=1) / b[index].mean(axis=1), tails)
    others, against = 0, []
    for setting in _settings_with(rows, [panel]):
        if setting != chosen:
            c, d = pair(setting)
            ratio = c.mean() / d.mean()
            others += 1
            if (ratio > threshold) != above:
                against.append(f"{_setting_name(**setting)} ({ratio:.2f})")
    return Verdict(
        float(a.mean() / b.mean()),
        float(low),
        float(high),
        f"{measure}, {panel} over {baseline}",
        threshold,
        decide(float(low), float(high), threshold, above=above),
        f"{a.mean():.3f} against {b.mean():.3f} over {len(a)} batches; {others - len(against)} of "
        f"{others} other settings lie on the claimed side of {threshold:g}"
        + (f", not: {'; '.join(against)}" if against else ""),
    )


TESTS = entered_by(__name__)
