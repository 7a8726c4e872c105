"""Settings: layers of YAML merged, experiments read as rows, everything checked before any job.

Works on plain dicts and rows; reading YAML is the workflow's part. Imports nothing heavy, since a
dry run passes through here.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from contrastdp.errors import InputError

Row = dict[str, Any]


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
def validate(settings: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> None:
    """Check `settings` against a JSON schema; the first fault is an InputError in one line.

    where: the file or layer to name. An unknown key is answered with the nearest known one.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema).iter_errors(settings))
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
    raise InputError(f"{where}: {place or 'settings'} is {error.instance!r}; {_rule(error)}")


def _rule(error: Any) -> str:
    """What a schema asks for, in words."""
    value = error.validator_value
    words = {
        "enum": lambda: f"choose one of {', '.join(map(str, value))}",
        "type": lambda: f"it must be of type {value}",
        "minimum": lambda: f"it must be at least {value}",
        "maximum": lambda: f"it must be at most {value}",
        "exclusiveMinimum": lambda: f"it must be above {value}",
        "exclusiveMaximum": lambda: f"it must be below {value}",
        "pattern": lambda: f"it must match {value}",
    }
    return words.get(error.validator, lambda: error.message)()


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(sorted(known))}"


def choose(word: str, known: Iterable[str], what: str, where: str) -> str:
    """`word`, or an InputError that names the nearest known one."""
    known = list(known)
    if word not in known:
        raise InputError(f"{where}: {what} '{word}' does not exist{_suggestion(word, known)}")
    return word


def fraction(text: Any, where: str) -> str:
    """An eps as a fraction in (0, 1), such as 8/255, returned as written."""
    try:
        value = Fraction(str(text))
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{where}: eps is '{text}'; write a fraction such as 8/255") from None
    if not 0 < value < 1:
        raise InputError(f"{where}: eps is {text}; it must lie inside (0, 1), pixels span [0, 1]")
    return str(text)


# ---------------------------------------------------------------- rows
def parse_rows(
    rows: Sequence[Mapping[str, str]], columns: Mapping[str, type], key: Sequence[str], where: str
) -> list[Row]:
    """Typed rows of an experiment table.

    columns: each column's type (str, int, float, bool); an empty cell becomes None, and the
    dataset's default later. key: the columns that name a row; two rows of one name are refused.
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
        cells = {
            column: _cell(row[column], kind, f"{where}, line {line}, {column}")
            for column, kind in columns.items()
        }
        name = tuple(cells[column] for column in key)
        if None in name:
            raise InputError(
                f"{where}, line {line}: {' and '.join(key)} must not be empty; fill in"
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
        return kind(text)
    except ValueError:
        raise InputError(f"{where}: is '{text}'; write a {kind.__name__}") from None
