"""Every number that a user writes is finite and bounded, and every name fits a path."""

import time

import one_line
import pytest
from configuration import add_arm, edit, told, with_row
from hypothesis import given, settings
from hypothesis import strategies as st
from resolved_plans import CONFIG, resolved

from contrastdp.plan.extent import IMAGES, JOBS, Asked, check_jobs, jobs
from contrastdp.plan.settings import columns, described, parse_rows, validate
from contrastdp.plan.yaml_files import read_yaml, typed

DEFINITIONS = read_yaml(CONFIG / "schema.yaml")["$defs"]


# ---------------------------------------------------------------- every number of the schema
def numbers(node, place=""):
    """(place, entry) of each numeric entry of the schema, at any depth."""
    if isinstance(node, dict):
        kinds = node.get("type", [])
        if {"integer", "number"} & {*([kinds] if isinstance(kinds, str) else kinds)}:
            yield place, node
        for key, inner in node.items():
            yield from numbers(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(node, list):
        for key, inner in enumerate(node):
            yield from numbers(inner, f"{place}.{key}")


NUMBERS = dict(numbers(DEFINITIONS))
LOWER, UPPER = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
ENDLESS = st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e300, -1e300, 10**400]) | (
    st.integers(min_value=10**13) | st.floats(min_value=1e13) | st.floats(max_value=-1e13)
)


def test_the_schema_has_many_numbers():
    assert len(NUMBERS) > 30


@pytest.mark.parametrize("place", NUMBERS)
@settings(deadline=None)
@given(value=ENDLESS)
def test_no_number_is_without_bounds(place, value):
    entry = NUMBERS[place]
    assert any(key in entry for key in LOWER)
    assert any(key in entry for key in UPPER)
    line = one_line.told(validate, value, {"$defs": DEFINITIONS, **entry}, "config/x.yaml")
    assert line.startswith("config/x.yaml: settings is ")
    assert len(line) < 400


@pytest.mark.parametrize("sheet", ["generator", "arm"])
@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e300", "9" * 400, "9" * 5000, "1_000"])
def test_no_cell_is_without_bounds(sheet, text):
    types = columns(DEFINITIONS, sheet)
    numeric = [name for name, kind in types.items() if kind in (int, float)]
    assert len(numeric) > 4
    for name in numeric:
        row = dict.fromkeys(types, "") | {sheet: "a", name: text}

        def checked(row=row):
            (found,) = parse_rows([row], types, [sheet], "t.tsv")
            part = {key: value for key, value in found.items() if value is not None}
            validate(part, {"$defs": DEFINITIONS, "properties": DEFINITIONS[sheet]}, "t.tsv")

        assert name in one_line.told(checked), name


NEVER = (".nan", ".inf", "-.inf", "1e400", "1" * 400, "1" * 5000)


@pytest.mark.parametrize("text", NEVER)
def test_a_file_holds_finite_numbers(tmp_path, text):
    """theory.yaml and claims.yaml too, whose nested settings no schema describes."""
    path = tmp_path / "config.yaml"
    path.write_text(f"a:\n  b: [1, {text}]\n", encoding="utf-8")
    line = one_line.told(read_yaml, path)
    assert line.startswith(f"{path}, line 2: {text[:40]}")
    assert "is no finite number" in line
    assert "is no finite number" in one_line.told(typed, {"a": [text]})


def test_a_date_that_no_calendar_has_is_text(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: 2021-13-45\n", encoding="utf-8")
    assert read_yaml(path) == {"a": "2021-13-45"}


def test_text_of_the_command_line_that_is_no_yaml():
    assert "which is neither JSON nor YAML" in one_line.told(typed, {"a": "[1, 2"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, 10**400])
@pytest.mark.parametrize("key", ["learning_rate", "weight_decay", "momentum", "batch", "steps"])
def test_a_number_of_the_command_line_is_named(folder, key, value):
    line = told(folder, training={key: value})
    assert line.startswith(f"--config or --configfile: training.{key} is ")


# ---------------------------------------------------------------- how much arises
IMAGES_OF = {"generator": "ddim", "selection": "none", "candidates": "1", "synthetic": "60"}


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"synthetic": "1000000000"}, "synthetic is 1000000000; it must be at most"),
        ({"synthetic": "60000000"}, "jobs would arise"),
        ({"candidates": "1e300"}, "candidates is 1e+300; it must be at most 1000"),
        ({"synthetic": "300000", "candidates": "1000"}, "jobs would arise"),
        ({"seeds": "1000000"}, "seeds is 1000000; it must be at most 1000"),
        ({"tables": "robustness:0-999999999"}, "a table shows at most 1000 seeds"),
        ({"tables": "robustness:0-99999999999999"}, "write robustness or robustness:3-14"),
        ({"batch": "1000000000000"}, "batch is 1000000000000; it must be at most"),
        ({"batch": "5000"}, "batch is 5000; there are 1097 images"),
        ({"shift": "8"}, "shift is 8; it must be below the image's side, 8"),
    ],
)
def test_a_slip_of_the_hand_is_told_within_seconds(folder, cells, words):
    add_arm(folder, arm="other", **IMAGES_OF | cells)
    began = time.process_time()
    line = told(folder)
    last = len((folder / "arms.tsv").read_text(encoding="utf-8").splitlines())
    assert line.startswith(f"config/arms.tsv, line {last} (other): ")
    assert words in line
    assert time.process_time() - began < 10


