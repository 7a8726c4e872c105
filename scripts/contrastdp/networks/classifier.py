"""What every classifier here is: penultimate features of images, then logits of the features."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn


class Classifier(nn.Module, ABC):
    """Images (N, channels, H, W) in [0, 1] to logits (N, classes).

    settings: the arguments of build_network that make this network, which a checkpoint keeps.
    by_layers: whether it is computed by torch's own layers alone, which torch.func can transform.
    time_dependent: whether it takes noisy images x_t in [-1, 1] and their timesteps t instead.
    """

    by_layers = False
    time_dependent = False

    settings: dict[str, Any]
    logits: nn.Linear

    @abstractmethod
    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate features (N, D)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes)."""
        return self.logits(self.features(x))
