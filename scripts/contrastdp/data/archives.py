"""Archives of real images, read in memory and distrusted: nothing of them is extracted or run.

A file whose digest was checked is what its publisher made; a mirror's own files are anybody's. So
every entry's name, kind and size is checked against what the format allows before it is read.
"""

import csv
import gzip
import io
import math
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, Protocol, cast

import numpy as np
from PIL import Image

from contrastdp.errors import InputError
from contrastdp.files import REMADE

ELSEWHERE = "get the archive from a canonical address"
MNIST_IMAGES = 60_000  # most images of one IDX archive
CIFAR10_RECORD = 1 + 3 * 32 * 32  # a byte of label, then red, green and blue planes
CIFAR10_BATCH = 10_000  # most records of one file
CIFAR10_UNPACKED = 2**28  # the canonical archive holds 184 MB
GTSRB_CLASSES = 43
GTSRB_SIDE = 32  # pixels of a side after resizing
GTSRB_LARGEST = 512  # pixels of a side before; the canonical archives stay below 270
GTSRB_ENTRIES = 60_000
GTSRB_ENTRY = 2**20  # bytes of one unpacked entry
GTSRB_UNPACKED = 2**30  # bytes of all


class Stream(Protocol):
    """What is read of an open file, packed or not."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes."""


class Labelled(NamedTuple):
    """Images of an archive in its order: image (N, H, W, C) uint8 and label (N,) int64.

    track: (N,) int64, frames of one recording share a number; None where images are unrelated.
    """

    image: np.ndarray
    label: np.ndarray
    track: np.ndarray | None = None


# ---------------------------------------------------------------- MNIST: gzipped IDX
def read_mnist(images: str | Path, labels: str | Path) -> Labelled:
    """Read a pair of gzipped IDX files: (N, 28, 28, 1) grey images of the digits 0 to 9.

    Raises InputError for damaged files, other formats, surplus data and counts that disagree.
    """
    image = _read_idx(images, sides=(28, 28))
    label = _read_idx(labels, sides=()).astype(np.int64)
    if len(image) != len(label):
        raise InputError(
            f"{labels}: has {len(label)} labels for the {len(image)} images of {images}; "
            "fetch both from one place"
        )
    _check_labels(labels, label, classes=10)
    return Labelled(image[..., None], label)


def _read_idx(path: str | Path, sides: Sequence[int]) -> np.ndarray:
    """An IDX array of bytes, (N, *sides)."""
    with _readable(path, "gzip archive"), gzip.open(path) as file:
        magic, count, *shape = struct.unpack(
            f">{2 + len(sides)}I", _take(path, file, 8 + 4 * len(sides))
        )
        # 8 says unsigned bytes, the last byte is the number of dimensions
        if magic != 0x0800 + 1 + len(sides) or tuple(shape) != tuple(sides):
            raise InputError(
                f"{path}: is not an IDX file of bytes with sides {tuple(sides)}; {ELSEWHERE}"
            )
        if not 1 <= count <= MNIST_IMAGES:
            raise InputError(
                f"{path}: claims {count} entries, 1 to {MNIST_IMAGES} are allowed; {ELSEWHERE}"
            )
        content = _take(path, file, count * math.prod(sides))
        if file.read(1):
            raise InputError(f"{path}: goes on after its {count} entries; {ELSEWHERE}")
    return np.frombuffer(content, np.uint8).reshape(count, *sides)


# ---------------------------------------------------------------- CIFAR-10: binary records
def read_cifar10(path: str | Path) -> tuple[Labelled, Labelled]:
    """Read CIFAR-10's binary archive: training and test images, each (N, 32, 32, 3), ten classes.

    Training images lie in the order of the five batches. Raises InputError for a damaged archive,
    entries that a CIFAR-10 archive cannot have, missing batches and labels above 9.
    """
    training = [f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)]
    test = ["cifar-10-batches-bin/test_batch.bin"]
    batches: dict[str, bytes] = {}
    with _readable(path, "tar.gz archive"), gzip.open(path) as packed:
        limited = _Limited(path, packed, CIFAR10_UNPACKED)
        with tarfile.open(fileobj=cast(BinaryIO, limited), mode="r|") as tar:
            for member in tar:
                _check_name(path, member.name)
                if not (member.isreg() or member.isdir()) or member.issparse():
                    raise InputError(f"{path}: entry '{member.name}' is no plain file; {ELSEWHERE}")
                if member.name not in training + test:
                    continue
                if member.name in batches:
                    raise InputError(f"{path}: entry '{member.name}' is there twice; {ELSEWHERE}")
                count, rest = divmod(member.size, CIFAR10_RECORD)
                if rest or not 1 <= count <= CIFAR10_BATCH:
                    raise InputError(
                        f"{path}: entry '{member.name}' has {member.size} bytes, expected 1 to "
                        f"{CIFAR10_BATCH} records of {CIFAR10_RECORD}; {ELSEWHERE}"
                    )
                batches[member.name] = _take(path, tar.extractfile(member), member.size)
        # What follows the last entry holds the checksum of gzip.
        while limited.read(2**20):
            pass
    missing = [name for name in training + test if name not in batches]
    if missing:
        raise InputError(f"{path}: has no entry '{missing[0]}'; {ELSEWHERE}")
    return _records(path, batches, training), _records(path, batches, test)


