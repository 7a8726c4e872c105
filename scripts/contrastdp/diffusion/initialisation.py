"""Where the chain of an image starts, a registry: x_T from Gaussian noise.

A new initialisation is one class here, entered in INITIALISATIONS; its keyword-only arguments are
its settings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.errors import InputError
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
INITIALISATIONS: dict[str, Callable[..., Initialisation]] = {"gaussian": Gaussian}


def build_initialisation(initialisation: str = "gaussian", **settings: Any) -> Initialisation:
    """The one named, with its settings; InputError for an unknown name or setting."""
    if initialisation not in INITIALISATIONS:
        known = " or ".join(INITIALISATIONS)
        raise InputError(f"initialisation '{initialisation}': unknown; use {known}")
    try:
        return INITIALISATIONS[initialisation](**settings)
    except TypeError as error:
        raise InputError(f"initialisation '{initialisation}': {error}; correct it") from None
