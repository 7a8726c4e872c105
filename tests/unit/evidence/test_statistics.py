"""Intervals and tests against scipy's own, textbook examples, and patterns written out by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, permutation_test, ttest_1samp, ttest_rel

from contrastdp.errors import InputError
from contrastdp.evidence import statistics
from contrastdp.evidence.statistics import (
    holm,
    mcnemar_test,
    mean_interval,
    paired_difference,
    sign_flip_test,
    standard_errors,
    wilson_interval,
)


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
    ("accuracy", "trials", "level"),
    [(1.1, 10, 0.95), (-0.1, 10, 0.95), (0.5, 0, 0.95), (1, 9, 95), (0.5, 9, 1), (0.5, 9, 0)],
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


# ---------------------------------------------------------------- sign flips
@pytest.mark.parametrize(
    ("differences", "count"),
    [
        # Sums of ±2 ±1 ±3 are ±6, ±4, ±2, ±0: only ±6 is as far out.
        ([2.0, 1.0, 3.0], 2),
        # 2 + 1 - 4 = -1: all but the two sums ±1 of (2, 1, -4) and the two of none are farther out.
        ([2.0, 1.0, -4.0], 8),
        # Sums of ±4 ±1 ±1 ±1 that reach 7 - 2 = 5: ±7 once each, ±5 three times each.
        ([4.0, 1.0, 1.0, -1.0], 8),
        # Ties of fractions that a float does not hold: 0.1 + 0.2 as far out as 0.3 would be.
        ([0.1, 0.2, -0.3], 8),
        ([0.0, 0.0], 4),
        ([5.0], 2),
    ],
)
def test_sign_flips_counted_by_hand(differences, count):
    found = sign_flip_test(differences)
    assert found.p == count / 2 ** len(differences)
    assert found.smallest == 2 / 2 ** len(differences)
    assert found.count == len(differences)


def tail(values):
    """Share of patterns of signs whose sum is at least as far out, of whole numbers: by counting.

    Sums are counted number by number (a convolution), so that 20 numbers take no 2^20 patterns.
    """
    counts = {0: 1}
    for value in values:
        new = {}
        for total, count in counts.items():
            for end in (total - value, total + value):
                new[end] = new.get(end, 0) + count
        counts = new
    seen = abs(sum(values))
    return sum(n for total, n in counts.items() if abs(total) >= seen) / 2 ** len(values)


def test_twenty_seeds_are_still_tried_in_full():
    values = np.random.default_rng(3).integers(-300, 400, 20).tolist()
    assert statistics.EXHAUSTIVE == 2**20  # as docs/statistics.md says; 21 seeds are drawn
    assert sign_flip_test([value / 1000 for value in values]).p == tail(values)


@pytest.mark.parametrize(
    "counts",
    [[15, 8, 4, -4, -3, -11, -10, -12, -7, 14], [3, 4, 12, 18, -11, -8, 14, 18, -5, -3]],
)
def test_ties_of_accuracies_over_360_images_count_as_far_out(counts):
    """Differences of ten seeds in points, as a table holds them: counts over 360 images."""
    assert sign_flip_test([100 * count / 360 for count in counts]).p == tail(counts)


def test_untied_sums_agree_with_scipy():
    values = np.random.default_rng(5).normal(0.4, 1, 9)
    expected = permutation_test(
        (values,), lambda x: x.sum(), permutation_type="samples", n_resamples=1000
    )
    assert sign_flip_test(values).p == expected.pvalue


def test_sums_that_differ_by_little_are_no_ties():
    """1/100 of a point of 10: a coarser grid of whole numbers would call these sums alike."""
    values = [1000, 999, 998, -1, -2]
    assert sign_flip_test([value / 100 for value in values]).p == tail(values)
    assert sign_flip_test([7.001, -7.0]).p == 1.0
    # sums that are alike but for the last bits of their floats
    values = [7, -1, 3, 11, -5, 2, 9]
    for unit in (0.1, 1 / 597, 100 / 360):
        assert sign_flip_test([value * unit for value in values]).p == tail(values)


@pytest.mark.parametrize("seeds", [5, 9])
def test_sign_flips_agree_with_a_slow_loop(seeds):
    values = np.random.default_rng(seeds).integers(-4, 9, seeds).tolist()
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, values, strict=True)))
        for signs in itertools.product((1, -1), repeat=seeds)
    ]
    expected = sum(total >= abs(sum(values)) for total in sums) / 2**seeds
    assert sign_flip_test([value / 7 for value in values]).p == pytest.approx(expected, abs=1e-12)


def test_many_seeds_are_drawn_and_repeat_themselves(monkeypatch):
    values = np.random.default_rng(1).normal(0.5, 1, 10)
    exact = sign_flip_test(values).p
    monkeypatch.setattr(statistics, "EXHAUSTIVE", 1000)
    drawn = sign_flip_test(values).p
    assert drawn == sign_flip_test(values).p != exact
    assert drawn == pytest.approx(exact, abs=0.05)
    # The pattern seen counts as one of those drawn, so that p is never 0.
    assert sign_flip_test([1.0] * 40).p == 1 / 1001
    assert sign_flip_test([0.0] * 40).p == 1.0


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_sign_flips_refuse_nothing_and_what_is_not_finite(values):
    with pytest.raises(InputError, match="finite"):
        sign_flip_test(values)


# ---------------------------------------------------------------- McNemar
def outcomes(both, won, lost, none):
    one = [True] * (both + won) + [False] * (lost + none)
    return one, [True] * both + [False] * won + [True] * lost + [False] * none


def test_mcnemar_of_agrestis_approval_ratings():
    """Agresti, Categorical Data Analysis, section 10.1: z² = 17.36, Wald's interval ±0.019."""
    found = mcnemar_test(*outcomes(794, 150, 86, 570))
    assert (found.images, found.won, found.lost) == (1600, 150, 86)
    assert found.p == pytest.approx(binomtest(150, 236).pvalue, rel=1e-9)
    # The normal approximation of the same, two-sided, with a correction for continuity.
    assert found.p == pytest.approx(2 * norm.sf((150 - 86 - 1) / 236**0.5), rel=0.2)
    assert found.difference == pytest.approx(0.04)
    assert (found.low, found.high) == pytest.approx((0.0212, 0.0588), abs=5e-4)


