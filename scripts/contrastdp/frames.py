"""Tables as pandas frames: columns typed in one place, read and written whole or not at all.

A table's columns are a dict, name -> dtype, in the order of the file; `text`, `number`, `whole` and
`given` write it. An empty cell is NaN (<NA> among whole numbers); `as_rows` has it as None.
"""

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd

from contrastdp.errors import InputError
from contrastdp.files import REMADE, read_csv, replacing

Columns = Mapping[str, str]


def text(*names: str) -> dict[str, str]:
    """Columns of text."""
    return dict.fromkeys(names, "str")


def number(*names: str) -> dict[str, str]:
    """Columns of real numbers."""
    return dict.fromkeys(names, "float64")


def whole(*names: str) -> dict[str, str]:
    """Columns of whole numbers."""
    return dict.fromkeys(names, "Int64")


def given(*names: str) -> dict[str, str]:
    """Columns that stay as they were given, such as settings: words in one row, numbers in another.

    Read from a file they are text.
    """
    return dict.fromkeys(names, "object")


def as_table(rows: Iterable[Mapping[str, Any]], columns: Columns) -> pd.DataFrame:
    """Rows as a frame of these columns; what a row lacks is empty, any other key is an error."""
    rows = list(rows)
    for row in rows:
        if odd := row.keys() - columns.keys():
            raise ValueError(f"a row has '{min(odd)}', which is no column of its table")
    return pd.DataFrame(rows, columns=list(columns), dtype=object).astype(dict(columns))


def as_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as mappings of plain numbers and text, None for an empty cell."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def write_table(path: str | Path, table: pd.DataFrame, digits: str | None = None) -> None:
    """Write a frame as CSV; digits: the format of real numbers, such as %.6f, else all of them."""
    with replacing(path) as temporary:
        table.to_csv(
            temporary, index=False, lineterminator="\n", encoding="utf-8", float_format=digits
        )


def read_table(path: str | Path, columns: Columns) -> pd.DataFrame:
    """Read a CSV file of these columns; one that lacks the last of them is older: they are empty.

    Raises InputError in one line for other columns, a ragged row, or a cell that is no number.
    """
    cells = pd.DataFrame(read_csv(path), dtype=object)
    for found, known in zip_longest(cells, columns):
        if found is not None and known is None:
            raise InputError(f"{path}: column '{found}' is unknown; {REMADE}")
        if found is not None and found != known:
            raise InputError(
                f"{path}: column '{found}' stands in the place of '{known}', one of them is "
                f"missing or unknown; {REMADE}"
            )

    def parsed(name: str, line: int, cell: str) -> float:
        try:
            return float(cell)
        except ValueError:
            raise InputError(
                f"{path}, line {line}: {name} is '{cell}', expected a number; {REMADE}"
            ) from None

    cells = cells.reindex(columns=list(columns)).replace("", None)
    for name, kind in columns.items():
        if kind in ("float64", "Int64"):
            cells[name] = [
                None if pd.isna(cell) else parsed(name, line, cell)
                for line, cell in enumerate(cells[name], 2)
            ]
    return cells.astype(dict(columns))
