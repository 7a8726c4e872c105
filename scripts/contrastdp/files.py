"""Files in, files out: metrics (JSON), tables (CSV), digests; each written whole or not at all."""

import codecs
import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from contrastdp.errors import InputError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# what to do about a damaged file that a job wrote, or that is the user's own and not to be deleted
REMADE = "if a job wrote it, delete it and run again, else give a whole one"


# ---------------------------------------------------------------- whole or not at all
@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, moved over it on success and removed on failure.

    Raises InputError in one line where the disk is full.
    """
    path = Path(path)
    with writing(path):
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`, put in its place on success, else removed.

    Raises InputError in one line where the disk is full.
    """
    folder = Path(folder)
    with writing(folder):
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within, `path` is written: its folder is there, and a full disk is an InputError's line."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except Exception as error:
        if why := full_disk(error):
            raise InputError(
                f"{path}: cannot be written ({why}); free some space and run again"
            ) from None
        raise


def full_disk(error: BaseException | None) -> str:
    """The system's words where a full disk is behind an error, else nothing.

    Libraries put errors of their own before the system's: safetensors keeps its number in the text.
    """
    while error is not None:
        said = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(said[1]) if said else None
        if number in FULL:
            return os.strerror(number)
        error = error.__context__
    return ""


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ---------------------------------------------------------------- metrics and tables
def write_json(path: str | Path, content: Any) -> None:
    """Write JSON, indented, with NaN and infinity refused."""
    try:
        text = json.dumps(content, indent=2, allow_nan=False, default=_plain)
    except ValueError as error:
        raise InputError(f"{path}: refuses a non-finite number ({error})") from None
    write_text(path, text + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write text in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8, without the byte order mark that it may begin with.

    Raises InputError in one line for a missing file, another encoding, and a NUL byte.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; restore it or run the rule that makes it"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{path}, line 1: is UTF-16, not UTF-8; save it as UTF-8")
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        at, fault = content.find(0), "holds a NUL byte"
        if at < 0:
            return content.decode()
    except UnicodeDecodeError as error:
        at, fault = error.start, f"is not UTF-8 (byte {content[error.start]:#04x})"
    line = content.count(b"\n", 0, at) + 1
    raise InputError(f"{path}, line {line}: {fault}; save it as UTF-8")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def read_json(path: str | Path) -> Any:
    """Read JSON; InputError in one line where it is missing or damaged."""
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error}); {REMADE}") from None


def check_numbers(path: str | Path, content: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise InputError where one of these entries of a JSON file's mapping is no number."""
    for name in names:
        value = content[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{path}: {name} is {value!r}, expected a number; make it again")


def read_csv(path: str | Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Read a CSV or TSV file as a list of rows of strings, as read_text reads it.

    Empty cells beyond the header, which spreadsheets leave, are no part of a row. Raises InputError
    as read_text does, and for a ragged row, a column that stands twice, quotes without a partner,
    and a cell of a TSV file that reaches another line.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[dict[str, str]] = []
    line = 1
    try:
        for cells in reader:
            while len(cells) > len(header) and not cells[-1]:
                cells.pop()
            if delimiter == "\t" and reader.line_num > line and cells:
                raise csv.Error(f"a cell reaches line {reader.line_num}")
            if not header:
                header = cells
                if twice := [name for name in header if header.count(name) > 1]:
                    raise InputError(f"{path}: column '{twice[0]}' stands twice; remove one")
            elif cells:
                if len(cells) != len(header):
                    raise InputError(
                        f"{path}, line {line}: has more or fewer cells than the header; "
                        "correct the line"
                    )
                rows.append(dict(zip(header, cells, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}, line {line}: quotation marks do not match ({error}); "
            "remove them, or put one at each end of the cell"
        ) from None
    return rows


def digest(path: str | Path) -> str:
    """The sha256 of a file's bytes, as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(path: str | Path) -> dict[str, str]:
    """sha256 of a file, or of every file of a folder that a model was saved in: path -> digest.

    Hidden files, such as the workflow's own, are left out. Raises InputError where there is none.
    """
    path = Path(path)
    within = sorted(file for file in path.rglob("*") if file.is_file())
    files = [path] if path.is_file() else [f for f in within if not f.name.startswith(".")]
    if not files:
        raise InputError(f"{path}: no such file; run the rule that makes it")
    return {str(file): digest(file) for file in files}
