"""Synthetic images from elsewhere: an npz file, or a folder of image.npy and label.npy."""

import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from contrastdp.data.images import check_images, check_labelled, header_only, read_header
from contrastdp.errors import InputError


def external_images(
    source: str | Path, *, start: int, stop: int, needed: int, shape: Sequence[int], classes: int
) -> dict[str, np.ndarray]:
    """Images [start, stop) of a source, as far as it goes: image, label and index, one a row.

    source: image (N, H, W, C) uint8 and label (N,) of any integers, of which the pixels asked for
    alone are held; needed: how many images it must have; shape: (H, W, C) of the data set. Raises
    InputError in one line for what it lacks, and for another type, layout, shape or class.
    """
    with _arrays(source) as arrays:
        found: dict[str, Any] = {}
        if "image" in arrays:
            size, fortran, dtype = read_header(arrays["image"])
            if fortran:
                raise InputError(f"{source}: image is in Fortran order; save it in C order")
            found["image"] = header_only(size, dtype)
        if "label" in arrays:
            label = np.lib.format.read_array(arrays["label"], allow_pickle=False)
            found["label"] = label.astype(np.int64) if label.dtype.kind in "iu" else label
        check_images(source, found, classes)
        check_labelled(source, found["label"])
        count, *each = found["image"].shape
        if each != [*shape]:
            first = each == [shape[2], *shape[:2]]
            advice = "move the channels to the end" if first else "resize them"
            raise InputError(f"{source}: images are {each}, expected {[*shape]}; {advice}")
        if count < needed:
            raise InputError(f"{source}: has {count} images, its arms need {needed}; add more")
        stop, values = min(stop, count), math.prod(each)
        arrays["image"].seek(start * values, os.SEEK_CUR)
        pixels = np.frombuffer(arrays["image"].read((stop - start) * values), np.uint8)
        image = pixels.reshape(stop - start, *each)
    return {"image": image, "label": found["label"][start:stop], "index": np.arange(start, stop)}


@contextmanager
def _arrays(source: str | Path) -> Iterator[dict[str, IO[bytes]]]:
    """The npy streams of a source by name; what goes wrong while they are open is one line."""
    folder = Path(source)
    files: dict[str, IO[bytes]]
    try:
        with ExitStack() as stack:
            if folder.is_dir():
                files = {file.stem: file.open("rb") for file in folder.glob("*.npy")}
            else:
                archive = stack.enter_context(zipfile.ZipFile(source))
                files = {name[:-4]: archive.open(name) for name in archive.namelist()}
            yield {name: stack.enter_context(file) for name, file in files.items()}
    except InputError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise InputError(f"{source}: no npz file or folder of npy files ({error})") from None
