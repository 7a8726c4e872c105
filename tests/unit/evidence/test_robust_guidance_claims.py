"""Claims on robust-classifier guidance, on runs whose answer is known."""

import math

import pytest

from contrastdp.evidence import claims
from contrastdp.evidence.robust_guidance_claims import TESTS
from contrastdp.frames import as_table
from contrastdp.report import gradients_table, measured_table

ROBUST, VANILLA = "robust classifier", "vanilla classifier"
LEVEL = {"threshold": 0.0, "level": 0.95}
WOBBLE = (0.0, 0.02, -0.01, 0.015, -0.02)


def rows(panel, method, setting, values, **more):
    own = {"dataset": "digits", "panel": panel, "method": method, "setting": setting} | more
    return [own | {"seed": k, "n": 100, **value} for k, value in enumerate(values)]


def scales(method, by_scale, measure="frechet", **more):
    """Runs of the panel `scales`: s -> its values, one a seed."""
    return [
        run
        for s, values in by_scale.items()
        for run in rows("scales", method, f"s={s}", [{measure: v} for v in values], **more)
    ]


def judge(test, runs, **parameters):
    evidence = {"measured": as_table(runs, measured_table.RUNS)}
    return TESTS[test](evidence, **LEVEL | parameters)


def test_the_tests_are_those_of_the_module():
    assert set(TESTS) == {
        *("changes_with_scale", "better_at_best_scale"),
        *("best_setting", "better_aligned"),
    }
    assert TESTS.items() <= claims.TESTS.items()


# ---------------------------------------------------------------- over the scale
def line(slope, start=0.5):
    """A measure that changes by `slope` from each scale to the next, alike but for a wobble."""
    return {
        s: [start + slope * (1 + w) * k + w for w in WOBBLE]
        for k, s in enumerate(("0", "0.25", "0.5", "1"))
    }


@pytest.mark.parametrize(
    ("slope", "rises", "verdict"),
    [(0.1, True, "reproduced"), (-0.1, True, "not reproduced"), (-0.1, False, "reproduced")],
)
def test_a_measure_rises_or_falls_with_the_scale(slope, rises, verdict):
    runs = scales(ROBUST, line(slope), "precision")
    asked = {"measure": "precision", "methods": [ROBUST], "rises": rises}
    found = judge("changes_with_scale", runs, **asked)
    assert found.verdict == verdict
    change = 3 * slope * (1 + sum(WOBBLE) / len(WOBBLE))  # three steps, of a straight line
    assert found.effect == pytest.approx(change if rises else -change)
    assert "s = 0, 0.25, 0.5, 1" in found.evidence


def test_the_scales_come_in_the_order_of_their_numbers():
    """Not of their texts: 10 comes after 2."""
    by_scale = {"10": [3.0, 3.1], "2": [2.0, 2.1], "0.5": [1.0, 1.2]}
    runs = scales(ROBUST, by_scale, "precision")
    asked = {"measure": "precision", "methods": [ROBUST], "rises": True}
    assert judge("changes_with_scale", runs, **asked).effect == pytest.approx(1.95)


def test_the_weaker_of_two_methods_or_data_sets_decides():
    asked = {"measure": "recall", "methods": [ROBUST, VANILLA], "rises": False}
    runs = scales(ROBUST, line(-0.1), "recall") + scales(VANILLA, line(0.1), "recall")
    found = judge("changes_with_scale", runs, **asked)
    assert (found.verdict, found.effect < 0) == ("not reproduced", True)
    assert "vanilla classifier on digits" in found.evidence
    both = scales(ROBUST, line(-0.1), "recall")
    both += scales(ROBUST, line(-0.2), "recall", dataset="mnist")
    assert "1 of 1" not in judge("changes_with_scale", both, **asked).evidence
    assert judge("changes_with_scale", both, **asked).verdict == "reproduced"


def test_one_seed_decides_nothing():
    runs = scales(ROBUST, {"0": [0.5], "1": [0.9]}, "precision")
    asked = {"measure": "precision", "methods": [ROBUST], "rises": True}
    assert judge("changes_with_scale", runs, **asked).verdict == "inconclusive"


