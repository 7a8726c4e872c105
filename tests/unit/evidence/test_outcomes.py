"""Tests of outcomes: an evaluation by more attacks read as one by the first of them."""

import pandas as pd
import pytest

from contrastdp.attack.versions import AA_MT, STANDARD, VERSIONS, is_broken
from contrastdp.errors import InputError
from contrastdp.evidence.outcomes import as_version, images_as_version


def evaluation(attacks, version, broken):
    """Ten images, one unattacked error; broken: how many each attack breaks."""
    left, after = 9, {}
    for name, count in zip(attacks, broken, strict=True):
        left -= count
        after[name] = left / 10
    return {
        "arm": "a",
        "seed": 3,
        "clean_accuracy": 0.9,
        "robust_accuracy": left / 10,
        "accuracy_after": after,
        "seconds": dict.fromkeys(attacks, 1.0),
        "attack": {
            "version": version,
            "attacks": list(attacks),
            "eps": "8/255",
            "iterations": dict.fromkeys(attacks, 100),
            **({"budget": {"mt_steps": 20}} if "mt" in attacks else {}),
        },
    }


def test_the_worst_case_holds_the_standard_result():
    worst = evaluation(STANDARD + AA_MT, "worst", [2, 1, 0, 1, 1, 0, 2])
    assert as_version(worst, "standard") == evaluation(STANDARD, "standard", [2, 1, 0, 1])
    assert worst["robust_accuracy"] == 0.2  # untouched


def test_the_last_checkpoint_is_read_as_the_same_version():
    worst = evaluation(STANDARD + AA_MT, "worst", [2, 1, 0, 1, 1, 0, 2])
    other = evaluation(STANDARD + AA_MT, "worst", [1, 1, 0, 2, 3, 0, 0])
    kept = ("clean_accuracy", "robust_accuracy", "accuracy_after", "seconds")
    found = as_version(worst | {"last": {key: other[key] for key in kept}}, "standard")
    expected = evaluation(STANDARD, "standard", [1, 1, 0, 2])
    assert found.pop("last") == {key: expected[key] for key in kept}
    assert found == as_version(worst, "standard")


def test_images_broken_by_later_attacks_are_robust_to_the_first():
    images = pd.DataFrame({"index": range(4), "broken_by": ["", "clean", "square", "mt"]})
    broken = list(images_as_version(images, "standard")["broken_by"])
    assert broken == ["", "clean", "square", ""]
    assert images_as_version(images, "worst").equals(images)


def test_a_version_is_itself():
    standard = evaluation(STANDARD, "standard", [2, 1, 0, 1])
    assert as_version(standard, "standard") is standard


@pytest.mark.parametrize(("have", "version"), [("standard", "worst"), ("worst", "aa+mt")])
def test_attacks_that_did_not_run_first_are_refused(have, version):
    attacks = {"standard": STANDARD, "worst": STANDARD + AA_MT}[have]
    content = evaluation(attacks, have, [0] * len(attacks))
    with pytest.raises(InputError, match=f"arm a, seed 3: was attacked by {have}, .*run it again"):
        as_version(content, version)


def test_the_order_of_attacks_is_autoattacks_and_worst_begins_with_it():
    """Croce & Hein (2020), section 4: APGD-CE, targeted APGD-DLR, targeted FAB, Square."""
    assert VERSIONS["standard"] == ("apgd-ce", "apgd-t", "fab-t", "square")
    assert VERSIONS["worst"] == VERSIONS["standard"] + VERSIONS["aa+mt"]


def test_only_an_attack_breaks_an_image():
    assert [is_broken(by) for by in ("", "clean", "square")] == [False, False, True]
