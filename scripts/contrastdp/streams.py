"""Random streams: one per purpose, and one per image, so that results do not depend on batching."""

import hashlib
from collections.abc import Sequence
from typing import Protocol

import torch


def derive_seed(seed: int, *purpose: int | str) -> int:
    """A 63-bit seed that depends on `seed` and on every word of `purpose`, on any machine.

    Different purposes give unrelated streams, such as (0, "subset") and (0, "image", 7).
    """
    text = "\x1f".join(str(word) for word in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: int | str) -> torch.Generator:
    """A CPU generator on the stream of derive_seed(seed, *purpose)."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


class Noise(Protocol):
    """What draws the noise of a batch of images."""

    def draw(self, device: torch.device) -> torch.Tensor:
        """The next N(0, 1) draw of every image: (m, C, H, W) on `device`."""


class ImageNoise:
    """Gaussian noise in which image i draws only from its own stream (seed, i).

    The k-th draw of image i is the same whatever images stand beside it, on the CPU and, because
    noise is drawn there, on any device.
    """

    def __init__(self, seed: int, indices: Sequence[int], shape: Sequence[int]):
        """indices: which images; shape: (C, H, W) of one image."""
        self.indices = list(indices)
        self.shape = tuple(shape)
        self._generators = [generator(seed, "image", index) for index in self.indices]

    def draw(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """The next N(0, 1) draw of every image: (len(indices), C, H, W) float32 on `device`."""
        # said, so that torch's default type and device do not change the draws
        noise = torch.empty(len(self.indices), *self.shape, dtype=torch.float32, device="cpu")
        for row, stream in zip(noise, self._generators, strict=True):
            row.normal_(generator=stream)
        return noise.to(device)
