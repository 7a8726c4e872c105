"""Claims on images, on runs whose answer is known."""

import math

import pytest

from contrastdp.errors import InputError
from contrastdp.evidence import claims
from contrastdp.evidence.image_claims import TESTS
from contrastdp.frames import as_table
from contrastdp.report.claims_page import judged_markdown
from contrastdp.report.paper_tables import RUN_COLUMNS

BOTH = {"generators": ["guided"], "rivals": ["plain"], "measures": ["clean", "robust"]}
BOTH |= {"threshold": 0.0, "level": 0.95}


def make_runs(arm, generator, robust, *, clean=None, **changes):
    """One run a seed; clean accuracy is 30 points above robust."""
    row = {"arm": arm, "dataset": "mnist", "generator": generator, "real": 10}
    row |= {"synthetic": 40 if generator else 0, "selection": "none" if generator else None}
    row |= {"trainer": "trades", "eps": "3/10", "n_test": 100} | changes
    clean = clean or [value + 30 for value in robust]
    return [
        row | {"seed": seed, "clean": a, "robust": b}
        for seed, (a, b) in enumerate(zip(clean, robust, strict=True))
    ]


def contest(gains, **changes):
    """A plain arm and a guided one that is better by `gains`, one a seed."""
    plain = [50 + 3 * seed for seed in range(len(gains))]
    size = f"{changes.get('synthetic', 40)}{changes.get('eps', '')}"
    guided = [a + b for a, b in zip(plain, gains, strict=True)]
    return make_runs(f"plain{size}", "plain", plain, **changes) + make_runs(
        f"guided{size}", "guided", guided, **changes
    )


def judge(test, runs, **parameters):
    return TESTS[test]({"table": as_table(runs, RUN_COLUMNS)}, **BOTH | parameters)


SURE, OPEN, LOSS = [2.0, 2.1, 1.9], [2.0, 1.0, 3.0], [-2.0, -2.1, -1.9]


def test_the_tests_are_those_of_the_module():
    assert set(TESTS) == {"gains_everywhere", "gains_in_most", "ordered_everywhere"}
    assert TESTS.items() <= claims.TESTS.items()


@pytest.mark.parametrize(
    ("others", "verdict", "effect"),
    [
        ([SURE, SURE], "reproduced", 2.0),
        ([SURE, OPEN], "inconclusive", 2.0),  # 2 ± 2.48
        ([SURE, LOSS], "not reproduced", -2.0),
        ([SURE, [2.0, 2.0, 2.0]], "inconclusive", 2.0),  # alike by luck
        ([[2.0]], "inconclusive", 2.0),
    ],
)
def test_a_gain_must_be_certain_in_every_contest(others, verdict, effect):
    runs = [run for i, gains in enumerate(others) for run in contest(gains, synthetic=40 + i)]
    found = judge("gains_everywhere", runs)
    assert found.verdict == verdict
    assert found.effect == pytest.approx(effect)
    assert f"of {2 * len(others)} differences" in found.evidence
    if others[-1] is OPEN:
        assert found.evidence.startswith("4 of 4")


@pytest.mark.parametrize("cell", ["batch", "steps", "shift"])
def test_arms_trained_in_different_ways_are_no_contest(cell):
    runs = make_runs("plain", "plain", [50.0, 53.0, 56.0])
    runs += make_runs("guided", "guided", [60.0, 63.0, 66.0], **{cell: "3"})
    assert judge("gains_everywhere", runs).verdict == "not run"
    runs += make_runs("plain3", "plain", [59.0, 61.0, 65.5], **{cell: "3"})
    assert "guided against plain3" in judge("gains_everywhere", runs).evidence
    # training without synthetic images may be any: it has another number of images as it is
    runs += make_runs("real", None, [49.0, 52.0, 54.5])
    assert "against real" in judge("gains_everywhere", runs, rivals=[None]).evidence


