"""Weights averaged over training, the network that is validated, saved and attacked."""

import copy
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import nn

from contrastdp.errors import InputError

Network = TypeVar("Network", bound=nn.Module)
STATISTICS = ("live", "averaged", "recomputed")


def averaging_weight(step: int, decay: float, warmup: int) -> float:
    """Weight of the old average at `step` (counted from 0): min(decay, (1 + d) / (10 + d)).

    d = step - warmup; before the warm-up's end it is 0, so the average is a copy.
    """
    # PAPER: the official code counts updates from 1, so its copy ends one update earlier
    since = step - warmup
    return 0.0 if since < 0 else min(decay, (1 + since) / (10 + since))


class AveragedNetwork(Generic[Network]):
    """An exponential moving average of a network's parameters, with one of three kinds of buffers.

    Buffers are the statistics of BatchNorm. 'live': as the live network has them, since their own
    momentum averages them already (the official code). 'averaged': with the weights' own decay, so
    that they belong to weights of the same age; whole numbers are copied. 'recomputed': left alone
    here, for the caller to take anew from images that pass through the averaged network.
    """

    def __init__(self, network: Network, *, decay: float, warmup: int, statistics: str = "live"):
        """decay: the largest weight of the old average; warmup: steps during which it is a copy.

        Raises InputError for unknown `statistics`.
        """
        if statistics not in STATISTICS:
            raise InputError(
                f"averaged_statistics '{statistics}': unknown; use {', '.join(STATISTICS)}"
            )
        self.decay, self.warmup = decay, warmup
        self._network = copy.deepcopy(network).eval().requires_grad_(False)
        self._average: list[torch.Tensor] = list(self._network.parameters())
        self._live: list[torch.Tensor] = list(network.parameters())
        self._buffers = []
        for kept, live in zip(self._network.buffers(), network.buffers(), strict=True):
            if statistics == "averaged" and kept.is_floating_point():
                self._average.append(kept)
                self._live.append(live)
            elif statistics != "recomputed":
                self._buffers.append((kept, live))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the live network after optimiser step `step`, counted from 0."""
        weight = averaging_weight(step, self.decay, self.warmup)
        if weight == 0.0:
            torch._foreach_copy_(self._average, self._live)
        else:
            torch._foreach_lerp_(self._average, self._live, 1 - weight)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Weights and buffers of the average, as its network names them."""
        return self._network.state_dict()

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over the average of state_dict."""
        self._network.load_state_dict(state, strict=True)

    @torch.no_grad()
    def network(self) -> Network:
        """The averaged network, in evaluation mode."""
        for kept, live in self._buffers:
            kept.copy_(live)
        return self._network