def _records(path: str | Path, batches: dict[str, bytes], names: Iterable[str]) -> Labelled:
    record = np.frombuffer(b"".join(batches[name] for name in names), np.uint8)
    record = record.reshape(-1, CIFAR10_RECORD)
    label = record[:, 0].astype(np.int64)
    _check_labels(path, label, classes=10)
    planes = record[:, 1:].reshape(-1, 3, 32, 32)  # (N, C, H, W)
    return Labelled(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), label)


class _Limited:
    """A stream that refuses to give more than `limit` bytes, however small its packed form is."""

    def __init__(self, path: str | Path, file: Stream, limit: int) -> None:
        self.path, self.file, self.limit, self.left = path, file, limit, limit

    def read(self, size: int, /) -> bytes:
        content = self.file.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise InputError(f"{self.path}: unpacks to more than {self.limit} bytes; {ELSEWHERE}")
        return content


# ---------------------------------------------------------------- GTSRB: PPM images and CSV in zip
def read_gtsrb_training(path: str | Path) -> Labelled:
    """Read GTSRB's 'Final' training archive: (N, 32, 32, 3), 43 classes, sorted by file name.

    So images lie by class, track and frame. Labels are those of the annotations GT-{class}.csv.
    Raises InputError for a damaged archive, entries that are unsafe or too large, and images and
    annotations that disagree.
    """
    root = "GTSRB/Final_Training/Images"
    with _opened_zip(path) as file:
        names = file.namelist()
        label: dict[str, int] = {}
        for name in names:
            if found := re.fullmatch(rf"{root}/(\d{{5}})/GT-\1\.csv", name):
                rows = _annotations(f"{path}, {name}", file.read(name))
                for picture, number in rows.items():
                    if number != int(found[1]):
                        raise InputError(
                            f"{path}, {name}: '{picture}' has class {number}, its folder is "
                            f"{found[1]}; {ELSEWHERE}"
                        )
                label |= {f"{root}/{found[1]}/{picture}": n for picture, n in rows.items()}
        images = {
            name: 100_000 * int(found[1]) + int(found[2])
            for name in names
            if (found := re.fullmatch(rf"{root}/(\d{{5}})/(\d{{5}})_\d{{5}}\.ppm", name))
        }
        image, numbers = _pictures(path, file, images, label)
    return Labelled(image, numbers, np.array([images[name] for name in sorted(images)], np.int64))


def read_gtsrb_test(images: str | Path, truth: str | Path) -> Labelled:
    """Read GTSRB's 'Final' test archives: (N, 32, 32, 3) images and, in `truth`, their classes.

    Images lie in the order of their file names, which is random in class. Errors as of
    read_gtsrb_training.
    """
    root, table = "GTSRB/Final_Test/Images", "GT-final_test.csv"
    with _opened_zip(truth) as file:
        if table not in file.namelist():
            raise InputError(f"{truth}: has no entry '{table}'; {ELSEWHERE}")
        rows = _annotations(f"{truth}, {table}", file.read(table))
    with _opened_zip(images) as file:
        names = [name for name in file.namelist() if re.fullmatch(rf"{root}/\d{{5}}\.ppm", name)]
        label = {f"{root}/{image}": number for image, number in rows.items()}
        return Labelled(*_pictures(images, file, names, label))


def _annotations(where: str, content: bytes) -> dict[str, int]:
    """File name -> class of an annotation table, which is separated by semicolons."""
    found: dict[str, int] = {}
    for row in csv.DictReader(io.StringIO(content.decode("ascii"), newline=""), delimiter=";"):
        image, number = row.get("Filename"), row.get("ClassId") or ""
        if not image or not re.fullmatch(r"\d{1,2}", number) or image in found:
            raise InputError(f"{where}: line of '{image}' is ill-formed or double; {ELSEWHERE}")
        found[image] = int(number)
    return found


