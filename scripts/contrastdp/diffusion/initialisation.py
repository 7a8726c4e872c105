"""Where the chain of an image starts, a registry: x_T from Gaussian noise.

A new initialisation is one class here under @INITIALISATIONS.enter; its keyword-only arguments are
its settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.registry import Registry
from contrastdp.streams import Noise


class Initialisation(Protocol):
    """The start of a batch's chains."""

    def __call__(
        self,
        indices: Sequence[int],
        streams: Noise,
        scheduler: SubsequenceScheduler,
        device: torch.device,
    ) -> tuple[Tensor, list[int]]:
        """States x_t (m, C, H, W) on `device`, and the timesteps that are left, t the first.

        indices: which images; streams: whence all randomness comes; scheduler: with the whole
        chain's timesteps, of which those left are the end, and abar.
        """


INITIALISATIONS = Registry("initialisation")


@INITIALISATIONS.enter("gaussian")
@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """x_T ~ N(0, initial_scale^2 I), and the whole chain; 2 for the paper's N(0, 4I)."""

    initial_scale: float = 1.0

    def __call__(
        self,
        indices: Sequence[int],
        streams: Noise,
        scheduler: SubsequenceScheduler,
        device: torch.device,
    ) -> tuple[Tensor, list[int]]:
        """As Initialisation says."""
        return self.initial_scale * streams.draw(device), scheduler.timesteps.tolist()


GAUSSIAN = Gaussian()


def build_initialisation(initialisation: str = "gaussian", **settings: Any) -> Initialisation:
    """The one named, with its settings; InputError for an unknown name or setting."""
    return INITIALISATIONS.make(initialisation, **settings)
