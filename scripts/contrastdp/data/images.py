"""Image files: npz with `image` (N, H, W, C) uint8, `label` (N,) int64, and records."""

import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from contrastdp.errors import InputError
from contrastdp.files import REMADE, replacing


def write_images(path: str | Path, *, image: np.ndarray, label: np.ndarray, **record: Any) -> None:
    """Write images as the npz this field exchanges.

    image: (N, H, W, C) uint8; label: (N,) int64, -1 where unknown; record: further (N,) arrays,
    one value an image (index, confidence, score).
    """
    image = np.asarray(image)
    check_images(path, {"image": image, "label": np.asarray(label)}, classes=None)
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
    check_images(path, {"image": header_only(shape, np.uint8)} | records, classes=None)
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
    with opened(path) as file:
        arrays = {name: file[name] for name in file.files}
    check_images(path, arrays, classes)
    if image_shape is not None and arrays["image"].shape[1:] != tuple(image_shape):
        raise InputError(
            f"{path}: images are {arrays['image'].shape[1:]}, expected {tuple(image_shape)}; "
            "check the dataset's image_size and channels"
        )
    if labelled:
        check_labelled(path, arrays["label"])
    return arrays


def read_records(
    path: str | Path, *, classes: int | None = None, labelled: bool = True
) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
    """Read and check an image file but for its pixels: the (N,) arrays, and (N, H, W, C).

    classes, labelled and errors as of read_images.
    """
    with opened(path) as file:
        arrays = {name: file[name] for name in file.files if name != "image"}
        if "image" in file.files:
            with file.zip.open("image.npy") as member:
                shape, _, dtype = read_header(member)
            arrays["image"] = header_only(shape, dtype)
    check_images(path, arrays, classes)
    if labelled:
        check_labelled(path, arrays["label"])
    return arrays, arrays.pop("image").shape


@contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """An npz file, whose arrays are as large as their headers say.

    Raises InputError in one line for a missing, damaged or ill-formed file, also while it is open.
    """
    try:
        with open(path, "rb") as handle:
            if handle.read(6) == b"\x93NUMPY":
                raise ValueError("it is a single array; np.savez writes several")
            handle.seek(0)
            with np.load(handle, allow_pickle=False) as file:
                for name in file.files:
                    _check_size(file.zip, name)
                yield file
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the rule that makes it") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError, MemoryError) as error:
        raise InputError(f"{path}: damaged or not an npz file ({error}); {REMADE}") from None


def _check_size(archive: zipfile.ZipFile, name: str) -> None:
    """Raise ValueError where an array's header claims more or less than its bytes."""
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as member:
        shape, _, dtype = read_header(member)
        claimed, held = math.prod(shape) * dtype.itemsize, entry.file_size - member.tell()
    if claimed != held and not dtype.hasobject:  # a pickle is refused when it is read
        raise ValueError(f"{name} claims to be {dtype} {shape}, and has {held} bytes")


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and type of the array that an npy stream holds; its data come next."""
    version = np.lib.format.read_magic(stream)
    kind = "1_0" if version == (1, 0) else "2_0"
    return getattr(np.lib.format, f"read_array_header_{kind}")(stream)


def header_only(shape: Sequence[int], dtype: np.dtype | type) -> np.ndarray:
    """An array of that shape and kind that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def check_labelled(path: str | Path, label: np.ndarray) -> None:
    """Raise InputError where an image has the label -1."""
    if (label < 0).any():
        raise InputError(f"{path}: has images without a label (-1); label them first")


def check_images(path: str | Path, arrays: Mapping[str, np.ndarray], classes: int | None) -> None:
    """Raise InputError where an image file's arrays are not those that this module's head says.

    classes: labels must lie in [-1, classes); no check of them where None.
    """
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
        if not values.ndim:
            raise InputError(
                f"{path}: {name} is a single number; an image file holds one value an image"
            )
        if len(values) != len(image):
            raise InputError(
                f"{path}: {name} has {len(values)} entries for {len(image)} images; "
                "make the file again"
            )
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            place = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))[0])
            raise InputError(f"{path}: {name} of image {place} is not finite; make the file again")
    if classes is not None and len(label) and (label.min() < -1 or label.max() >= classes):
        raise InputError(
            f"{path}: labels span {label.min()} to {label.max()}, expected 0 to {classes - 1}; "
            "check the dataset's number of classes"
        )
