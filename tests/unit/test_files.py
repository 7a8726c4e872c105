"""Files are whole or not there, and what is wrong with one is told in one line."""

import hashlib

import numpy as np
import pytest
from one_line import told

from contrastdp import files
from contrastdp.data import images
from contrastdp.errors import InputError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "images.npz"


# ---------------------------------------------------------------- images


def test_a_missing_file_is_named(path):
    assert "no such file" in told(images.read_images, path)
    assert "no such file" in told(files.read_json, path)
    assert "no such file" in told(files.read_csv, path)


# ---------------------------------------------------------------- whole or not at all
def test_a_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "model"
    with files.replacing_folder(folder) as temporary:
        (temporary / "a").write_text("1")
    with pytest.raises(RuntimeError), files.replacing_folder(folder) as temporary:
        (temporary / "b").write_text("2")
        raise RuntimeError
    assert [p.name for p in folder.iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


# ---------------------------------------------------------------- JSON and CSV
def test_json_refuses_numbers_that_are_not_finite(tmp_path):
    path = tmp_path / "m.json"
    assert "non-finite" in told(files.write_json, path, {"loss": float("nan")})
    assert not path.exists()
    files.write_json(path, {"n": np.int64(3), "x": np.float32(0.5), "v": np.arange(2)})
    assert files.read_json(path) == {"n": 3, "x": 0.5, "v": [0, 1]}


def test_text_is_written_in_utf8_over_what_was_there(tmp_path):
    path = tmp_path / "folder" / "t.md"
    for said in ("older and longer", "± 1"):
        files.write_text(path, said)
    assert path.read_bytes() == "± 1".encode()
    assert list(path.parent.iterdir()) == [path]


def test_a_damaged_json_is_named(tmp_path):
    path = tmp_path / "m.json"
    path.write_text('{"a": ')
    assert "is not JSON" in told(files.read_json, path)


def test_rows_are_text_and_ragged_ones_are_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,\n")
    assert files.read_csv(path) == [{"a": "1", "b": ""}]
    path.write_text("a,b\n1,2\n3\n")
    assert "line 3" in told(files.read_csv, path)


def test_digests_of_a_file_and_of_a_folder(tmp_path):
    (tmp_path / "unet").mkdir()
    contents = {"config.json": b"{}", "unet/weights.safetensors": b"abc"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".timestamp").write_bytes(b"now")
    wanted = {str(tmp_path / n): hashlib.sha256(c).hexdigest() for n, c in contents.items()}
    assert files.digests(tmp_path) == wanted
    one = tmp_path / "unet" / "weights.safetensors"
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert files.digests(one) == {str(one): abc}
    with pytest.raises(InputError, match="no such file"):
        files.digests(tmp_path / "absent")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_sheet_that_a_spreadsheet_saved_is_read(tmp_path, encoding):
    path = tmp_path / "arms.tsv"
    path.write_bytes("scale\ttitle\ndemo\tGrün\n".encode(encoding))
    assert files.read_csv(path, delimiter="\t") == [{"scale": "demo", "title": "Grün"}]


# ---------------------------------------------------------------- text and sheets
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("latin-1", "is not UTF-8 (byte 0xfc)"),
        ("cp1252", "is not UTF-8 (byte 0xfc)"),
        ("utf-16-le", "holds a NUL byte"),
        ("utf-32-be", "holds a NUL byte"),
    ],
)
def test_another_encoding_is_told_with_its_line(tmp_path, encoding, words, end):
    path = tmp_path / "arms.tsv"
    lines = ["scale\ttitle", "demo\tGrün", ""]
    path.write_bytes(end.join(lines).encode(encoding))
    line = 1 if "NUL" in words else 2
    for read in (files.read_text, files.read_csv, files.read_json):
        assert told(read, path) == f"{path}, line {line}: {words}; save it as UTF-8"


def test_utf16_with_its_mark_is_told(tmp_path):
    path = tmp_path / "arms.tsv"
    path.write_bytes("scale\n".encode("utf-16"))
    assert told(files.read_csv, path) == f"{path}, line 1: is UTF-16, not UTF-8; save it as UTF-8"


def test_a_folder_in_the_place_of_a_text_is_told(tmp_path):
    assert "cannot be read" in told(files.read_text, tmp_path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "text",
    [
        "a\tb\n1\t2\n",
        "a\tb\t\t\n1\t2\t\t\n",  # empty columns beyond the table
        "a\tb\n1\t2\t\t\t\n\n\n",
        '"a"\t"b"\n"1"\t"2"\n',
        '"a"\tb\n1\t"2"',
    ],
)
def test_habits_of_spreadsheets_change_nothing(tmp_path, text, end):
    path = tmp_path / "arms.tsv"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", end).encode())
    assert files.read_csv(path, delimiter="\t") == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('a\tb\n1\t2\n"3\t4\n5\t6\n', 3, "quotation marks do not match"),
        ('a\tb\n"1\t2\n3\t4\n5"\t6\n', 2, "quotation marks do not match"),
        ('a\tb\n1\t"2\n3\t"4\n', 2, "quotation marks do not match"),
        ('a\tb\n"1"0\t2\n', 2, "quotation marks do not match"),
        ("a\tb\n1\n", 2, "more or fewer cells"),
        ("a\tb\n1\t2\n\n1\t2\t\t3\n", 4, "more or fewer cells"),
    ],
)
def test_what_is_no_row_is_told_with_its_line(tmp_path, text, line, words):
    path = tmp_path / "arms.tsv"
    path.write_text(text)
    found = told(lambda: files.read_csv(path, delimiter="\t"))
    assert found.startswith(f"{path}, line {line}: ")
    assert words in found


def test_a_column_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "arms.tsv"
    path.write_text("a\tb\ta\n1\t2\t3\n")
    assert "column 'a' stands twice" in told(files.read_csv, path, delimiter="\t")
