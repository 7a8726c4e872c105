"""The tests that decide claims, on evidence whose answer is known."""

import pytest

from contrastdp import claims
from contrastdp.records import InputError

LARGER = {
    "variant": "fitted",
    "measure": "robust",
    "pairs": [["1.5", "1"]],
    "blocks": ["4/0", "6/0"],
    "threshold": 0.5,
    "level": 0.95,
    "resamples": 200,
    "seed": 0,
}


def _tables(gain, noise=0.001):
    """Cells in which c = 1.5 is `gain` better than c = 1, with printed values that agree."""
    cells, reported = [], []
    for table in ("4", "6"):
        for n in ("10", "20"):
            for source, value in (("1", 0.7), ("1.5", 0.7 + gain)):
                place = {"table": table, "angle": "0", "source": source, "n": n}
                reported.append(place | {"rob": str(value)})
                cells += [
                    place
                    | {"variant": variant, "regeneration": str(r)}
                    | {"robust": str(value + noise * (-1) ** (r + (source == "1")))}
                    for r in range(21)
                    for variant in ("fitted", "as_printed")
                ]
    return {"cells": cells, "reported": reported}


def test_a_gain_in_every_cell_is_reproduced():
    found = claims.TESTS["larger_in_most_cells"](_tables(0.05), **LARGER)
    assert (found.effect, found.low, found.high) == (1, 1, 1)
    assert found.verdict == "reproduced"
    assert "4 comparisons" in found.evidence and "tables 1.00" in found.evidence


def test_a_loss_in_every_cell_is_not_reproduced_and_told():
    found = claims.TESTS["larger_in_most_cells"](_tables(-0.05), **LARGER)
    assert found.verdict == "not reproduced"
    assert "4/0 (2), 6/0 (2)" in found.evidence


def test_no_gain_is_inconclusive():
    assert claims.TESTS["larger_in_most_cells"](_tables(0.0), **LARGER).verdict == "inconclusive"


def test_swapped_sources_turn_the_verdict():
    evidence = _tables(0.05)
    swap = {"1": "1.5", "1.5": "1"}
    planted = evidence | {
        "cells": [row | {"source": swap[row["source"]]} for row in evidence["cells"]]
    }
    assert claims.TESTS["larger_in_most_cells"](planted, **LARGER).verdict == "not reproduced"


def test_parameters_that_choose_nothing_are_told():
    with pytest.raises(InputError, match="none compares"):
        claims.TESTS["larger_in_most_cells"](_tables(0.05), **LARGER | {"blocks": ["9/0"]})


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        ("reproduced", "reproduced"),
        ("reproduced but for 1 cell(s)", "inconclusive"),
        ("not reproduced", "not reproduced"),
    ],
)
def test_table_verdicts_become_claims(words, verdict):
    row = {"table": "4", "variant": "fitted", "cells": "32", "points": "0.3", "points_low": "0.1"}
    row |= {"points_high": "0.4", "within_2se": "0.98", "p_fit": "0.5", "largest_z": "2.1"}
    row |= {"largest_z_allowed": "3.9", "verdict": words}
    test = claims.TESTS["table_agrees"]
    assert test({"verdicts": [row]}, variant="fitted", table="4").verdict == verdict
    with pytest.raises(InputError, match="no row for table 5"):
        test({"verdicts": [row]}, variant="fitted", table="5")


def _curve(values, se=0.001):
    """One proposition curve: angle -> error."""
    return {
        "proposition": [
            {"error": "standard", "model": "limit", "real": "10", "c": "1.0", "angle": str(a)}
            | {"from_0": str(v - values[0]), "from_0_se": str(se)}
            | {"from_90": str(v - values[90]), "from_90_se": str(se)}
            | {"from_smaller_c": "", "from_smaller_c_se": ""}
            for a, v in values.items()
        ]
    }


