"""Random-direction twins of guided arms: which arms get one, where, and what it shares."""

import pytest

from contrastdp.errors import InputError
from contrastdp.plan.twins import ALIKE, with_twins


def generator(name, **cells):
    row = {"generator": name, "title": name.upper(), "guidance": None, "direction": None}
    return row | {"lambda": None} | cells


def arm(name, generator, *, tables, **cells):
    row = dict.fromkeys(ALIKE) | {"arm": name, "title": name.upper(), "baseline": "plain"}
    row |= {"generator": generator, "reported": "t2", "tables": tables}
    return row | cells


GENERATORS = {
    row["generator"]: row
    for row in (
        generator("ddim"),
        generator("hnm", guidance="hnm"),
        generator("strong", guidance="hnm", **{"lambda": 9.0}),
        generator("noise", guidance="hnm", direction="random"),
        generator("classifier", guidance="classifier"),
    )
}


def guidance(dataset, name):
    row = GENERATORS[name]
    if row["guidance"] is None:
        return None
    return {"lambda": row["lambda"], "direction": row["direction"] or "gradient"}


def twinned(*rows, tables=("main",), generators=GENERATORS):
    arms = {row["arm"]: row for row in rows}
    return with_twins(arms, generators, tables=tables, guidance=guidance)


def test_a_guided_arm_gets_a_twin_that_differs_in_the_direction_alone():
    guided = arm("guided", "strong", tables={"main": [3, 4]}, real=200, synthetic=500, steps=7)
    arms, generators = twinned(guided, arm("plain", "ddim", tables={"main": [3, 4]}))
    assert list(arms) == ["guided", "guided_random", "plain"]
    twin = arms["guided_random"]
    changed = {column for column in guided if twin[column] != guided[column]}
    assert changed == {"arm", "title", "generator", "reported"}
    made, origin = generators[twin["generator"]], GENERATORS["strong"]
    assert made["direction"] == "random"
    assert {column for column in origin if made[column] != origin[column]} == {
        *("generator", "title", "direction")
    }


def test_plain_real_and_random_arms_get_none():
    rows = [
        arm(name, name if name in GENERATORS else None, tables={"main": [0]})
        for name in ("ddim", "real", "noise")
    ]
    arms, generators = twinned(*rows)
    assert list(arms) == ["ddim", "real", "noise"]
    assert generators == GENERATORS


def test_an_arm_guided_by_a_classifier_gets_one_too():
    arms, generators = twinned(arm("classifier", "classifier", tables={"main": [0]}))
    made = generators[arms["classifier_random"]["generator"]]
    assert (made["guidance"], made["direction"]) == ("classifier", "random")


def test_only_the_named_tables_have_twins():
    arms, _ = twinned(arm("guided", "strong", tables={"main": [0, 1], "other": [5]}))
    assert arms["guided_random"]["tables"] == {"main": [0, 1]}
    arms, generators = twinned(arm("guided", "strong", tables={"other": [5]}))
    assert list(arms) == ["guided"]
    assert generators == GENERATORS


def test_an_arm_that_is_a_twin_already_stands_for_it():
    rows = [arm("guided", "hnm", tables={"main": [0, 1]}), arm("mine", "noise", tables={"x": [7]})]
    arms, generators = twinned(*rows)
    assert list(arms) == ["guided", "mine"]
    assert arms["mine"]["tables"] == {"x": [7], "main": [0, 1]}
    assert generators == GENERATORS
    assert rows[1]["tables"] == {"x": [7]}  # the rows given stay as they were


@pytest.mark.parametrize("column", ALIKE)
def test_an_arm_that_differs_in_anything_else_is_no_twin(column):
    other = arm("mine", "noise", tables={"main": [0]}) | {column: "another"}
    if column == "generator":
        other[column] = "ddim"
    arms, _ = twinned(arm("guided", "hnm", tables={"main": [0]}), other)
    assert list(arms) == ["guided", "guided_random", "mine"]
    assert arms["guided_random"]["generator"] == "noise"  # the generator is shared where it fits


def test_two_arms_of_a_generator_share_their_twins_generator():
    rows = [arm(f"guided{n}", "strong", tables={"main": [0]}, synthetic=n) for n in (1, 2)]
    arms, generators = twinned(*rows)
    names = {arms[f"guided{n}_random"]["generator"] for n in (1, 2)}
    assert names == {"strong_random"}
    assert len(generators) == len(GENERATORS) + 1


def test_a_name_that_is_taken_is_told():
    rows = [arm("guided", "strong", tables={"main": [0]}), arm("guided_random", "ddim", tables={})]
    with pytest.raises(InputError, match="arm 'guided_random': the name is that of a random"):
        twinned(*rows)
    taken = GENERATORS | {"strong_random": generator("strong_random")}
    with pytest.raises(InputError, match="generator 'strong_random': the name"):
        twinned(rows[0], generators=taken)
