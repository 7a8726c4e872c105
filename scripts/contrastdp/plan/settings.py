"""Settings: layers of YAML merged, experiments read as rows, everything checked before any job.

Works on plain dicts and rows. Imports nothing heavy, since a dry run passes through here.
"""

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from contrastdp.attack.threat import parse_fraction
from contrastdp.errors import InputError

Row = dict[str, Any]
LONGEST = 200  # characters of a value that a line shows


# ---------------------------------------------------------------- layers
def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings, later over earlier; a mapping merges, anything else replaces.

    A mapping that names another `architecture` replaces too: one network's sizes mean nothing to
    another.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old: Any = merged.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            both = both and value.get("architecture", old.get("architecture")) == old.get(
                "architecture"
            )
            merged[key] = merge(old, value) if both else value
    return merged


# ---------------------------------------------------------------- schema
def validate(settings: Any, schema: Mapping[str, Any], where: str) -> None:
    """Check `settings` against a JSON schema; the first fault is an InputError in one line.

    where: the file or layer to name. An unknown key is answered with the nearest known one. A whole
    number is written without a point, and every number is finite.
    """
    from jsonschema.exceptions import best_match

    validator, formats = _validator()
    error = best_match(validator(schema, format_checker=formats).iter_errors(settings))
    if error is None:
        return
    place = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = next(key for key in error.instance if key not in known)
        raise InputError(
            f"{where}: unknown key '{'.'.join(filter(None, (place, str(unknown))))}'"
            + _suggestion(str(unknown), known)
        )
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        raise InputError(
            f"{where}: key '{'.'.join(filter(None, (place, missing)))}' is missing; add it"
        )
    if "propertyNames" in error.absolute_schema_path:
        place = f"{place}, name" if place else "name"
    given = repr(error.instance)
    given = given if len(given) <= LONGEST else f"{given[:LONGEST]}..."
    raise InputError(f"{where}: {place or 'settings'} is {given}; {_rule(error)}")


@cache
def _validator() -> tuple[Any, Any]:
    """The class of validators, and what they know of formats."""
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.validators import extend

    # a job dies of 600.0 where it counts, which JSON takes for whole, and of nan and inf
    strict = {
        "integer": lambda _, value: isinstance(value, int) and is_number(value),
        "number": lambda _, value: is_number(value),
    }
    types = Draft202012Validator.TYPE_CHECKER.redefine_many(strict)
    formats = FormatChecker(formats=())
    formats.checks("fraction", raises=InputError)(lambda text: bool(parse_fraction(text)))
    formats.checks("name", raises=InputError)(lambda text: bool(check_name(text, "name")))
    return extend(Draft202012Validator, type_checker=types), formats


def is_number(value: Any) -> bool:
    """Whether a value is a number that a float holds: no truth value, not infinite, not NaN."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


NAME = re.compile(r"[a-z0-9_]{1,80}")


def check_name(name: Any, where: str) -> str:
    """A name that paths, wildcards and targets may hold, or an InputError."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InputError(
            f"{where} is {name!r}; write 1 to 80 small letters (a to z), digits and underscores, "
            "since it stands in paths"
        )
    return name


def _type(value: Any, given: Any) -> str:
    kinds = [value] if isinstance(value, str) else value
    counted = isinstance(given, int | float) and not isinstance(given, bool)
    if counted and not is_number(given) and {"integer", "number"} & {*kinds}:
        return "it must be a finite number"
    return f"it must be of type {' or '.join(kinds)}"


def _rule(error: Any) -> str:
    """What a schema asks for, in words."""
    value = error.validator_value
    words = {
        "enum": lambda: (
            f"choose one of {', '.join(map(str, value))}" + _nearest(str(error.instance), value)
        ),
        "type": lambda: _type(value, error.instance),
        "minimum": lambda: f"it must be at least {value}",
        "maximum": lambda: f"it must be at most {value}",
        "exclusiveMinimum": lambda: f"it must be above {value}",
        "exclusiveMaximum": lambda: f"it must be below {value}",
        "multipleOf": lambda: f"it must be a multiple of {value}",
        "pattern": lambda: f"it must match {value}",
        "format": lambda: str(error.cause).partition("; ")[2],
    }
    return words.get(error.validator, lambda: error.message)()


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, [str(name) for name in known], n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _suggestion(word: str, known: Iterable[str]) -> str:
    return _nearest(word, known) or f"; known: {', '.join(sorted(known))}"