def test_the_worst_contest_is_named_with_its_interval():
    found = judge("gains_everywhere", contest(SURE) + contest([1.0, 1.5, 2.0], synthetic=41))
    # t(2) at 97.5% is 4.302653, times 0.5 / sqrt(3)
    assert (found.low, found.high) == (pytest.approx(0.257931, 1e-4), pytest.approx(2.742069, 1e-4))
    assert "guided41 against plain41" in found.evidence


def test_a_loss_among_many_contests_needs_more():
    # A loss of 2 ± 1.24 alone: wholly below 0 at 95%, no longer at 1 - 0.05 / 20 (± 5.8).
    loss = [-2.0, -1.5, -2.5]
    assert judge("gains_everywhere", contest(loss), measures=["robust"]).verdict == "not reproduced"
    many = [run for i in range(20) for run in contest(SURE if i else loss, synthetic=i + 1)]
    assert judge("gains_everywhere", many, measures=["robust"]).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("contests", "verdict", "bounds"),
    [
        ([SURE, SURE, LOSS], "reproduced", (2 / 3, 2 / 3)),
        ([SURE, OPEN, OPEN], "inconclusive", (1 / 3, 1.0)),
        ([SURE, LOSS, LOSS], "not reproduced", (1 / 3, 1 / 3)),
    ],
)
def test_most_contests_are_counted(contests, verdict, bounds):
    runs = [run for i, gains in enumerate(contests) for run in contest(gains, synthetic=i + 1)]
    found = judge("gains_in_most", runs, threshold=0.5)
    assert (found.verdict, found.low, found.high) == (verdict, *map(pytest.approx, bounds))


def test_both_measures_must_gain_at_once():
    runs = make_runs("p", "plain", [50, 52, 54], clean=[80, 82, 84])
    runs += make_runs("g", "guided", [52, 54.1, 55.9], clean=[78, 80.1, 81.9])
    assert judge("gains_in_most", runs, measures=["robust"], threshold=0.5).effect == 1.0
    found = judge("gains_in_most", runs, threshold=0.5)
    assert (found.effect, found.high, found.verdict) == (0.0, 0.0, "not reproduced")


@pytest.mark.parametrize(
    "change",
    [
        {"eps": "1/10"},
        {"trainer": "pgd"},
        {"synthetic": 41},
        {"real": 11},
        {"selection": "entropy"},
        {"train_on": "synthetic"},
        {"dataset": "gtsrb"},
    ],
)
def test_only_arms_alike_are_compared(change):
    runs = contest(SURE)
    apart = [run | change if run["generator"] == "guided" else run for run in runs]
    found = judge("gains_everywhere", apart)
    assert math.isnan(found.effect)
    assert found.verdict == "not run"
    assert found.evidence == "no arm of guided beside one of plain"


def test_synthetic_images_against_real_ones():
    runs = make_runs("few", None, [40.0, 42.0, 44.0])
    runs += make_runs("all", None, [60.0, 62.0, 64.0], real=50)
    runs += make_runs("mixed", "guided", [50.0, 52.1, 53.9])
    runs += make_runs("alone", "guided", [61.0, 63.1, 64.9], real=50, train_on="synthetic")
    against = {"rivals": [None], "measures": ["robust"]}
    assert judge("gains_everywhere", runs, **against).effect == pytest.approx(1.0)
    mixed = judge("gains_everywhere", runs, **against, train_on="mixed")
    assert (mixed.effect, mixed.verdict) == (pytest.approx(10.0), "reproduced")
    mixed = judge("gains_everywhere", runs, **against, train_on="mixed", real=50)
    assert (mixed.effect, mixed.verdict) == (pytest.approx(-10.0), "not reproduced")
    alone = judge("gains_everywhere", runs, **against, train_on="synthetic", real=50)
    assert (alone.effect, alone.verdict) == (pytest.approx(1.0), "reproduced")