def test_without_scales_there_is_no_verdict():
    runs = scales(ROBUST, {"1": [0.5, 0.6]}, "precision")
    asked = {"measure": "precision", "methods": [ROBUST], "rises": True}
    found = judge("changes_with_scale", runs, **asked)
    assert found.verdict == "not run"
    assert math.isnan(found.effect)


# ---------------------------------------------------------------- each at its best
AT_BEST = {"measure": "frechet", "ours": ROBUST, "rival": VANILLA}


def test_each_is_compared_at_the_scale_that_other_seeds_choose():
    """Seed 0 alone would choose s = 2 for the rival, and so would make it look better."""
    ours = {"0": [9.0, 9.0, 9.0], "1": [5.0, 5.1, 5.2], "2": [8.0, 8.0, 8.0]}
    rival = {"0": [1.0, 1.0, 1.0], "1": [6.0, 6.2, 6.1], "2": [0.0, 9.0, 9.0]}
    found = judge("better_at_best_scale", scales(ROBUST, ours) + scales(VANILLA, rival), **AT_BEST)
    # left out: seed 0 -> the others choose 1 (6.15 < 9); 1 -> 2 (4.5 < 6.05); 2 -> 2 (4.5 < 6.1)
    assert found.effect == pytest.approx(((6.0 - 5.0) + (9.0 - 5.1) + (9.0 - 5.2)) / 3)


@pytest.mark.parametrize(
    ("gain", "verdict"), [(1.0, "reproduced"), (0.01, "inconclusive"), (-1.0, "not reproduced")]
)
def test_a_method_beats_its_rival_where_the_interval_says_so(gain, verdict):
    ours = {"1": [5 + w for w in WOBBLE], "2": [7 + w for w in WOBBLE]}
    rival = {"1": [8 + w for w in WOBBLE], "2": [5 + gain - 3 * w for w in WOBBLE]}
    runs = scales(ROBUST, ours) + scales(VANILLA, rival)
    assert judge("better_at_best_scale", runs, **AT_BEST).verdict == verdict


def test_a_single_seed_chooses_for_itself_as_a_printed_table_does():
    runs = scales(ROBUST, {"0": [7.0], "1": [7.58], "2": [7.6]})
    runs += scales(VANILLA, {"0": [7.0], "1": [7.65], "2": [7.62]})
    found = judge("better_at_best_scale", runs, **AT_BEST)
    assert found.effect == pytest.approx(0.04)
    assert found.verdict == "inconclusive"


# ---------------------------------------------------------------- one setting among others
def threats(**by_setting):
    return [
        run
        for setting, values in by_setting.items()
        for run in rows("threats", ROBUST, setting, [{"frechet": v} for v in values])
    ]


BEST = {"measure": "frechet", "panel": "threats", "method": ROBUST, "setting": "a"}


def test_a_setting_is_best_where_it_beats_each_other_one():
    a, b = [5 + w for w in WOBBLE], [6 - w for w in WOBBLE]
    found = judge("best_setting", threats(a=a, b=b, c=[7.0] * 5), **BEST)
    assert found.verdict == "reproduced"
    assert found.effect == pytest.approx(1 - 2 * sum(WOBBLE) / 5)
    assert "smallest: b on digits" in found.evidence
    better = [4 - w for w in WOBBLE]
    assert judge("best_setting", threats(a=a, b=b, c=better), **BEST).verdict == "not reproduced"
    assert judge("best_setting", threats(b=b, c=better), **BEST).verdict == "not run"
    assert judge("best_setting", threats(a=a), **BEST).verdict == "not run"


# ---------------------------------------------------------------- gradients
def test_gradients_are_compared_in_the_mean_over_bands():
    runs = [
        {"dataset": "digits", "measure": "score", "seed": k, "t_low": low, "t_high": low + 499}
        | {"robust": robust + WOBBLE[k], "vanilla": 0.2, "n": 9}
        for k in range(5)
        for low, robust in ((0, 0.1), (500, 0.9))
    ]
    evidence = {"gradients": as_table(runs, gradients_table.RUNS)}
    found = TESTS["better_aligned"](evidence, measure="score", **LEVEL)
    assert found.effect == pytest.approx(0.3 + sum(WOBBLE) / 5)
    assert found.verdict == "reproduced"
    assert TESTS["better_aligned"](evidence, measure="class_mean", **LEVEL).verdict == "not run"
