"""Files in, files out: metrics (JSON), tables (CSV), digests; each written whole or not at all."""

import csv
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from contrastdp.errors import InputError


# ---------------------------------------------------------------- whole or not at all
@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, moved over it on success and removed on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
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
    """Yield a temporary folder beside `folder`, put in its place on success, else removed."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the rule that makes it") from None
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error}); delete it and run again") from None


def read_csv(path: str | Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Read a CSV or TSV file as a list of rows of strings, in UTF-8 with or without its mark.

    Raises InputError for a missing file, another encoding and a ragged row.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle, delimiter=delimiter))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 ({error.reason}); save it as UTF-8") from None
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; restore it or run the rule that makes it"
        ) from None
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise InputError(
                f"{path}, line {number}: has more or fewer cells than the header; correct the line"
            )
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