@pytest.mark.parametrize(
    ("values", "extreme", "angle", "verdict"),
    [
        ({-90: 0.5, 0: 0.1, 45: 0.3, 90: 0.5}, "max", 90, "reproduced"),
        ({-90: 0.3, 0: 0.1, 45: 0.4, 90: 0.3}, "max", 90, "not reproduced"),
        ({-90: 0.5, 0: 0.1, 45: 0.5, 90: 0.5}, "max", 90, "inconclusive"),
        ({-90: 0.5, 0: 0.1, 45: 0.3, 90: 0.5}, "min", 0, "reproduced"),
        ({-90: 0.5, 0: 0.1, -10: 0.05, 90: 0.5}, "min", 0, "not reproduced"),
    ],
)
def test_extremes_over_angles(values, extreme, angle, verdict):
    settings = {"error": "standard", "model": "limit", "threshold": 0.001, "z": 3}
    found = claims.TESTS["extreme_at_angle"](
        _curve(values), angle=angle, extreme=extreme, **settings
    )
    assert found.verdict == verdict
    assert found.low <= found.effect <= found.high


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        ((-0.05, -0.02), "reproduced"),
        ((-0.05, 0.02), "not reproduced"),
        ((-0.05, -0.001), "inconclusive"),
    ],
)
def test_falling_with_c(steps, verdict):
    rows = [
        {"error": "robust", "model": "limit", "real": "10", "c": c, "angle": "0"}
        | {"from_smaller_c": str(step), "from_smaller_c_se": "0.001"}
        for c, step in zip(("2", "3"), steps, strict=True)
    ]
    rows.append(rows[0] | {"c": "1", "from_smaller_c": "", "from_smaller_c_se": ""})
    found = claims.TESTS["falls_with_c"](
        {"proposition": rows}, error="robust", model="limit", threshold=0.0, z=3
    )
    assert (found.effect, found.verdict) == (max(steps), verdict)


def _needed(counts, slope):
    shared = {"real": "20", "target": "0.8"}
    rows = [
        shared | {"quantity": "needed", "c": str(c), "value": str(n)}
        for c, n in zip((0.5, 1, 2), counts, strict=True)
    ]
    names = ("value", "low", "high")
    fit = dict(zip(names, map(str, slope), strict=True))
    return {"theorem": [*rows, shared | {"quantity": "exponent", "c": ""} | fit]}


def test_fewer_samples_with_c():
    test = claims.TESTS["fewer_needed_with_c"]
    falling = test(_needed(("", 100, 20), (-2.0, -2.2, -1.8)), threshold=0.0)
    assert falling.verdict == "reproduced" and falling.effect == -2.0
    rising = test(_needed((20, 100, 300), (2.0, 1.8, 2.2)), threshold=0.0)
    assert rising.verdict == "not reproduced"
    uneven = test(_needed((100, 120, 20), (-1.2, -1.5, -0.9)), threshold=0.0)
    assert uneven.verdict == "inconclusive" and "1 of 1 curves" in uneven.evidence


# ---------------------------------------------------------------- judging
def _claim(**changes):
    claim = {
        "id": "one",
        "scope": "theory",
        "statement": "a | b",
        "source": "section 3",
        "test": "fewer_needed_with_c",
        "evidence": ["theorem"],
        "parameters": {"threshold": 0.0},
    }
    return claim | changes


EVIDENCE = _needed((300, 100, 20), (-2.0, -2.2, -1.8))


def test_claims_of_other_scopes_wait():
    rows = claims.judge(
        [_claim(), _claim(id="two", scope="toy", evidence=["absent"])], EVIDENCE, scopes=["theory"]
    )
    assert [row["id"] for row in rows] == ["one"]
    assert set(rows[0]) == set(claims.COLUMNS)
    text = claims.markdown(rows)
    assert text.startswith("Of 1 claims: 1 reproduced") and "a \\| b" in text


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ([_claim(test="other")], "unknown test"),
        ([_claim(), _claim()], "stands twice"),
        ([_claim(evidence=["tables"])], "needs the evidence 'tables'"),
        ([_claim(parameters={"treshold": 0})], "parameters of fewer_needed_with_c"),
        ([_claim(note="x")], "unknown keys"),
        ([_claim(scope="toy")], "no claim has scope 'theory'"),
    ],
)
def test_bad_claims_are_told_in_one_line(listed, words):
    with pytest.raises(InputError, match=words) as caught:
        claims.judge(listed, EVIDENCE, scopes=["theory"])
    assert "\n" not in str(caught.value)


def test_a_later_section_can_add_a_test():
    def always(evidence, *, threshold):
        return claims.Verdict(1, 1, 1, "", threshold, "reproduced", str(sorted(evidence)))

    rows = claims.judge(
        [_claim(test="always")], EVIDENCE, scopes=["theory"], tests={"always": always}
    )
    assert rows[0]["verdict"] == "reproduced" and rows[0]["evidence"] == "['theorem']"
    with pytest.raises(ValueError, match="two claim tests"):
        claims.claim_test(claims.TESTS["falls_with_c"])
