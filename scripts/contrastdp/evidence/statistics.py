"""Intervals and tests for accuracies: over test images, over seeds, and between two arms."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contrastdp.errors import InputError

EXHAUSTIVE = 2**20  # patterns of signs up to which all are tried


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` seeds, its standard deviation (ddof = 1) and its interval [low, high].

    All in the unit of the values. With one seed there is no spread: std, low and high are None.
    """

    count: int
    mean: float
    std: float | None
    low: float | None
    high: float | None


def wilson_interval(accuracy: float, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion seen on `trials` test images.

    accuracy: in [0, 1]; need not be a multiple of 1 / trials, for a mean over seeds is none. level:
    coverage.
    Returns (low, high) in [0, 1]. It tells how far another test set of the same size may move the
    accuracy of one trained network, not how far another seed may.
    Raises InputError for an accuracy outside [0, 1], no trials, or a level outside (0, 1).
    """
    from statsmodels.stats.proportion import proportion_confint

    if not 0 <= accuracy <= 1:
        raise InputError(f"accuracy is {accuracy}, expected a fraction in [0, 1]")
    if trials < 1:
        raise InputError(f"an accuracy over {trials} test images has no interval; give at least 1")
    alpha = 1 - _level(level)
    low, high = proportion_confint(accuracy * trials, trials, alpha, method="wilson")
    return max(0.0, float(low)), min(1.0, float(high))


def mean_interval(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Mean, standard deviation (ddof = 1) and t interval of one value a seed.

    values: one finite number a seed, any unit. level: coverage in (0, 1). The interval is
    mean ± t(n - 1) * std / sqrt(n). Raises InputError for no values or a non-finite one.
    """
    from scipy.stats import t

    _level(level)
    values = [float(value) for value in values]
    if not values or not all(math.isfinite(value) for value in values):
        raise InputError(f"mean over seeds needs finite values, got {values}")
    count, mean = len(values), math.fsum(values) / len(values)
    if count == 1:
        return Estimate(count, mean, None, None, None)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(t.ppf(0.5 + level / 2, count - 1)) * std / math.sqrt(count)
    return Estimate(count, mean, std, mean - half, mean + half)


def paired_difference(
    values: Mapping[Any, float], reference: Mapping[Any, float], level: float = 0.95
) -> Estimate | None:
    """Mean of values - reference over the seeds that both have, with its t interval.

    values, reference: seed -> value. A seed covers data subset, diffusion, sampling and training,
    so two arms share what the seed decides and their difference varies less than either arm.
    Returns None where no seed is shared.
    """
    shared = sorted(values.keys() & reference.keys())
    if not shared:
        return None
    return mean_interval([values[seed] - reference[seed] for seed in shared], level)


# ---------------------------------------------------------------- tests
@dataclass(frozen=True)
class SignFlip:
    """p, two-sided, of `count` paired differences; smallest: the least p that so many can give."""

    count: int
    p: float
    smallest: float


@dataclass(frozen=True)
class McNemar:
    """Two networks on the same images: `won` right for the first alone, `lost` for the second.

    p: exact, two-sided; difference, low, high: share right of the first minus that of the second,
    a fraction, with its interval for paired proportions.
    """

    images: int
    won: int
    lost: int
    p: float
    difference: float
    low: float
    high: float


def sign_flip_test(differences: Sequence[float]) -> SignFlip:
    """Exact test that paired differences are symmetric about 0 (Fisher 1935, section 21).

    differences: one finite number a seed, any unit. p is the share of the 2^n patterns of signs
    whose sum is at least as far from 0 as the one seen, so never below 2 / 2^n: 0.5 for two seeds,
    0.0625 for five. Above 20 seeds 2^20 patterns are drawn (seed 0).
    Raises InputError for no differences or a non-finite one.
    """
    import numpy as np

    values = [float(value) for value in differences]
    if not values or not all(math.isfinite(value) for value in values):
        raise InputError(f"a sign-flip test needs finite differences, got {values}")
    # Alike but for a float's last bits is as far out: accuracies are counts over one number of
    # images, so that sums often tie. scipy's permutation_test may tell such ties apart, for its
    # tolerance is relative to the sum seen.
    seen = abs(math.fsum(values)) - 1e-9 * math.fsum(map(abs, values))
    if 2 ** len(values) <= EXHAUSTIVE:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums - value, sums + value])
        p = float(np.mean(np.abs(sums) >= seen))
    else:
        stream, sums = np.random.default_rng(0), np.zeros(EXHAUSTIVE)
        for value in values:
            sums += value * stream.choice((-1.0, 1.0), EXHAUSTIVE)
        # the pattern seen is one of them (Phipson & Smyth 2010)
        p = float((np.sum(np.abs(sums) >= seen) + 1) / (EXHAUSTIVE + 1))
    return SignFlip(len(values), p, 2.0 ** (1 - len(values)))


