"""Tests that decide the paper's claims on images, over the runs of one of its tables.

Evidence of each is one entry: make_paper_table's runs, a row an arm and seed. A contest is an
arm of one of `generators` against an arm of one of `rivals` that differs in nothing else: data set,
eps, trainer, real and synthetic images, selection, and the training's batch, steps and shift where
its row sets them. The rival None has no synthetic images, and as many real ones as the arm's
generator was trained on, or `real` of them, trained in any way; the rival 'baseline' is the arm's
own baseline. `where` keeps the arms, and `against` the rivals, with one of the given
values in a column of the runs ({"printed": ["50K"]}). Robust accuracies of different attacks are
compared only where the runs say that their data set's may be mixed, and the evidence then names
them; runs of older tables name no attack.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pandas as pd

from contrastdp.errors import InputError
from contrastdp.evidence.claims import (
    NOT_RUN,
    Contrast,
    Verdict,
    bounds,
    claim_test,
    decide,
    entered_by,
    weakest,
)
from contrastdp.evidence.statistics import mean_interval

Contest = tuple[pd.DataFrame, pd.DataFrame]  # the runs of an arm and of its rival
ALIKE = ("dataset", "eps", "trainer")
ALIKE_SYNTHETIC = ("real", "synthetic", "selection", "train_on", "batch", "steps", "shift")
BASELINE = "baseline"
MIXTURES = {"mixed": "", "synthetic": "synthetic"}


@claim_test
def gains_everywhere(
    evidence: Mapping[str, Any],
    *,
    generators: Sequence[str],
    rivals: Sequence[str | None],
    measures: Sequence[str],
    threshold: float,
    level: float,
    real: int | None = None,
    eps: str | None = None,
    train_on: str | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    against: Mapping[str, Sequence[str]] | None = None,
) -> Verdict:
    """Whether some generators' arms beat their rivals' in every contest and measure.

    measures: clean, robust or both; real: images of the rival without synthetic ones; eps: of both;
    train_on: 'mixed' or 'synthetic' arms only. The effect is the smallest mean difference in
    points, paired over seeds, with its t interval at `level`. Reproduced where every such interval
    lies above `threshold`; not reproduced where one of k lies below it even at the level
    1 - (1 - level) / k, so that many contests do not make a loss by chance; else inconclusive, and
    not run where there is no such contest.
    """
    chosen: dict[str, Any] = {
        "real": real,
        "eps": eps,
        "train_on": train_on,
        "where": where,
        "against": against,
    }
    contests = _contests(evidence, generators, rivals, **chosen)
    found = _everywhere(contests, measures, threshold, level)
    return found or _not_run(generators, rivals, threshold)


@claim_test
def ordered_everywhere(
    evidence: Mapping[str, Any],
    *,
    generators: Sequence[str],
    measures: Sequence[str],
    threshold: float,
    level: float,
    where: Mapping[str, Sequence[str]] | None = None,
) -> Verdict:
    """Whether each of `generators`, the best first, beats the next in every contest and measure.

    Effect and verdict are gains_everywhere's, over the contests of neighbours; not run where one
    pair of neighbours has no contest.
    """
    contests = []
    for better, worse in pairwise(generators):
        found = _contests(evidence, [better], [worse], where=where)
        if not found:
            return _not_run([better], [worse], threshold)
        contests += found
    return _everywhere(contests, measures, threshold, level) or _not_run(
        generators[:1], generators[1:], threshold
    )


@claim_test
def gains_in_most(
    evidence: Mapping[str, Any],
    *,
    generators: Sequence[str],
    rivals: Sequence[str | None],
    measures: Sequence[str],
    threshold: float,
    level: float,
    real: int | None = None,
    eps: str | None = None,
    train_on: str | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
) -> Verdict:
    """Whether some generators' arms beat their rivals' in all measures at once in most contests.

    The effect is the share of contests whose mean differences over paired seeds are all positive.
    Its low counts only contests whose t intervals at `level` are all above 0, its high all but
    those where one interval is below 0. Reproduced where even the low is above `threshold`.
    """
    chosen: dict[str, Any] = {"real": real, "eps": eps, "train_on": train_on, "where": where}
    contests = _contests(evidence, generators, rivals, **chosen)
    contests = [each for each in contests if all(_given(each, kind) for kind in measures)]
    mixed = _mixed(contests, measures)
    gains = [
        [mean_interval(_differences(a, b, kind), level) for kind in measures] for a, b in contests
    ]
    if not gains:
        return _not_run(generators, rivals, threshold)
    share = sum(all(gain.mean > 0 for gain in each) for each in gains) / len(gains)
    low = sum(all(bounds(gain, 0.0)[0] > 0 for gain in each) for each in gains) / len(gains)
    high = sum(not any(bounds(gain, 0.0)[1] < 0 for gain in each) for each in gains) / len(gains)
    return Verdict(
        share,
        low,
        high,
        "share of contests",
        threshold,
        decide(low, high, threshold, above=True),
        f"{round(share * len(gains))} of {len(gains)} contests gain in {' and '.join(measures)} "
        f"accuracy; certain of {low:.2f}, possible in {high:.2f}{mixed}",
    )


# ---------------------------------------------------------------- contests
def _everywhere(
    contests: Sequence[Contest],
    measures: Sequence[str],
    threshold: float,
    level: float,
) -> Verdict | None:
    mixed = _mixed(contests, measures)
    found = [
        Contrast(f"{kind}, {_name(a)} against {_name(b)}", _differences(a, b, kind))
        for a, b in contests
        for kind in measures
        if _given((a, b), kind)
    ]
    if not found:
        return None
    unit = "points, smallest difference"
    return weakest(found, unit=unit, threshold=threshold, level=level, more=mixed)


def _contests(
    evidence: Mapping[str, Any],
    generators: Sequence[str],
    rivals: Sequence[str | None],
    *,
    real: int | None = None,
    eps: str | None = None,
    train_on: str | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    against: Mapping[str, Sequence[str]] | None = None,
) -> list[Contest]:
    """Pairs of arms' runs; real: of the rival without synthetic images; eps: of both."""
    if len(evidence) != 1:
        raise InputError(f"image claim: has {len(evidence)} pieces of evidence; give one's runs")
    if train_on is not None and train_on not in MIXTURES:
        raise InputError(f"image claim: train_on is '{train_on}', expected mixed or synthetic")
    runs = next(iter(evidence.values()))
    arms = runs.drop_duplicates("arm").astype(object).fillna("")  # empty cells are alike
    ours = _kept(arms[arms["generator"].isin(generators)], where)
    pairs = ours.merge(_kept(arms, against), how="cross", suffixes=("", "_other"))
    pairs = pairs[_rivals(pairs, rivals, real)]
    if eps is not None:
        pairs = pairs[pairs["eps"].map(Fraction) == Fraction(eps)]
    if train_on is not None:
        pairs = pairs[pairs["train_on"] == MIXTURES[train_on]]
    of = dict(list(runs.groupby("arm")))
    return [(of[one], of[other]) for one, other in pairs[["arm", "arm_other"]].to_numpy()]