def test_one_of_two_rivals_without_synthetic_images_may_be_meant():
    runs = make_runs("plain", None, [40.0, 42.0, 44.0])
    runs += make_runs("shifted", None, [52.0, 54.3, 55.8])
    runs += make_runs("arm", "guided", [50.0, 52.1, 53.9])
    held = {"rivals": [None], "measures": ["robust"]}
    found = judge("gains_everywhere", runs, **held, against={"arm": ["plain"]})
    assert (found.effect, found.verdict) == (pytest.approx(10.0), "reproduced")
    found = judge("gains_everywhere", runs, **held, against={"arm": ["shifted"]})
    assert (found.effect, found.verdict) == (pytest.approx(-6.1 / 3), "not reproduced")
    assert judge("gains_everywhere", runs, **held).effect == pytest.approx(found.effect)


def test_each_arm_may_be_held_against_its_own_baseline():
    runs = [run | {"baseline": "plain40"} for run in contest(SURE)]
    runs += contest(LOSS, synthetic=41)  # without a baseline: not compared
    found = judge("gains_everywhere", runs, rivals=["baseline"])
    assert (found.effect, found.verdict) == (pytest.approx(2.0), "reproduced")
    assert "2 of 2" in found.evidence


def test_one_eps_can_be_chosen():
    runs = contest(SURE, eps="1/10") + contest(LOSS)
    assert judge("gains_everywhere", runs).verdict == "not reproduced"
    assert judge("gains_everywhere", runs, eps="0.1").verdict == "reproduced"


def test_bad_evidence_is_refused_in_one_line():
    with pytest.raises(InputError, match="2 pieces of evidence"):
        TESTS["gains_everywhere"]({"a": None, "b": None}, **BOTH)
    with pytest.raises(InputError, match="expected mixed or synthetic"):
        judge("gains_in_most", [], train_on="real")
    runs = [run | {"seed": run["seed"] + 9 * (run["arm"] == "guided40")} for run in contest(SURE)]
    with pytest.raises(InputError, match="arms guided40 and plain40 share no seed"):
        judge("gains_everywhere", runs)


def test_a_claim_that_was_not_run_says_so_without_numbers():
    parameters = {"generators": ["guided"], "rivals": ["plain"], "measures": ["robust"]}
    parameters |= {"threshold": 0.0, "level": 0.95}
    claim = {"id": "a", "scope": "t", "statement": "guided is better", "source": "Table 0"}
    claim |= {"test": "gains_everywhere", "evidence": ["t"], "parameters": parameters}
    evidence = {"t": as_table([], RUN_COLUMNS)}
    text = judged_markdown(claims.judge([claim], evidence, scopes=["t"], tests=TESTS))
    assert "1 not run" in text
    assert "| **not run** | – | 0 |" in text
    assert "nan" not in text


def test_generators_in_their_order():
    runs = contest(SURE) + make_runs("best", "best", [55.1, 58.1, 60.8])
    order = {"generators": ["best", "guided", "plain"], "measures": ["robust"]}
    order |= {"threshold": 0.0, "level": 0.95}

    def ordered(runs, **changes):
        table = as_table(runs, RUN_COLUMNS)
        return TESTS["ordered_everywhere"]({"table": table}, **order | changes)

    found = ordered(runs)
    # best over guided: 3.1, 3.0, 2.9; guided over plain: 2, 2.1, 1.9
    assert (found.effect, found.verdict) == (pytest.approx(2.0), "reproduced")
    assert found.evidence.startswith("2 of 2 differences")
    turned = ordered(runs, generators=["best", "plain", "guided"])
    assert (turned.effect, turned.verdict) == (pytest.approx(-2.0), "not reproduced")
    assert ordered(contest(SURE)).verdict == "not run"