def test_the_interval_is_newcombes_method_10():
    """Newcombe (1998), Statistics in Medicine 17, 2635: the example of 36, 12, 2 and 0."""
    found = mcnemar_test(*outcomes(36, 12, 2, 0))
    assert (found.low, found.high) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    narrower = mcnemar_test(*outcomes(36, 12, 2, 0), level=0.9)
    assert found.low < narrower.low < narrower.high < found.high


@pytest.mark.parametrize("table", [(30, 6, 4, 10), (36, 12, 2, 1), (9, 3, 2, 1), (20, 1, 9, 20)])
def test_the_interval_is_that_of_newcombes_text(table):
    """Method 10 as printed, with e, f, g, h for the cells and the roots of Wilson's quadratic."""
    e, f, g, h = table
    n, z = sum(table), norm.ppf(0.975)

    def wilson(x):
        # roots of (x/n - p)^2 = z^2 p (1 - p) / n
        return sorted(np.roots([1 + z * z / n, -2 * x / n - z * z / n, (x / n) ** 2]))

    (l2, u2), (l3, u3) = wilson(e + f), wilson(e + g)
    dl2, du2 = (e + f) / n - l2, u2 - (e + f) / n
    dl3, du3 = (e + g) / n - l3, u3 - (e + g) / n
    c = e * h - f * g
    c = c - n / 2 if c > n / 2 else 0 if c >= 0 else c
    phi = c / math.sqrt((e + f) * (g + h) * (e + g) * (f + h))
    low = (f - g) / n - math.sqrt(dl2**2 - 2 * phi * dl2 * du3 + du3**2)
    high = (f - g) / n + math.sqrt(du2**2 - 2 * phi * du2 * dl3 + dl3**2)
    found = mcnemar_test(*outcomes(*table))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def tango(won, lost, images):
    """Tango's score interval (1998): where the score of the difference d reaches ±1.96."""

    def score(d):
        b = -won - lost + (2 * images - won + lost) * d
        root = b * b + 8 * images * lost * d * (1 - d)
        q = (math.sqrt(root) - b) / (4 * images)
        return (won - lost - images * d) / math.sqrt(images * (2 * q + d * (1 - d)))

    middle = (won - lost) / images
    return (
        brentq(lambda d: score(d) - 1.959964, -0.999, middle),
        brentq(lambda d: score(d) + 1.959964, middle, 0.999),
    )


@pytest.mark.parametrize("table", [(400, 30, 22, 148), (60, 9, 15, 16), (480, 5, 3, 109)])
def test_the_interval_is_near_tangos(table):
    found = mcnemar_test(*outcomes(*table))
    expected = tango(table[1], table[2], sum(table))
    assert (found.low, found.high) == pytest.approx(
        expected, abs=0.15 * (expected[1] - expected[0])
    )


def test_mcnemar_is_symmetric_and_knows_no_difference():
    one, other = outcomes(50, 12, 4, 34)
    found, turned = mcnemar_test(one, other), mcnemar_test(other, one)
    assert (turned.p, turned.difference) == (found.p, -found.difference)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    same = mcnemar_test(one, one)
    assert (same.won, same.lost, same.p) == (0, 0, 1.0)
    assert same.low < 0 < same.high
    assert mcnemar_test(*outcomes(50, 7, 7, 36)).p == 1.0


@pytest.mark.parametrize(("one", "other"), [([], []), ([True], [True, False])])
def test_mcnemar_needs_the_same_images(one, other):
    with pytest.raises(InputError, match="same images"):
        mcnemar_test(one, other)


# ---------------------------------------------------------------- several comparisons, two errors
def test_holm_worked_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, kept from falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []
    for p in (1.2, -0.01):
        with pytest.raises(InputError, match=rf"p is {p}"):
            holm([0.1, p])


def test_the_two_standard_errors_are_told_apart():
    seeds, images = standard_errors([0.80, 0.84, 0.82], 597)
    assert seeds == pytest.approx(0.02 / math.sqrt(3))
    assert images == pytest.approx(math.sqrt(0.82 * 0.18 / 597))
    assert standard_errors([0.5], 100) == (None, 0.05)
    assert standard_errors([1.0, 1.0], 10) == (0.0, 0.0)
    for values, n_test in (([80.0], 100), ([0.5], 0)):
        with pytest.raises(InputError, match="give a fraction and images"):
            standard_errors(values, n_test)
