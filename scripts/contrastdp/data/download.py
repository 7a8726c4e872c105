"""Archives are fetched once, checked as a whole, and kept with a note of where they come from.

All network access of the workflow is here. urllib does it: requests is no dependency of ours, and
would bring neither resuming nor checksums.
"""

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from contrastdp.errors import InputError
from contrastdp.files import read_json, write_json, writing
from contrastdp.jobs.run import track

Result = TypeVar("Result")

BLOCK = 2**16  # bytes; what a connection that breaks loses at most
LARGEST = 2**31  # bytes of an archive whose size is not known
LONGEST_LIST = 2**20  # bytes of a mirror's list of checksums
MAGIC = {".gz": b"\x1f\x8b", ".zip": b"PK"}
PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP errors that may be gone a moment later
OUT_OF_RANGE = 416


class _RefusedError(Exception):
    """An address does not have what is wanted, and will not have it a moment later."""


@dataclass(frozen=True)
class _Patience:
    """How often, at what distance and how long an address is asked."""

    attempts: int
    wait: float
    timeout: float


@dataclass(frozen=True)
class _Wanted:
    """A file: its digests by kind, and its bytes where they are known."""

    digests: Mapping[str, str]
    size: int | None

    def mismatch(self, path: Path) -> str | None:
        """How the file at `path` differs, or None."""
        found = _digests(path)
        for kind, digest in self.digests.items():
            if found[kind] != digest:
                return f"{kind} is {found[kind]}, expected {digest}"
        return None


@dataclass(frozen=True)
class _Answer:
    """What an address gives: bytes from `start` on, of `whole` bytes if that is said."""

    file: BinaryIO
    start: int
    whole: int | None


# ---------------------------------------------------------------- an archive
def fetch_archive(
    path: str | Path,
    origin: str | Path,
    *,
    dataset: str,
    archive: Mapping[str, Any],
    mirror: Mapping[str, Any] | None = None,
    attempts: int = 4,
    wait: float = 2.0,
    timeout: float = 60.0,
) -> None:
    """Fetch one archive to `path`, and write to `origin` (JSON) where it comes from.

    archive: file (its name), addresses (tried in turn), md5 and/or sha256, and bytes if known, all
    of the canonical archive. mirror: asked instead of the addresses where given; address (a folder
    or an http address, which holds {dataset}/{file} or {file}) and checksums (file -> sha256, or
    the name of a list of such on the mirror). A mirror's own checksum goes before the canonical
    one. attempts: tries of an address in a row that bring nothing new, with wait, 2 wait, 4 wait …
    seconds between them; timeout: seconds without an answer.

    A transfer that stops goes on where it was, from a hidden .part file beside `path`. A file at
    `path` with the right checksum is kept, and the network is not asked. Where it came from says a
    second, hidden copy of the origin beside `path`, as Snakemake deletes the origin beforehand.

    origin: file, address, sha256, and canonical: whether the digests are the canonical ones.
    Raises InputError in one line with every address and why it gave nothing.
    """
    path, file = Path(path), archive["file"]
    second = path.with_name(f".{path.name}.origin")
    canonical = {kind: archive[kind] for kind in ("md5", "sha256") if archive.get(kind)}
    if not canonical:
        raise InputError(f"{file}: has no checksum; give md5 or sha256 in the data set's settings")
    patience = _Patience(attempts, wait, timeout)

    # What is wanted, and where it may lie
    wanted, places = _Wanted(canonical, archive.get("bytes")), list(archive["addresses"])
    names = {place: place for place in places}
    if mirror is not None:
        base = mirror["address"].rstrip("/")
        listed = _mirror_checksums(mirror.get("checksums") or {}, base, patience)
        own = listed.get(f"{dataset}/{file}", listed.get(file))
        wanted = _Wanted({"sha256": own}, None) if own else wanted
        # A folder of this machine means nothing elsewhere, so it does not enter the origin.
        shown = f"{base}/" if _is_web(base) else "mirror:"
        names = {f"{base}/{rest}": f"{shown}{rest}" for rest in (f"{dataset}/{file}", file)}

    # The file, unless it is there
    if path.exists() and wanted.mismatch(path) is None:
        address = _known_address(path, second)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        key = "-".join(digest[:8] for digest in wanted.digests.values())
        part = path.with_name(f".{file}.{key}.part")
        address = names[_first_that_gives(list(names), part, wanted, patience, file)]
        os.replace(part, path)

    found = _digests(path)
    said = {
        "file": file,
        "address": address,
        "sha256": found["sha256"],
        "canonical": all(found[kind] == digest for kind, digest in canonical.items()),
    }
    write_json(second, said)
    write_json(origin, said)


def read_origin(path: str | Path, origin: str | Path) -> dict[str, Any]:
    """The origin of an archive, as fetch_archive wrote it.

    Raises InputError where the file at `path` is not the one that the origin describes.
    """
    said, found = read_json(origin), _digests(Path(path))["sha256"]
    if not isinstance(said, dict) or said.get("sha256") != found:
        raise InputError(
            f"{path}: sha256 is {found}, which {origin} does not say; delete {origin} alone and "
            "run again, which checks the archive and fetches it where it is another one"
        )
    return said


def _known_address(path: Path, origin: str | Path) -> str:
    """Where a file came from that lies there already."""
    try:
        return read_origin(path, origin)["address"]
    except (InputError, KeyError):
        return "found in the results folder"