def choose(word: str, known: Iterable[str], what: str, where: str) -> str:
    """`word`, or an InputError that names the nearest known one."""
    known = list(known)
    if word not in known:
        raise InputError(f"{where}: {what} '{word}' does not exist{_suggestion(word, known)}")
    return word


def described(definitions: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the schema with what it refers to; its own words stand over those."""
    own = dict(entry)
    if "$ref" not in own:
        return own
    found: Any = definitions
    for part in own.pop("$ref").removeprefix("#/$defs/").split("/"):
        found = found[part]
    return described(definitions, found) | own


# ---------------------------------------------------------------- columns of the sheets
WORDS = {int: "a whole number", float: "a number", str: "text"}
TYPES = {"integer": int, "number": float, "boolean": bool, "string": str}


def columns(definitions: Mapping[str, Any], sheet: str) -> dict[str, type]:
    """Each column's type, of the sheet whose row the schema defines as `sheet`."""
    entries = {name: described(definitions, entry) for name, entry in definitions[sheet].items()}
    return {name: TYPES[entry.get("type", "string")] for name, entry in entries.items()}


def cells_over(definitions: Mapping[str, Any], sheet: str) -> dict[str, tuple[str, ...]]:
    """Section of settings -> the columns whose cells stand over its settings of the same name."""
    found: dict[str, tuple[str, ...]] = {}
    for name, entry in definitions[sheet].items():
        section, *setting = (
            entry.get("$ref", "").removeprefix("#/$defs/sections/").split("/properties/")
        )
        if setting:
            section = section.removeprefix("#/$defs/")
            found[section] = (*found.get(section, ()), name)
    return found


# ---------------------------------------------------------------- rows
def parse_rows(
    rows: Sequence[Mapping[str, str]],
    columns: Mapping[str, type],
    key: Sequence[str],
    where: str,
    may_lack: Collection[str] = (),
) -> list[Row]:
    """Typed rows of an experiment table.

    columns: each column's type (str, int, float, bool); an empty cell becomes None, and the
    dataset's default later. key: the columns that name a row; two rows of one name are refused, and
    so is an empty cell of the name but in the columns `may_lack`.
    """
    found = list(rows[0]) if rows else list(columns)
    for column in found:
        if column not in columns:
            raise InputError(f"{where}: unknown column '{column}'{_suggestion(column, columns)}")
    for column in columns:
        if column not in found:
            raise InputError(f"{where}: column '{column}' is missing; add it to the header")
    parsed: list[Row] = []
    seen: dict[tuple[Any, ...], int] = {}
    for line, row in enumerate(rows, 2):
        if not any(map(str.strip, row.values())):
            continue  # a row that a spreadsheet emptied
        cells = {
            column: _cell(row[column], kind, f"{where}, line {line}, {column}")
            for column, kind in columns.items()
        }
        name = tuple(cells[column] for column in key)
        needed = [column for column in key if column not in may_lack]
        if None in map(cells.get, needed):
            raise InputError(
                f"{where}, line {line}: {' and '.join(needed)} must not be empty; fill in"
            )
        if name in seen:
            raise InputError(
                f"{where}, line {line}: repeats the row '{' '.join(map(str, name))}' of line "
                f"{seen[name]}; remove one"
            )
        seen[name] = line
        parsed.append(cells)
    return parsed


def _cell(text: str, kind: type, where: str) -> Any:
    text = text.strip()
    if not text:
        return None
    if kind is bool:
        if text not in ("yes", "no"):
            raise InputError(f"{where}: is '{text}'; write yes or no")
        return text == "yes"
    try:
        if "_" in text and kind is not str:
            raise ValueError  # Python's own, which no other reader of the sheet takes
        return kind(text)
    except ValueError:
        shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
        raise InputError(f"{where}: is '{shown}'; write {WORDS[kind]}") from None