def test_jobs_are_told_of_a_small_shard(folder):
    line = told(folder, sampling={"batch": 2, "shard": 2}, report={"samples": 2})
    assert "jobs would arise" in line
    assert f"and {JOBS:,} are the most" in line


@pytest.mark.parametrize("settings", [
    {"classifiers": {"labeler": {"batch": 10**6}}},
    {"denoisers": {"unconditional": {"training": {"batch": 10**6}}}},
])  # fmt: skip
def test_a_batch_holds_no_more_than_there_is(folder, settings):
    assert "batch is 1000000; there are 1097 images" in told(folder, **settings)


def asked(**changed):
    given = {"seeds": {0, 1}, "images": "a", "candidates": 9, "shards": 3, "attacks": 4}
    return Asked(**given | changed)


def test_shards_that_arms_share_are_counted_once():
    alone = jobs({"a": asked()})
    assert alone == {"a": 2 * (4 + 6) + 2 * 3 * 2}
    both = jobs({"a": asked(), "b": asked(shards=5)})
    assert both == {"a": 2 * (4 + 6), "b": 2 * (4 + 6) + 2 * 5 * 2}
    assert jobs({"a": asked(images=None, shards=0)}) == {"a": 20}


def test_the_arm_with_most_jobs_is_named():
    arms = {"a": asked(), "b": asked(shards=JOBS)}
    line = one_line.told(check_jobs, arms, {"b": "arms.tsv, line 7 (b)"})
    assert line.startswith("arms.tsv, line 7 (b): about ")
    line = one_line.told(check_jobs, {"a": asked(candidates=IMAGES + 1)}, {})
    assert f"a: it chooses from {IMAGES + 1:,} images" in line


@pytest.mark.parametrize("scale", ["smoke", "demo", "reduced", "workstation", "paper"])
def test_every_scale_of_ours_is_within_bounds(scale):
    assert resolved(scale=scale).arms


# ---------------------------------------------------------------- names
EVIL = ["../../evil", "a{b", "a[b", "a/b", "a b", "A", "", "é", "a.b", "a" * 81, "a\n", "-"]
MAPPINGS = ["classifiers", "denoisers", "samplers", "guidances", "trainers"]


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("section", MAPPINGS)
def test_a_key_that_becomes_a_path_is_a_name(folder, section, name):
    line = told(folder, **{section: {name: {}}})
    assert line.startswith(f"--config or --configfile: {section}, name is {name!r}; ")
    assert "small letters (a to z), digits and underscores" in line


@pytest.mark.parametrize("name", [name for name in EVIL if name.strip() == name != ""])
@pytest.mark.parametrize("sheet", ["arms", "generators", "tables"])
def test_a_rows_name_is_a_name(folder, sheet, name):
    old = {"arms": "\tddim\tDDIM\t", "generators": "\nddpm\tDDPM\t", "tables": "\nbest\tBest\t"}
    word = old[sheet].split("\t")[-3].strip()
    edit(folder / f"{sheet}.tsv", old[sheet], old[sheet].replace(word, name, 1))
    line = told(folder)
    assert line.startswith(f"config/{sheet}.tsv, line ")
    assert "small letters (a to z), digits and underscores" in line


@settings(deadline=None)
@given(st.text())
def test_a_name_is_what_the_rule_says(name):
    legal = 1 <= len(name) <= 80 and {*name} <= {*"abcdefghijklmnopqrstuvwxyz0123456789_"}
    schema = {"$defs": DEFINITIONS, **described(DEFINITIONS, {"$ref": "#/$defs/name"})}
    if legal:
        validate(name, schema, "t")
    else:
        assert "since it stands in paths" in one_line.told(validate, name, schema, "t")


@pytest.mark.parametrize("place", ["datasets", "scales"])
def test_a_file_whose_stem_becomes_a_path_has_a_name(folder, place):
    (folder / place / "my own.yaml").write_text("title: a\n", encoding="utf-8")
    assert f"config/{place}, name of a file is 'my own'; " in told(folder)


def test_a_data_set_of_a_scale_is_named(folder):
    with_row(folder)
    edit(folder / "scales" / "smoke.yaml", "  mnist:\n", "  ../mnist:\n")
    assert "datasets, name is '../mnist'; " in told(folder, scale="smoke")
