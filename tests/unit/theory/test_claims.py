"""Tests of section 3's claims on evidence whose verdict is known."""

import pytest
from theorem_rows import theorem_rows

from contrastdp.errors import InputError
from contrastdp.frames import as_table
from contrastdp.theory import claims, tables

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
        for n in (10, 20):
            for source, value in (("1", 0.7), ("1.5", 0.7 + gain)):
                place = {"table": table, "angle": "0", "source": source, "n": n}
                reported.append(place | {"rob": value})
                cells += [
                    place
                    | {"variant": variant, "regeneration": r}
                    | {"robust": value + noise * (-1) ** (r + (source == "1"))}
                    for r in range(21)
                    for variant in ("fitted", "as_printed")
                ]
    return {"cells": as_table(cells, tables.CELLS), "reported": as_table(reported, tables.PRINTED)}


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
    cells = evidence["cells"]
    planted = evidence | {"cells": cells.replace({"source": {"1": "1.5", "1.5": "1"}})}
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
    row = {"table": "4", "variant": "fitted", "cells": 32, "points": 0.3, "points_low": 0.1}
    row |= {"points_high": 0.4, "within_2se": 0.98, "p_fit": 0.5, "largest_z": 2.1}
    row |= {"largest_z_allowed": 3.9, "verdict": words}
    test = claims.TESTS["table_agrees"]
    evidence = {"verdicts": as_table([row], tables.VERDICTS)}
    assert test(evidence, variant="fitted", table="4").verdict == verdict
    with pytest.raises(InputError, match="no row for table 5"):
        test(evidence, variant="fitted", table="5")


def _curve(values, se=0.001):
    """One proposition curve: angle -> error."""
    rows = [
        {"error": "standard", "model": "limit", "real": 10, "c": 1.0, "angle": a}
        | {"from_0": v - values[0], "from_0_se": se, "from_90": v - values[90], "from_90_se": se}
        for a, v in values.items()
    ]
    return {"proposition": as_table(rows, tables.PROPOSITION)}


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
        {"error": "robust", "model": "limit", "real": 10, "c": c, "angle": 0}
        | {"from_smaller_c": step, "from_smaller_c_se": 0.001}
        for c, step in zip((2, 3), steps, strict=True)
    ]
    rows.append(rows[0] | {"c": 1, "from_smaller_c": None, "from_smaller_c_se": None})
    evidence = {"proposition": as_table(rows, tables.PROPOSITION)}
    found = claims.TESTS["falls_with_c"](
        evidence, error="robust", model="limit", threshold=0.0, z=3
    )
    assert (found.effect, found.verdict) == (max(steps), verdict)


def test_fewer_samples_with_c():
    test = claims.TESTS["fewer_needed_with_c"]
    falling = test(theorem_rows((None, 100, 20), (-2.0, -2.2, -1.8)), threshold=0.0)
    assert falling.verdict == "reproduced" and falling.effect == -2.0
    rising = test(theorem_rows((20, 100, 300), (2.0, 1.8, 2.2)), threshold=0.0)
    assert rising.verdict == "not reproduced"
    uneven = test(theorem_rows((100, 120, 20), (-1.2, -1.5, -0.9)), threshold=0.0)
    assert uneven.verdict == "inconclusive" and "1 of 1 curves" in uneven.evidence
