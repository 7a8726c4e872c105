"""Intervals against scipy's own, which compute them by other routes."""

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp, ttest_rel

from contrastdp.records import InputError
from contrastdp.statistics import mean_interval, paired_difference, wilson_interval


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (7, 7), (3, 10), (497, 597), (1, 1)])
def test_wilson_agrees_with_scipy_on_counts(successes, trials, level):
    expected = binomtest(successes, trials).proportion_ci(level, method="wilson")
    assert wilson_interval(successes / trials, trials, level) == pytest.approx(expected, abs=1e-12)


def test_wilson_of_a_mean_lies_between_those_of_the_counts_beside_it():
    below, between, above = (wilson_interval(k / 60, 60) for k in (45, 45.5, 46))
    assert below[0] < between[0] < above[0]
    assert below[1] < between[1] < above[1]


@pytest.mark.parametrize(
    ("accuracy", "trials", "level"), [(1.1, 10, 0.95), (-0.1, 10, 0.95), (0.5, 0, 0.95), (1, 9, 95)]
)
def test_wilson_refuses_what_is_no_proportion(accuracy, trials, level):
    with pytest.raises(InputError):
        wilson_interval(accuracy, trials, level)


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_mean_interval_agrees_with_scipy(count, level):
    values = np.random.default_rng(count).normal(80, 2, count)
    found = mean_interval(values, level)
    expected = ttest_1samp(values, 0).confidence_interval(level)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-12)
    assert (found.count, found.mean) == (count, pytest.approx(values.mean()))
    assert found.std == pytest.approx(values.std(ddof=1))


def test_one_seed_has_no_spread_and_equal_seeds_none_either():
    one = mean_interval([83.5])
    assert (one.count, one.mean, one.std, one.low, one.high) == (1, 83.5, None, None, None)
    same = mean_interval([83.5, 83.5, 83.5])
    assert (same.mean, same.std, same.low, same.high) == (83.5, 0, 83.5, 83.5)


@pytest.mark.parametrize("values", [[], [80.0, float("nan")], [float("inf")]])
def test_mean_interval_refuses_nothing_and_what_is_not_finite(values):
    with pytest.raises(InputError, match="finite"):
        mean_interval(values)


def test_paired_difference_pairs_by_seed_and_agrees_with_scipy():
    reference = {0: 80.0, 1: 84.0, 2: 81.5, 7: 10.0}
    values = {2: 82.25, 0: 80.5, 1: 85.0, 9: 99.0}
    found = paired_difference(values, reference)
    expected = ttest_rel([80.5, 85.0, 82.25], [80.0, 84.0, 81.5]).confidence_interval(0.95)
    assert found.count == 3
    assert found.mean == pytest.approx(0.75)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-9)


def test_pairing_takes_out_what_seeds_share():
    reference = {0: 60.0, 1: 75.0, 2: 90.0}
    paired = paired_difference({seed: value + 1 for seed, value in reference.items()}, reference)
    assert (paired.mean, paired.std) == (1, 0)


def test_no_shared_seed_gives_no_difference():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