def test_a_column_chooses_the_arms():
    small = [run | {"printed": "50K"} for run in contest(SURE)]
    large = [run | {"printed": "1M"} for run in contest(LOSS, synthetic=41)]
    for printed, effect in ((["50K"], 2.0), (["1M"], -2.0), (["50K", "1M"], -2.0)):
        found = judge("gains_everywhere", small + large, where={"printed": printed})
        assert found.effect == pytest.approx(effect)
    most = judge("gains_in_most", small + large, where={"printed": ["50K"]}, threshold=0.5)
    assert most.effect == 1.0
    assert judge("gains_everywhere", small, where={"printed": ["9K"]}).verdict == "not run"
    assert judge("gains_everywhere", small, where={"synthetic": ["40"]}).effect > 0
    with pytest.raises(InputError, match="no column 'prined'"):
        judge("gains_everywhere", contest(SURE), where={"prined": ["50K"]})


def test_a_value_that_is_not_given_makes_no_difference():
    runs = [run | ({"clean": None} if run["generator"] == "plain" else {}) for run in contest(SURE)]
    found = judge("gains_everywhere", runs)
    assert "1 of 1 differences" in found.evidence
    assert judge("gains_in_most", runs, measures=["robust"]).effect == 1.0
    for test in TESTS_OF_TWO:
        assert judge(test, runs, measures=["clean"]).verdict == "not run"


# ---------------------------------------------------------------- attacks
def attacked(runs, attacks, **changes):
    """The runs, each arm's generator attacked as `attacks` says."""
    return [run | {"attack": attacks[run["generator"]]} | changes for run in runs]


TESTS_OF_TWO = ("gains_everywhere", "gains_in_most")
ALIKE = {"plain": "standard 0123abcd", "guided": "standard 0123abcd"}
UNLIKE = ALIKE | {"guided": "aa+mt 4567cdef"}


@pytest.mark.parametrize("test", TESTS_OF_TWO)
def test_runs_of_different_attacks_are_compared_only_where_allowed(test):
    plain = judge(test, contest(SURE))  # as recorded before runs named their attack
    assert judge(test, attacked(contest(SURE), ALIKE, mixed_attacks=None)) == plain
    said = r"arms guided40 and plain40 were attacked in different ways \(aa\+mt 4567cdef, standard"
    for barred in ({}, {"mixed_attacks": None}):
        with pytest.raises(InputError, match=said) as error:
            judge(test, attacked(contest(SURE), UNLIKE, **barred))
        assert "\n" not in str(error.value)
    found = judge(test, attacked(contest(SURE), UNLIKE, mixed_attacks="yes"))
    assert found.evidence.endswith(
        "; attacks are mixed, so robust accuracies are not one measure: arms guided40 and plain40 "
        "(aa+mt 4567cdef, standard 0123abcd)"
    )
    assert (found.verdict, found.effect) == (plain.verdict, plain.effect)


def test_one_seed_attacked_in_another_way_is_enough():
    runs = attacked(contest(SURE), ALIKE)
    runs[0]["mixed_attacks"] = "yes"  # one run's permission is not the table's
    runs[-1]["attack"] = None  # a run whose attack is not known among those whose is
    with pytest.raises(InputError, match=r"different ways \(not named, standard 0123abcd\)"):
        judge("gains_everywhere", runs)


def test_attacks_may_differ_between_eps_and_where_only_clean_accuracy_is_compared():
    other = dict.fromkeys(UNLIKE, "standard 89ab0123")
    runs = attacked(contest(SURE), ALIKE) + attacked(contest(SURE, eps="1/10"), other)
    assert judge("gains_everywhere", runs).verdict == "reproduced"
    found = judge("gains_everywhere", attacked(contest(SURE), UNLIKE), measures=["clean"])
    assert "mixed" not in found.evidence
    order = {"generators": ["guided", "plain"], "measures": ["robust"]}
    table = as_table(attacked(contest(SURE), UNLIKE), RUN_COLUMNS)
    with pytest.raises(InputError, match="in different ways"):
        TESTS["ordered_everywhere"]({"table": table}, **order, threshold=0.0, level=0.95)
