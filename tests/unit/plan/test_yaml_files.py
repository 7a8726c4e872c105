"""YAML files and values of the command line: what they give, and what is refused."""

import pytest
from one_line import told as line_of

from contrastdp.errors import InputError
from contrastdp.plan.yaml_files import command_line, read_configfile, read_yaml, typed


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode(encoding))
    return path


def told(path):
    with pytest.raises(InputError) as error:
        read_yaml(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_is_a_mapping(tmp_path):
    text = "a: {b: [1, 2.5, text]}\nc: null\n"
    assert read_yaml(written(tmp_path, text)) == {"a": {"b": [1, 2.5, "text"]}, "c": None}
    assert read_yaml(written(tmp_path, "# nothing\n")) == {}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("title: A\nclasses: 10\ntitle: B\n", ("line 3", "line 1")),
        ("training: {steps: 1, batch: 2, steps: 3}\n", ("line 1", "line 1")),
        ("a:\n  - {x: 1}\n  - x: 1\n    y: 2\n    x: 3\n", ("line 5", "line 3")),
        ("<<: &a {x: 1, x: 2}\n", ("line 1", "line 1")),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, text, lines):
    line = told(written(tmp_path, text))
    assert line.startswith(f"{tmp_path / 'config.yaml'}, {lines[0]}: key '")
    assert f"stands in {lines[1]} already" in line


def test_what_is_merged_in_may_be_said_anew(tmp_path):
    """Of chained `<<`, too, where a mapping is merged before it is read itself."""
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, x: 3}\n"
    found = read_yaml(written(tmp_path, text))
    assert found == {"a": {"x": 1, "y": 1}, "b": {"x": 2, "y": 1}, "c": {"x": 3, "y": 1}}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-2", 0.01), ("-1E3", -1000.0), ("2.5e-3", 0.0025), ("+4e+2", 400.0), ("12", 12)],
)
def test_a_number_with_an_exponent_is_a_number(tmp_path, text, value):
    assert read_yaml(written(tmp_path, f"a: {text}\n")) == {"a": value}
    assert typed({"a": [text]}) == {"a": [value]}


@pytest.mark.parametrize(
    "text",
    [
        "e5",
        "8/255",
        "1e",
        "1e-",
        "0x1e4f-",
        "standard",
        "*x",
        "&",
        "@a",
        "%b",
        "a: b: c",
        "`",
        "!!x",
    ],
)
def test_what_is_no_number_stays_text(text):
    assert typed({"a": text}) == {"a": text}


@pytest.mark.parametrize("text", ['{"batch": ', "[1, 2", '{"a": 1}}', " {", "{'a' 'b'}"])
def test_a_broken_mapping_of_the_command_line_is_told(text):
    """Snakemake takes for a word what is no YAML."""
    with pytest.raises(InputError) as error:
        typed({"scale": "demo", "training": text})
    assert str(error.value).startswith(f"--config: training is '{text}', which is neither JSON")
    assert """write 'training={"name": value}'""" in str(error.value)


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path):
    assert read_yaml(written(tmp_path, "scale: demo\n", "utf-8-sig")) == {"scale": "demo"}


@pytest.mark.parametrize(
    ("text", "encoding", "words"),
    [
        ("scale: [", "utf-8", "cannot be read"),
        ("a: 1\ntitle: Grün", "latin-1", "config.yaml, line 2: is not UTF-8 (byte 0xfc)"),
        ("a: 1\ntitle: Grün", "utf-16", "config.yaml, line 1: is UTF-16"),
        ("a: 1\ntitle: \0", "utf-8", "config.yaml, line 2: holds a NUL byte"),
        ("- scale\n", "utf-8", "holds a list; write 'key: value' lines"),
        ("scale", "utf-8", "holds a str"),
    ],
)
def test_a_file_that_is_no_mapping_is_told(tmp_path, text, encoding, words):
    assert words in told(written(tmp_path, text, encoding))


def test_a_missing_file_is_told(tmp_path):
    assert "no such file" in told(tmp_path / "none.yaml")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_ends_of_lines_are_all_one(tmp_path, end):
    assert read_yaml(written(tmp_path, f"a:{end}  b: 1{end}")) == {"a": {"b": 1}}


# ---------------------------------------------------------------- --configfile
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{\n\t"scale": "smoke",\n\t"scale": "demo"\n}', "line 3: key 'scale' stands in line 2"),
        ('{"training": {"batch": 1, "batch": 2}}', "line 1: key 'batch' stands in line 1"),
        ('{"training": {"steps": 1e999}}', "line 1: 1e999 is no finite number"),
        ("title: A\ntitle: B\n", "line 2: key 'title' stands in line 1"),
        ('{"scale": ', "cannot be read"),
        ("[1, 2]", "holds a list"),
    ],
)
def test_a_configfile_of_either_form_is_checked(tmp_path, text, words):
    path = tmp_path / "mine.json"
    path.write_text(text, encoding="utf-8")
    assert words in line_of(read_configfile, path)


def test_a_configfile_is_json_with_tabs_or_yaml(tmp_path):
    path = tmp_path / "mine.json"
    for text in ('{\n\t"a":\t{"b":[1, "x\\ty", "\\/"]}\n}', 'a: {b: [1, "x\\ty", /]}'):
        path.write_text(text, encoding="utf-8")
        assert read_configfile(path) == {"a": {"b": [1, "x\ty", "/"]}}


# ---------------------------------------------------------------- --config
def test_entries_of_the_command_line_are_settings():
    given = ["scale=smoke", 'training={"steps": 30, "rate": 1e-2}', "mirror=", "seeds=3"]
    found = {"scale": "smoke", "training": {"steps": 30, "rate": 0.01}, "mirror": None, "seeds": 3}
    assert command_line(given) == found


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("key", "--config: 'key' has no '='; write name=value, such as scale=smoke"),
        ("training.steps=30", """write 'training={"steps": 30}'"""),
        ("a.b.c=x=1", """write 'a={"b": {"c": "x=1"}}'"""),
        ("a..b=1", "'a..b' is no name of a setting; docs/settings.md has them"),
        ("=1", "'' is no name"),
        ("2x=1", "'2x' is no name"),
        ('training={"steps": ', "neither JSON nor YAML"),
        ('training={"steps": 1, "steps": 2}', "key 'steps' stands in line 1 already"),
    ],
)
def test_an_entry_that_is_none_is_told(entry, words):
    assert words in line_of(command_line, ["scale=smoke", entry])