def _pictures(
    path: str | Path, file: zipfile.ZipFile, names: Iterable[str], label: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 32, 32, 3) and labels (N,) of the entries `names`, sorted."""
    differing = set(names) ^ label.keys()
    if differing or not label:
        raise InputError(
            f"{path}: {len(differing)} images and annotations have no counterpart"
            f"{f', first {min(differing)!r}' if differing else ', there are none'}; {ELSEWHERE}"
        )
    order = sorted(label)
    numbers = np.array([label[name] for name in order], np.int64)
    _check_labels(path, numbers, GTSRB_CLASSES)
    image = np.empty((len(order), GTSRB_SIDE, GTSRB_SIDE, 3), np.uint8)
    for place, name in enumerate(order):
        image[place] = _decode_ppm(f"{path}, {name}", file.read(name))
    return image, numbers


def _decode_ppm(where: str, content: bytes) -> np.ndarray:
    """One PPM picture as (32, 32, 3) uint8."""
    try:
        with Image.open(io.BytesIO(content), formats=["PPM"]) as picture:
            if picture.mode != "RGB" or max(picture.size) > GTSRB_LARGEST:
                raise ValueError(f"{picture.mode}, {picture.size[0]} x {picture.size[1]} pixels")
            # PAPER: the whole picture, not its region of interest, at 32 x 32: bilinear and, where
            # it shrinks, over all pixels covered, as torchvision's Resize. Pictures of that size
            # stay as they are.
            side = (GTSRB_SIDE, GTSRB_SIDE)
            return np.asarray(picture.resize(side, Image.Resampling.BILINEAR))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{where}: is no PPM picture in colour ({error}); {ELSEWHERE}") from None


# ---------------------------------------------------------------- what all archives share
@contextmanager
def _readable(path: str | Path, kind: str) -> Iterator[None]:
    """Tell in one line what goes wrong while an archive is read."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the rule that downloads it") from None
    except (
        *(OSError, EOFError, ValueError, LookupError, ArithmeticError, RuntimeError, MemoryError),
        *(struct.error, zlib.error, tarfile.TarError, zipfile.BadZipFile),
    ) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: damaged or not a {kind} ({said}); {REMADE}") from None


@contextmanager
def _opened_zip(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive of which every entry is plain, small and stays inside."""
    with _readable(path, "zip archive"), zipfile.ZipFile(path) as file:
        entries = file.infolist()
        if len(entries) > GTSRB_ENTRIES or sum(e.file_size for e in entries) > GTSRB_UNPACKED:
            raise InputError(
                f"{path}: has {len(entries)} entries, {sum(e.file_size for e in entries)} bytes "
                f"unpacked; at most {GTSRB_ENTRIES} and {GTSRB_UNPACKED} are allowed; {ELSEWHERE}"
            )
        seen: set[str] = set()
        for entry in entries:
            _check_name(path, entry.orig_filename)
            if fault := _fault(entry, seen):
                raise InputError(f"{path}: entry '{entry.filename}' {fault}; {ELSEWHERE}")
            seen.add(entry.filename)
        yield file


def _fault(entry: zipfile.ZipInfo, seen: Collection[str]) -> str | None:
    """Why an entry of a zip archive is not read, or None."""
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is no plain file"
    if entry.filename in seen:
        return "is there twice"
    if entry.file_size > GTSRB_ENTRY:
        return f"unpacks to {entry.file_size} bytes, at most {GTSRB_ENTRY} are allowed"
    # Other ways of packing are undone without regard to the size that the entry claims.
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is encrypted or packed in an unusual way"
    return None


def _check_name(path: str | Path, name: str) -> None:
    """Refuse an entry that would lie outside of the folder it is unpacked to."""
    plain = PurePosixPath(name.replace("\\", "/"))
    if plain.is_absolute() or ".." in plain.parts or ":" in name or "\0" in name:
        raise InputError(f"{path}: entry {name!r} leads out of the archive; {ELSEWHERE}")


def _check_labels(path: str | Path, label: np.ndarray, classes: int) -> None:
    if label.max() >= classes:
        raise InputError(
            f"{path}: labels reach {label.max()}, expected 0 to {classes - 1}; {ELSEWHERE}"
        )


def _take(path: str | Path, file: Stream | None, size: int) -> bytes:
    """Exactly `size` bytes of an open file."""
    content = file.read(size) if file else b""
    if len(content) < size:
        raise InputError(f"{path}: ends {size - len(content)} bytes early; {REMADE}")
    return content
