"""What every classifier here is: penultimate features of images, then logits of the features."""

from typing import Any

import torch
from torch import nn


class Classifier(nn.Module):
    """Images (N, channels, H, W) in [0, 1] to logits (N, classes).

    settings: the arguments of build_network that make this network, which a checkpoint keeps.
    """

    settings: dict[str, Any]
    logits: nn.Linear

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate features (N, D)."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes)."""
        return self.logits(self.features(x))
