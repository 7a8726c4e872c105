"""Batches of robust training: real and synthetic images, mixed and augmented."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch.nn import functional as F

from contrastdp.data import augmentation
from contrastdp.data.tensors import Epochs
from contrastdp.errors import InputError

Images = tuple[torch.Tensor, torch.Tensor]


class MixedBatches(Iterator[Images]):
    """Endless batches: real images without replacement within an epoch, synthetic ones with.

    Of each batch, floor(batch * synthetic_share) images are synthetic; without synthetic images all
    are real, without real ones all are synthetic. A synthetic_share of 'pooled' makes one set of
    both, drawn without replacement within an epoch of it. Its state is that of the epoch; the
    generator has its own.
    """

    def __init__(
        self,
        real: Images | None,
        synthetic: Images | None,
        *,
        batch: int,
        synthetic_share: float | str,
        generator: torch.Generator,
    ):
        """Raises InputError where no images are given, or a share leaves out a given set."""
        if real is None and synthetic is None:
            raise InputError("no images to train on: give real images, synthetic images or both")
        if synthetic_share == "pooled":
            given = [images for images in (real, synthetic) if images is not None]
            real = _joined(given)
            synthetic = None
        alone = real is None or synthetic is None
        share = float(real is None) if alone else float(synthetic_share)
        # one part in ten thousand of an image: 10 * 0.3 must not become 2 by rounding
        self.n_synthetic = math.floor(batch * share + 1e-4)
        if not alone and not 0 < self.n_synthetic < batch:
            raise InputError(
                f"synthetic_share {synthetic_share} gives {self.n_synthetic} synthetic images in a "
                f"batch of {batch}; choose a share that leaves room for both"
            )
        self.real, self.synthetic, self.generator = real, synthetic, generator
        n_real = batch - self.n_synthetic
        self._order = None if real is None else Epochs(len(real[1]), n_real, generator)

    def __next__(self) -> Images:
        parts = []
        if self.real is not None and self._order is not None:
            parts.append((self.real, next(self._order)))
        if self.synthetic is not None and self.n_synthetic:
            count, size = len(self.synthetic[1]), (self.n_synthetic,)
            chosen = torch.randint(count, size, generator=self.generator)
            parts.append((self.synthetic, chosen))
        drawn = []
        for (x, y), chosen in parts:
            chosen = chosen.to(y.device)
            drawn.append((x[chosen], y[chosen]))
        return _joined(drawn)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """State of the real images' epoch; nothing without real images."""
        return {} if self._order is None else self._order.state_dict()

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on where the MixedBatches of state_dict was."""
        if self._order is not None:
            self._order.load_state_dict(state)


def _joined(sets: Sequence[Images]) -> Images:
    return torch.cat([x for x, _ in sets]), torch.cat([y for _, y in sets])


def augmented(
    draws: Iterator[Images],
    *,
    shift: int,
    flip: bool,
    cutmix: float,
    classes: int,
    generator: torch.Generator,
) -> Iterator[Images]:
    """Batches of `draws` after crops, flips and CutMix, each where its setting is not 0 or False.

    With CutMix the labels become probabilities (N, classes).
    """
    for x, y in draws:
        x = augmentation.shift(x, shift, generator)
        if flip:
            x = augmentation.flip(x, generator)
        if cutmix:
            x, y = augmentation.cutmix(x, F.one_hot(y, classes).float(), cutmix, generator)
        yield x, y
