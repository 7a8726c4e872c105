"""Weights averaged over training, the network that is validated, saved and attacked."""

import copy

import torch
from torch import nn


def averaging_weight(step: int, decay: float, warmup: int) -> float:
    """Weight of the old average at `step` (counted from 0): min(decay, (1 + d) / (10 + d)).

    d = step - warmup; before the warm-up's end it is 0, so the average is a copy.
    """
    since = step - warmup
    return 0.0 if since < 0 else min(decay, (1 + since) / (10 + since))


class AveragedNetwork:
    """An exponential moving average of a network's parameters.

    Parameters are averaged; buffers (BatchNorm statistics) are kept beside them as the live network
    has them, since their own momentum averages them already.
    """

    def __init__(self, network: nn.Module, *, decay: float, warmup: int):
        """decay: the largest weight of the old average; warmup: steps during which it is a copy."""
        self.decay, self.warmup = decay, warmup
        self._network = copy.deepcopy(network).eval().requires_grad_(False)
        self._average = list(self._network.parameters())
        self._live = list(network.parameters())
        self._buffers = list(zip(self._network.buffers(), network.buffers(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the live parameters after optimiser step `step`, counted from 0."""
        weight = averaging_weight(step, self.decay, self.warmup)
        if weight == 0.0:
            torch._foreach_copy_(self._average, self._live)
        else:
            torch._foreach_lerp_(self._average, self._live, 1 - weight)

    @torch.no_grad()
    def network(self) -> nn.Module:
        """The averaged network, in evaluation mode, with the live network's present buffers."""
        for kept, live in self._buffers:
            kept.copy_(live)
        return self._network