# ---------------------------------------------------------------- checksums
def _digests(path: Path) -> dict[str, str]:
    """md5 and sha256 of a file."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(partial(file.read, 2**20), b""):
            md5.update(block)
            sha256.update(block)
    return {"md5": md5.hexdigest(), "sha256": sha256.hexdigest()}


def _mirror_checksums(
    checksums: Mapping[str, str] | str, base: str, patience: _Patience
) -> Mapping[str, str]:
    """File -> sha256; read from the mirror where `checksums` is the name of its list."""
    if not isinstance(checksums, str):
        return checksums
    address = f"{base}/{checksums}"

    def read() -> str:
        with _opened(address, 0, patience.timeout) as answer:
            return answer.file.read(LONGEST_LIST).decode()

    try:
        text = _patiently(read, patience)
    except (_RefusedError, UnicodeDecodeError) as error:
        raise InputError(
            f"{address}: the mirror's checksums cannot be read ({error}); "
            "correct `mirror: checksums`"
        ) from None
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        entry = re.fullmatch(r"([0-9a-f]{64})\s+\*?(?:\./)?(\S+)", line.strip())
        if not entry:
            raise InputError(
                f"{address}, line {number}: is not 'sha256  file'; correct the mirror's checksums"
            )
        found[entry[2]] = entry[1]
    return found


# ---------------------------------------------------------------- transfer
def _first_that_gives(
    addresses: list[str], part: Path, wanted: _Wanted, patience: _Patience, file: str
) -> str:
    """Fetch to `part` from the first address that has the wanted file; return that address."""
    reasons = []
    for address in addresses:
        try:
            _fetch(address, part, wanted, patience)
            return address
        except _RefusedError as reason:
            reasons.append(f"{address}: {reason}")
    raise InputError(
        f"{file}: no address gave this archive ({'; '.join(reasons)}); check the network, or name "
        "a mirror (docs/data.md)"
    )


def _fetch(address: str, part: Path, wanted: _Wanted, patience: _Patience) -> None:
    """Fetch to `part` and check it; a wrong file is removed."""
    had = _length(part) > 0
    if had and wanted.mismatch(part) is None:
        return  # stopped between the transfer's end and the renaming

    def transfer() -> None:
        _transfer(address, part, wanted, patience.timeout)

    _patiently(transfer, patience, part)
    wrong = wanted.mismatch(part)
    if wrong and had:
        # What lay there before may have been the beginning of another file.
        part.unlink()
        _patiently(transfer, patience, part)
        wrong = wanted.mismatch(part)
    if wrong:
        part.unlink()
        raise _RefusedError(wrong)


def _patiently(step: Callable[[], Result], patience: _Patience, part: Path | None = None) -> Result:
    """Do `step`, again where the network fails; tries that make `part` longer do not count."""
    failures, longest = 0, _length(part)
    while True:
        try:
            return step()
        except (OSError, http.client.HTTPException) as error:
            failures = 1 if _length(part) > longest else failures + 1
            longest = max(longest, _length(part))
            if failures >= patience.attempts:
                said = " ".join(str(error).split()) or type(error).__name__
                raise _RefusedError(f"{said}, {failures} times in a row") from None
            time.sleep(patience.wait * 2 ** (failures - 1))


def _length(part: Path | None) -> int:
    return part.stat().st_size if part is not None and part.exists() else 0


def _transfer(address: str, part: Path, wanted: _Wanted, timeout: float) -> None:
    """Append to `part` what it lacks, or write it anew where the address starts over.

    Raises OSError where the transfer stops early, _RefusedError where another try is in vain.
    """
    most = wanted.size or LARGEST
    try:
        with _opened(address, _length(part), timeout) as answer:
            first = answer.file.read(BLOCK)
            if not answer.start:
                _check_beginning(address, first)
            length, whole = answer.start, answer.whole or wanted.size
            if (whole or 0) > most:
                raise _RefusedError(f"has {whole} bytes, at most {most} were expected")
            blocks = chain([first], iter(partial(answer.file.read, BLOCK), b""))
            total = whole and -(-(whole - length) // BLOCK)
            # The mode keeps what is there until the first block of a good answer has come.
            with writing(part), open(part, "ab" if answer.start else "wb") as file:
                for block in track(blocks, f"{address}, blocks of {BLOCK} bytes", total):
                    length += len(block)
                    if length > most:
                        break
                    file.write(block)
    except urllib.error.HTTPError as error:
        if error.code == OUT_OF_RANGE:
            part.unlink(missing_ok=True)  # longer than what the address has: another file's
        elif error.code not in PASSING:
            raise _RefusedError(f"HTTP error {error.code}") from None
        raise
    if length > most:
        part.unlink()
        raise _RefusedError(f"has more than the {most} bytes expected")
    if length < (whole or 0):
        raise OSError(f"stopped after {length} of {whole} bytes")


@contextmanager
def _opened(address: str, start: int, timeout: float) -> Iterator[_Answer]:
    """Open a file of a folder or of the web, the latter from byte `start` on if it can."""
    if not _is_web(address):
        try:
            with open(address, "rb") as file:
                yield _Answer(file, 0, os.fstat(file.fileno()).st_size)
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            raise _RefusedError(error.strerror) from None
        return
    # Packed once more on the way, an archive would have another checksum.
    headers = {"User-Agent": "contrastdp", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=timeout) as response:
        if response.headers.get_content_type() == "text/html":
            raise _RefusedError("is a web page, not the file")
        if response.status != 206:
            start = 0
        elif not (response.headers["Content-Range"] or "").startswith(f"bytes {start}-"):
            raise _RefusedError(f"gives the range {response.headers['Content-Range']} instead")
        stated = response.headers["Content-Length"]
        yield _Answer(response, start, start + int(stated) if stated else None)


def _is_web(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def _check_beginning(address: str, first: bytes) -> None:
    """Refuse what cannot be an archive by its first bytes."""
    magic = MAGIC.get(Path(address).suffix, b"")
    if not first.startswith(magic):
        is_page = first.lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))
        raise _RefusedError("is a web page, not the file" if is_page else "is no such archive")
