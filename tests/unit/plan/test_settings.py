"""Layers, schemas and rows: what they give, and the one line in which each says no."""

import pytest

from contrastdp.errors import InputError
from contrastdp.plan.settings import (
    cells_over,
    choose,
    columns,
    described,
    merge,
    parse_rows,
    validate,
)

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["training"],
    "properties": {
        "training": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "beta": {"type": "number", "minimum": 0},
                "steps": {"type": "integer", "minimum": 1},
                "loss": {"enum": ["trades", "pgd"]},
                "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            },
        }
    },
}


EPS = {"properties": {"eps": {"type": "string", "format": "fraction"}}}


def told(call, *arguments):
    with pytest.raises(InputError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_later_layers_win_and_mappings_merge():
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merge(base, {"a": {"y": [3]}}, {"b": {"z": 0}}) == {
        "a": {"x": 1, "y": [3]},
        "b": {"z": 0},
    }
    assert base == {"a": {"x": 1, "y": [1, 2]}, "b": 1}


def test_settings_that_fit_pass():
    validate({"training": {"beta": 6.0, "steps": 10, "loss": "trades", "share": 1}}, SCHEMA, "f")


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"betaa": 6}, ["f.yaml", "training.betaa", "did you mean beta?"]),
        ({"colour": 6}, ["training.colour", "known: beta, loss, share, steps"]),
        ({"beta": -1}, ["training.beta", "-1", "at least 0"]),
        ({"share": 0}, ["training.share", "above 0"]),
        ({"share": 2}, ["training.share", "at most 1"]),
        ({"steps": 1.5}, ["training.steps", "1.5", "integer"]),
        ({"steps": "ten"}, ["training.steps", "'ten'"]),
        ({"loss": "mart"}, ["training.loss", "mart", "trades, pgd"]),
    ],
)
def test_a_setting_that_does_not_fit_is_named(training, words):
    line = told(validate, {"training": training}, SCHEMA, "f.yaml")
    assert all(word in line for word in words), line


def test_a_missing_key_is_named():
    assert "training" in told(validate, {}, SCHEMA, "f.yaml")


@pytest.mark.parametrize("text", ["8/255", "1/10", "3/10"])
def test_fractions_inside_the_pixel_range(text):
    validate({"eps": text}, EPS, "f")


@pytest.mark.parametrize("text", ["0/1", "1/1", "9/8", "8/0", "eight", ""])
def test_an_eps_outside_is_refused(text):
    assert f"f.yaml: eps is '{text}'; " in told(validate, {"eps": text}, EPS, "f.yaml")
    assert told(validate, {"eps": "9/8"}, EPS, "f").endswith(
        "; it must lie inside (0, 1), pixels span [0, 1]"
    )


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"steps": 10.0}, "training.steps is 10.0; it must be of type integer"),
        ({"steps": True}, "training.steps is True"),
        ({"beta": True}, "training.beta is True"),
        ({"beta": float("nan")}, "training.beta is nan; it must be a finite number"),
        ({"beta": float("inf")}, "training.beta is inf"),
        ({"loss": "trade"}, "did you mean trades?"),
    ],
)
def test_what_json_takes_and_a_job_does_not_is_refused(training, words):
    assert words in told(validate, {"training": training}, SCHEMA, "f.yaml")


# ---------------------------------------------------------------- columns
DEFINITIONS = {
    "eps": {"type": "string", "format": "fraction"},
    "count": {"type": "integer", "minimum": 1},
    "sampler": {
        "properties": {
            "steps": {"$ref": "#/$defs/count", "description": "of the chain"},
            "spacing": {"enum": ["even", "uniform"]},
        }
    },
    "sections": {"training": {"properties": {"flip": {"type": "boolean"}}}},
    "row": {
        "name": {"type": "string"},
        "steps": {"$ref": "#/$defs/sampler/properties/steps"},
        "spacing": {"$ref": "#/$defs/sampler/properties/spacing"},
        "flip": {"$ref": "#/$defs/sections/training/properties/flip"},
        "eps": {"$ref": "#/$defs/eps"},
        "share": {"type": "number"},
    },
}


def test_a_column_has_the_type_of_what_it_refers_to():
    types = {"name": str, "steps": int, "spacing": str, "flip": bool, "eps": str, "share": float}
    assert columns(DEFINITIONS, "row") == types


def test_cells_stand_over_the_settings_that_their_columns_refer_to():
    over = {"sampler": ("steps", "spacing"), "training": ("flip",)}
    assert cells_over(DEFINITIONS, "row") == over


def test_an_entry_is_described_by_its_own_words_before_those_it_refers_to():
    found = described(DEFINITIONS, DEFINITIONS["row"]["steps"])
    assert found == {"type": "integer", "minimum": 1, "description": "of the chain"}


# ---------------------------------------------------------------- rows
COLUMNS = {"name": str, "count": int, "rate": float, "head": bool}


def row(**cells):
    return {"name": "a", "count": "1", "rate": "", "head": ""} | cells


def test_cells_are_typed_and_empty_cells_are_none():
    (parsed,) = parse_rows([row(count=" 3 ", head="yes")], COLUMNS, ["name"], "t")
    assert parsed == {"name": "a", "count": 3, "rate": None, "head": True}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(count="many")], ["line 2", "count", "many", "whole number"]),
        ([row(head="true")], ["line 2", "head", "yes or no"]),
        ([row(), row(name="b"), row()], ["line 4", "repeats", "line 2"]),
        ([row(name="")], ["line 2", "name"]),
        ([{"name": "a", "cuont": "1", "rate": "", "head": ""}], ["cuont", "count"]),
        ([{"name": "a"}], ["count", "missing"]),
    ],
)
def test_rows_that_do_not_fit_are_named(rows, words):
    line = told(parse_rows, rows, COLUMNS, ["name"], "arms.tsv")
    assert all(word in line for word in ["arms.tsv", *words]), line


def test_choose_names_the_nearest():
    assert choose("ddim", ["ddim", "ddpm"], "generator", "t") == "ddim"
    assert "did you mean ddim?" in told(choose, "dim", ["ddim", "xyz"], "generator", "arms.tsv")


def test_another_architecture_replaces_the_networks_sizes():
    base = {"network": {"architecture": "small_cnn", "width": 16}, "steps": 5}
    same = merge(base, {"network": {"width": 8}})
    assert same["network"] == {"architecture": "small_cnn", "width": 8}
    named = merge(base, {"network": {"architecture": "small_cnn", "features": 3}})
    assert named["network"] == {"architecture": "small_cnn", "width": 16, "features": 3}
    other = merge(base, {"network": {"architecture": "wide_resnet", "depth": 10}})
    assert other == {"network": {"architecture": "wide_resnet", "depth": 10}, "steps": 5}


def test_a_row_that_a_spreadsheet_emptied_is_none():
    empty = dict.fromkeys(COLUMNS, "") | {"name": " "}
    rows = [row(), empty, row(name="b"), empty]
    assert [found["name"] for found in parse_rows(rows, COLUMNS, ["name"], "t")][1:] == ["b"]
    with pytest.raises(InputError, match="t, line 4"):
        parse_rows([row(), empty, row()], COLUMNS, ["name"], "t")