def mcnemar_test(one: Sequence[bool], other: Sequence[bool], level: float = 0.95) -> McNemar:
    """McNemar's exact test (1947) and Newcombe's interval of two networks on the same images.

    one, other: whether each image is classified rightly, in one order. Only images on which they
    differ count: won ~ Binomial(won + lost, 1/2) where both are equally good. The interval is
    method 10 of Newcombe (1998), of Wilson's limits and the correlation of the two.
    It speaks of these two trained networks and another draw of images, not of another seed.
    Raises InputError for no images, unequal numbers of them, or a level outside (0, 1).
    """
    from statsmodels.stats.contingency_tables import mcnemar

    if len(one) != len(other) or not len(one):
        raise InputError(
            f"McNemar's test needs the same images twice, got {len(one)} and {len(other)}"
        )
    cells = Counter((bool(a), bool(b)) for a, b in zip(one, other, strict=True))
    both, won, lost, none = (
        cells[pair] for pair in ((True, True), (True, False), (False, True), (False, False))
    )
    p = float(mcnemar([[both, won], [lost, none]], exact=True).pvalue) if won + lost else 1.0
    images, low, high = len(one), *_newcombe(both, won, lost, none, level)
    return McNemar(images, won, lost, min(1.0, p), (won - lost) / images, low, high)


def _newcombe(both: int, won: int, lost: int, none: int, level: float) -> tuple[float, float]:
    images = both + won + lost + none
    right = (both + won) / images, (both + lost) / images
    (low1, high1), (low2, high2) = (wilson_interval(share, images, level) for share in right)
    spread = math.sqrt((both + won) * (lost + none) * (both + lost) * (won + none))
    product = float(both * none - won * lost)
    # Newcombe's correction for continuity of a positive correlation.
    product = max(product - images / 2, 0) if product > 0 else product
    phi = product / spread if spread else 0.0

    def half(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

    difference = right[0] - right[1]
    below = half(right[0] - low1, high2 - right[1])
    above = half(high1 - right[0], right[1] - low2)
    return difference - below, difference + above


def holm(p_values: Sequence[float]) -> list[float]:
    """p adjusted for several comparisons (Holm 1979), in the order given; each in [0, 1].

    The chance that any comparison without an effect gets an adjusted p <= alpha is at most alpha.
    Raises InputError for a p outside [0, 1].
    """
    from statsmodels.stats.multitest import multipletests

    for p in p_values:
        if not 0 <= p <= 1:
            raise InputError(f"p is {p}, expected a probability in [0, 1]")
    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []


def standard_errors(values: Sequence[float], n_test: int) -> tuple[float | None, float]:
    """Standard errors of a mean accuracy, kept apart: from seeds, and from n_test test images.

    values: one fraction in [0, 1] a seed. The first is std / sqrt(seeds), None for one seed; the
    second sqrt(m (1 - m) / n_test) of the mean m, for seeds share the test images and so do not
    lessen it by their number. Raises InputError as mean_interval and wilson_interval do.
    """
    over = mean_interval(values)
    if n_test < 1 or not 0 <= over.mean <= 1:
        raise InputError(
            f"mean accuracy {over.mean} of {n_test} images: give a fraction and images"
        )
    seeds = None if over.std is None else over.std / math.sqrt(over.count)
    return seeds, math.sqrt(over.mean * (1 - over.mean) / n_test)


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"level is {level}, expected a coverage in (0, 1) such as 0.95")
    return level
