"""Tables as frames: types that survive a file, bytes of the csv module, and bad files told."""

import csv
import random

import pytest

from contrastdp.errors import InputError
from contrastdp.frames import (
    as_rows,
    as_table,
    given,
    number,
    read_table,
    text,
    whole,
    write_table,
)

COLUMNS = text("name") | whole("count") | number("share") | given("setting")


def test_typed_cells_are_read_and_no_others(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("name,count,share,setting\na,3,0.5,1\n,,,\n")
    first, second = as_rows(read_table(path, COLUMNS))
    assert first == {"name": "a", "count": 3, "share": 0.5, "setting": "1"}
    assert isinstance(first["count"], int)
    assert set(second.values()) == {None}
    path.write_text("name,count,share,setting\na,three,0.5,1\n")
    with pytest.raises(InputError, match=r"line 2: count is 'three', expected a number; if a job"):
        read_table(path, COLUMNS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name,share,count,setting\na,1,1,1\n", "'share' stands in the place of 'count'"),
        ("name,count,share,setting,more\na,1,1,1,1\n", "column 'more' is unknown"),
        ("name,count\na,1,2\n", "line 2"),
        (None, "no such file"),
    ],
)
def test_other_columns_ragged_rows_and_no_file_are_told_in_one_line(tmp_path, content, said):
    path = tmp_path / "t.csv"
    if content:
        path.write_text(content)
    with pytest.raises(InputError, match=said) as error:
        read_table(path, COLUMNS)
    assert "\n" not in str(error.value)
    assert "make the table again" not in str(error.value)  # which may be a sheet of the user's


def test_an_older_table_lacks_the_last_columns(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("name,count\na,3\n")
    assert as_rows(read_table(path, COLUMNS)) == [
        {"name": "a", "count": 3, "share": None, "setting": None}
    ]


def test_a_file_holds_the_bytes_that_the_csv_module_writes(tmp_path):
    draw = random.Random(0)
    shares = [draw.random() * 10 ** draw.randint(-20, 20) for _ in range(200)]
    names = ["a, b", 'say "x"', "− ± –", "line\nbreak", None, "1", "NA", "nan", "None"]
    settings = [1, 1.0, "8/255", None, True]
    rows = [
        {"name": names[i % 9], "count": i if i % 3 else None, "share": share if i % 4 else None}
        | {"setting": settings[i % 5]}
        for i, share in enumerate([*shares, 0.0, -0.0, 1e16, 1e-5, 5e-324, 100.0])
    ]
    write_table(tmp_path / "ours.csv", as_table(rows, COLUMNS))
    with open(tmp_path / "csv.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "csv.csv").read_bytes()
    back = as_rows(read_table(tmp_path / "ours.csv", COLUMNS))
    for key in ("name", "count", "share"):
        assert [row[key] for row in back] == [row[key] for row in rows]


def test_a_table_without_rows_keeps_its_columns(tmp_path):
    path = tmp_path / "t.csv"
    write_table(path, as_table([], COLUMNS))
    assert path.read_text() == "name,count,share,setting\n"
    assert list(read_table(path, COLUMNS)) == list(COLUMNS)


def test_a_misspelt_column_is_an_error():
    with pytest.raises(ValueError, match="coumt"):
        as_table([{"name": "a", "coumt": 1}], COLUMNS)


def test_real_numbers_are_cut_to_digits_and_no_others(tmp_path):
    row = {"name": "0.1234567", "count": 1234567, "share": 0.1234567, "setting": 0.1234567}
    write_table(tmp_path / "t.csv", as_table([row, {}], COLUMNS), digits="%.6g")
    assert (tmp_path / "t.csv").read_text().splitlines()[1:] == [
        "0.1234567,1234567,0.123457,0.1234567",
        ",,,",
    ]
