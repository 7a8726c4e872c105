"""Images as tensors: conversion, subsets of real images and batches."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from contrastdp.data.images import read_images
from contrastdp.errors import InputError
from contrastdp.streams import derive_seed


# ---------------------------------------------------------------- conversion
def to_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, C) to float32 (N, C, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2))).float() / 255


def to_uint8(x: torch.Tensor) -> np.ndarray:
    """Float (N, C, H, W) in [0, 1] to uint8 (N, H, W, C), clipped and rounded to the nearest."""
    # PAPER: rounds; the official code truncates, which darkens every image by half a grey level.
    x = (x.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())


# ---------------------------------------------------------------- subsets
def draw_subset(label: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw `count` images at random, the same number of every class; sorted indices, int64.

    Where count is no multiple of the classes, random classes give one more; a class with too few
    images gives all it has and the others make up for it. Raises InputError where fewer than
    `count` images exist.
    """
    if not 1 <= count <= len(label):
        raise InputError(
            f"{count} real images asked for, the training split has {len(label)}; "
            f"ask for 1 to {len(label)}"
        )
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.unique(label))
    pools = [rng.permutation(np.flatnonzero(label == c)) for c in classes]
    # Deal one image a class in turn: the first `count` cards, sorted by round and then by class.
    turn = np.concatenate([np.arange(len(pool)) for pool in pools])
    dealt = np.argsort(turn, kind="stable")[:count]
    return np.sort(np.concatenate(pools)[dealt]).astype(np.int64)


# ---------------------------------------------------------------- labelled images of a file
def read_tensors(
    path: str,
    *,
    classes: int,
    device: torch.device,
    image_shape: Sequence[int] | None = None,
    real: int | None = None,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, C, H, W) in [0, 1] and labels (N,) of an image file, on `device`.

    real: draw this many under `seed`, the same ones for whatever is trained with that seed; all
    where None. image_shape: the expected (H, W, C). Raises InputError as read_images does,
    and where there is no image.
    """
    data = read_images(path, classes=classes, image_shape=image_shape)
    if not len(data["label"]):
        raise InputError(f"{path}: holds no images; make it again, from more of them")
    chosen: np.ndarray | slice = slice(None)
    if real is not None:
        chosen = draw_subset(data["label"], real, derive_seed(seed, "subset"))
    return _tensors(data, chosen, device)


def read_held_out(
    path: str, *, classes: int, device: torch.device, real: int, seed: int, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """At most `count` of the images that read_tensors(real=real, seed=seed) leaves out, as it does.

    They are drawn at random where there are more, the same ones whatever the order of use. Raises
    InputError where none is left, and as read_tensors does.
    """
    data = read_images(path, classes=classes)
    drawn = draw_subset(data["label"], real, derive_seed(seed, "subset"))
    rest = np.setdiff1d(np.arange(len(data["label"])), drawn)
    if not len(rest):
        raise InputError(f"{path}: all its {real} images are trained on; ask for fewer real ones")
    rng = np.random.default_rng(derive_seed(seed, "held out"))
    return _tensors(data, np.sort(rng.permutation(rest)[:count]), device)


def _tensors(
    data: Mapping[str, np.ndarray], chosen: np.ndarray | slice, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.from_numpy(data["label"][chosen])
    return to_tensor(data["image"][chosen]).to(device), label.to(device)


def shape_of(x: torch.Tensor) -> tuple[int, int, int]:
    """(H, W, C), as image files have it, of images (N, C, H, W)."""
    return x.shape[2], x.shape[3], x.shape[1]


# ---------------------------------------------------------------- batches
def batches(count: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover `count` items, for evaluation."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


class Epochs(Iterator[torch.Tensor]):
    """Endless index batches of exactly `size`, without replacement within an epoch.

    The batches are cut from one permutation of `count` items after another, so a batch may hold
    the end of one epoch and the beginning of the next. Its state is what the present permutation
    has left; the generator has its own.
    """

    def __init__(self, count: int, size: int, generator: torch.Generator | None):
        """generator: on the CPU, draws the permutations; torch's global one where None."""
        self.count, self.size, self.generator = count, size, generator
        self._rest = torch.empty(0, dtype=torch.int64)

    def __next__(self) -> torch.Tensor:
        while len(self._rest) < self.size:
            drawn = torch.randperm(self.count, generator=self.generator)
            self._rest = torch.cat([self._rest, drawn])
        batch, self._rest = self._rest[: self.size], self._rest[self.size :]
        return batch

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Indices (N,) int64 that the present permutation has left."""
        return {"rest": self._rest.clone()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on where the Epochs of state_dict was."""
        self._rest = state["rest"]
