"""Files in, files out: images (npz), metrics (JSON), tables (CSV), each whole or not at all."""

import csv
import hashlib
import json
import math
import os
import platform
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("torch", "diffusers", "numpy", "pyautoattack", "scikit-learn", "safetensors")


class InputError(ValueError):
    """Bad input, told in one line: what is wrong, where, and what to do."""


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


# ---------------------------------------------------------------- images
def write_images(path: str | Path, *, image: np.ndarray, label: np.ndarray, **record: Any) -> None:
    """Write images as the npz this field exchanges.

    image: (N, H, W, C) uint8; label: (N,) int64, -1 where unknown; record: further (N,) arrays,
    one value an image (index, confidence, score).
    """
    image = np.asarray(image)
    _check_images(path, {"image": image, "label": np.asarray(label)}, classes=None)
    write_image_blocks(path, [image], shape=image.shape, label=label, **record)


def write_image_blocks(
    path: str | Path,
    blocks: Iterable[np.ndarray],
    *,
    shape: Sequence[int],
    label: np.ndarray,
    **record: Any,
) -> None:
    """Write images as write_images does, byte for byte, of which one block is in memory at a time.

    blocks: (n, H, W, C) uint8, together the N images of `shape` (N, H, W, C).
    """
    shape = tuple(int(side) for side in shape)
    records = {name: np.asarray(values) for name, values in ({"label": label} | record).items()}
    _check_images(path, {"image": _header_only(shape, np.uint8)} | records, classes=None)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
        with file.open("image.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            count = 0
            for block in blocks:
                if block.shape[1:] != shape[1:] or block.dtype != np.uint8:
                    raise InputError(
                        f"{path}: a block of images is {block.dtype} {block.shape}, expected uint8 "
                        f"(n, {', '.join(map(str, shape[1:]))}); make the images alike"
                    )
                member.write(np.ascontiguousarray(block).data)
                count += len(block)
        if count != shape[0]:
            raise InputError(f"{path}: {count} images came for {shape[0]} records; run again")
        for name, values in records.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


def read_images(
    path: str | Path,
    *,
    classes: int | None = None,
    image_shape: Sequence[int] | None = None,
    labelled: bool = True,
) -> dict[str, np.ndarray]:
    """Read and check an image file: `image` (N, H, W, C) uint8, `label` (N,) int64, and records.

    classes: labels must lie in [0, classes); image_shape: the expected (H, W, C);
    labelled: refuse the label -1. Raises InputError in one line for a missing, damaged or
    ill-formed file.
    """
    with _opened(path) as file:
        arrays = {name: file[name] for name in file.files}
    _check_images(path, arrays, classes)
    if image_shape is not None and arrays["image"].shape[1:] != tuple(image_shape):
        raise InputError(
            f"{path}: images are {arrays['image'].shape[1:]}, expected {tuple(image_shape)}; "
            "check the dataset's image_size and channels"
        )
    if labelled:
        _check_labelled(path, arrays["label"])
    return arrays


def read_records(
    path: str | Path, *, classes: int | None = None, labelled: bool = True
) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
    """Read and check an image file but for its pixels: the (N,) arrays, and (N, H, W, C).

    classes, labelled and errors as of read_images.
    """
    with _opened(path) as file:
        arrays = {name: file[name] for name in file.files if name != "image"}
        if "image" in file.files:
            with file.zip.open("image.npy") as member:
                version = np.lib.format.read_magic(member)
                kind = "1_0" if version == (1, 0) else "2_0"
                shape, _, dtype = getattr(np.lib.format, f"read_array_header_{kind}")(member)
            arrays["image"] = _header_only(shape, dtype)
    _check_images(path, arrays, classes)
    if labelled:
        _check_labelled(path, arrays["label"])
    return arrays, arrays.pop("image").shape


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """An npz file; what goes wrong while it is open is told in one line."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            yield file
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the rule that makes it") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise InputError(
            f"{path}: damaged or not an npz file ({error}); delete it and run again"
        ) from None


def _header_only(shape: Sequence[int], dtype: np.dtype | type) -> np.ndarray:
    """An array of that shape and kind that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _check_labelled(path: str | Path, label: np.ndarray) -> None:
    if (label < 0).any():
        raise InputError(f"{path}: has images without a label (-1); label them first")


def _check_images(path: str | Path, arrays: Mapping[str, np.ndarray], classes: int | None) -> None:
    for name in ("image", "label"):
        if name not in arrays:
            raise InputError(
                f"{path}: has no array '{name}' (found: {', '.join(sorted(arrays)) or 'none'}); "
                "an image file holds image (N, H, W, C) uint8 and label (N,) int64"
            )
    image, label = arrays["image"], arrays["label"]
    if image.dtype != np.uint8 or image.ndim != 4:
        raise InputError(
            f"{path}: image is {image.dtype} {image.shape}, expected uint8 (N, H, W, C); "
            "convert it before use"
        )
    if label.dtype != np.int64 or label.ndim != 1:
        raise InputError(
            f"{path}: label is {label.dtype} {label.shape}, expected int64 (N,); "
            "convert it before use"
        )
    for name, values in arrays.items():
        if len(values) != len(image):
            raise InputError(
                f"{path}: {name} has {len(values)} entries for {len(image)} images; "
                "delete the file and run again"
            )
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            place = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))[0])
            raise InputError(f"{path}: {name} of image {place} is not finite; make the file again")
    if classes is not None and len(label) and (label.min() < -1 or label.max() >= classes):
        raise InputError(
            f"{path}: labels span {label.min()} to {label.max()}, expected 0 to {classes - 1}; "
            "check the dataset's number of classes"
        )


# ---------------------------------------------------------------- metrics and tables
def write_json(path: str | Path, content: Any) -> None:
    """Write JSON, indented, with NaN and infinity refused."""
    try:
        text = json.dumps(content, indent=2, allow_nan=False, default=_plain)
    except ValueError as error:
        raise InputError(f"{path}: refuses a non-finite number ({error})") from None
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


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


def write_csv(path: str | Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as CSV in the order of `columns`; other keys are an error, None is empty."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, extrasaction="raise", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: str | Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Read a CSV or TSV file as a list of rows of strings; a ragged row is an InputError."""
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle, delimiter=delimiter))
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


def finite(value: float, what: str, step: int) -> float:
    """Return `value`, or stop in one line where a loss or metric is not finite."""
    if not math.isfinite(value):
        raise InputError(
            f"{what} is {value} at step {step}; lower the learning rate or check the input images"
        )
    return value


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


# ---------------------------------------------------------------- provenance
def provenance(*, seed: int | None, settings: Mapping[str, Any], device: str) -> dict[str, Any]:
    """What produced a result: settings, seed, commit, package versions, device and precision."""
    return {
        "seed": seed,
        "settings": dict(settings),
        "commit": commit(),
        "versions": versions(),
        "device": str(device),
        "precision": "float32",
    }


def versions() -> dict[str, str]:
    """Python's version and those of the packages that decide a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def commit() -> str:
    """The checkout's commit, with '+' where files differ from it; 'unknown' outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