def _kept(arms: pd.DataFrame, columns: Mapping[str, Sequence[str]] | None) -> pd.DataFrame:
    for name, values in (columns or {}).items():
        if name not in arms:
            raise InputError(f"image claim: the runs have no column '{name}'; correct the claim")
        arms = arms[arms[name].astype("str").isin(values)]
    return arms


def _rivals(pairs: pd.DataFrame, rivals: Sequence[str | None], real: int | None) -> pd.Series:
    """Which pairs are a contest; the columns of the second arm end in _other."""

    def alike(names: Sequence[str]) -> pd.Series:
        others = pairs[[f"{name}_other" for name in names]].to_numpy()
        return (pairs[list(names)] == others).all(axis=1)

    enough = pairs["real_other"] == (pairs["real"] if real is None else real)
    images = alike(ALIKE_SYNTHETIC).where(pairs["generator_other"] != "", enough)
    named = pairs["generator_other"].isin([name or "" for name in rivals])
    own = (pairs["baseline"] == pairs["arm_other"]) & (BASELINE in rivals)
    return own | named & alike(ALIKE) & images


def _mixed(contests: Sequence[Contest], measures: Sequence[str]) -> str:
    """Which contests compare different attacks, in words; InputError where that is not allowed."""
    found = []
    for one, other in contests if "robust" in measures else ():
        runs = pd.concat([one, other])
        attacks = sorted(runs["attack"].fillna("not named").unique())
        if len(attacks) == 1:
            continue
        arms = f"arms {_name(one)} and {_name(other)}"
        if runs["mixed_attacks"].isna().any():
            raise InputError(
                f"image claim: {arms} were attacked in different ways ({', '.join(attacks)}); "
                "attack them alike, or set mixed_attacks under report"
            )
        found.append(f"{arms} ({', '.join(attacks)})")
    if not found:
        return ""
    said = "; attacks are mixed, so robust accuracies are not one measure: "
    return said + ", ".join(dict.fromkeys(found))


def _given(contest: Contest, kind: str) -> bool:
    """Whether all runs have this accuracy: the paper leaves single values out."""
    return all(runs[kind].notna().all() for runs in contest)


def _differences(one: pd.DataFrame, other: pd.DataFrame, kind: str) -> list[float]:
    """Of the seeds that both have; InputError where there is none."""
    ours, theirs = (runs.set_index("seed")[kind].to_dict() for runs in (one, other))
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise InputError(
            f"image claim: arms {_name(one)} and {_name(other)} share no seed; run one more"
        )
    return [ours[seed] - theirs[seed] for seed in shared]


def _name(runs: pd.DataFrame) -> str:
    return runs["arm"].iloc[0]


def _not_run(generators: Sequence[str], rivals: Sequence[str | None], threshold: float) -> Verdict:
    names = " or ".join(name or "no synthetic images" for name in rivals)
    said = f"no arm of {' or '.join(generators)} beside one of {names}"
    nothing = math.nan
    return Verdict(nothing, nothing, nothing, "points", threshold, NOT_RUN, said)


TESTS = entered_by(__name__)
