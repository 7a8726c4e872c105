"""Intervals for accuracies: over test images (Wilson) and over seeds (Student's t), also paired."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contrastdp.records import InputError


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

    accuracy: in [0, 1]; need not be a multiple of 1 / trials, for a mean over seeds is none (which
    is why this is not scipy's binomtest, with which it agrees on counts). level: coverage.
    Returns (low, high) in [0, 1]. It tells how far another test set of the same size may move the
    accuracy of one trained network, not how far another seed may.
    Raises InputError for an accuracy outside [0, 1], no trials, or a level outside (0, 1).
    """
    from scipy.stats import norm

    if not 0 <= accuracy <= 1:
        raise InputError(f"accuracy is {accuracy}, expected a fraction in [0, 1]")
    if trials < 1:
        raise InputError(f"an accuracy over {trials} test images has no interval; give at least 1")
    z = float(norm.ppf(0.5 + _level(level) / 2))
    shrink = 1 + z**2 / trials
    centre = (accuracy + z**2 / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(accuracy * (1 - accuracy) / trials + (z / (2 * trials)) ** 2)
    return max(0.0, centre - half), min(1.0, centre + half)


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


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"level is {level}, expected a coverage in (0, 1) such as 0.95")
    return level
