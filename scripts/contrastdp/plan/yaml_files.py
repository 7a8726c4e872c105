"""YAML as the settings are written in: a file as a mapping, and values of the command line."""

import json
import math
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from contrastdp.errors import InputError
from contrastdp.files import read_text


class _Loader(yaml.SafeLoader):
    """Plain YAML, where a key stands once in its mapping; 1e-2 is a number, .nan is none."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # when composed, a mapping has its own keys alone; those that `<<` brings come later
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key.value, str) and key.value in lines:
                raise InputError(
                    f"line {line}: key '{key.value}' stands in line {lines[key.value]} already; "
                    "remove one"
                )
            if isinstance(key.value, str):
                lines[key.value] = line
        return node

    def _number(self, node: yaml.ScalarNode) -> int | float:
        whole = node.tag.endswith(":int")
        read = self.construct_yaml_int if whole else self.construct_yaml_float
        try:
            value = read(node)
            finite = math.isfinite(value)
        except (OverflowError, ValueError):  # more digits than a float or Python's int() takes
            finite = False
        if not finite:
            raise InputError(
                f"line {node.start_mark.line + 1}: {node.value[:40]} is no finite number; "
                "correct it"
            )
        return value


for kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{kind}", _Loader._number)

# a date is text, which may be no day of the calendar
_Loader.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)

# YAML 1.1 wants a point in a number with an exponent, and takes 1e-2 for text.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """One YAML file as a mapping, {} where it is empty.

    Raises InputError in one line where it cannot be read, holds no mapping, has a key twice, or a
    number that is not finite.
    """
    return _mapping(path, read_text(path)) or {}


def read_configfile(path: str | Path) -> dict[str, Any]:
    """The settings of a --configfile, which Snakemake takes as JSON or, else, as YAML.

    Raises InputError as read_yaml does, and for a missing or an empty file.
    """
    if not Path(path).exists():
        raise InputError(f"{path}: no such file; correct --configfile")
    text = read_text(path)
    with suppress(ValueError):
        json.loads(text)
        text = text.replace("\t", " ")  # JSON has them between its tokens alone, YAML nowhere
    found = _mapping(path, text)
    if found is None:
        raise InputError(f"{path}: is empty; write 'key: value' lines")
    return found


def _mapping(path: str | Path, text: str) -> dict[str, Any] | None:
    """The mapping that a file's text holds, or None where it holds nothing."""
    try:
        found = _parsed(text)
    except InputError as error:
        raise InputError(f"{path}, {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if found is not None and not isinstance(found, dict):
        raise InputError(f"{path}: holds a {type(found).__name__}; write 'key: value' lines")
    return found


def command_line(entries: Iterable[str]) -> dict[str, Any]:
    """The settings of --config, from its entries as a shell gives them.

    Raises InputError in one line for an entry that is no NAME=VALUE, and as typed does.
    """
    found = {}
    for entry in entries:
        key, mark, text = entry.partition("=")
        if not mark:
            raise InputError(
                f"--config: '{entry}' has no '='; write name=value, such as scale=smoke"
            )
        value = typed({key: _typed(_typed(text))})[key]
        first, *rest = key.split(".")
        if not all(map(str.isidentifier, (first, *rest))):
            raise InputError(
                f"--config: '{key}' is no name of a setting; docs/settings.md has them"
            )
        if rest:
            for name in reversed(rest):
                value = {name: value}
            raise InputError(
                f"--config: '{key}' has a point, which Snakemake takes in no name; write "
                f"'{first}={json.dumps(value)}'"
            )
        found[key] = value
    return found


def typed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of the command line, where Snakemake leaves the numbers of a mapping as text.

    Raises InputError for a value that begins as a mapping or a list and is none, and for a number
    that is not finite.
    """
    for key, value in settings.items():
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            raise InputError(
                f"--config: {key} is '{value}', which is neither JSON nor YAML; write "
                f"""'{key}={{"name": value}}', with a mark of quotation at both ends"""
            )
    return _typed(settings)


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    if not isinstance(value, str):
        return value
    try:
        return _parsed(value)
    except InputError as error:
        raise InputError(f"--config or --configfile, {error}") from None
    except yaml.YAMLError:
        return value  # text that YAML has another use for, such as *x


def _parsed(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
