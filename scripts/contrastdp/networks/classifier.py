"""What every classifier here is: penultimate features of images, then logits of the features."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Classifier(nn.Module):
    """Images (N, channels, H, W) in [0, 1] to logits (N, classes).

    settings: the arguments of build_network that make this network, which a checkpoint keeps.
    by_layers: whether it is computed by torch's own layers alone, as by_layers has it.
    """

    by_layers = False

    settings: dict[str, Any]
    logits: nn.Linear

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate features (N, D)."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes)."""
        return self.logits(self.features(x))


@contextmanager
def by_layers(network: nn.Module) -> Iterator[None]:
    """Within, classifiers are computed by torch's own layers, which torch.func can transform."""
    classifiers = [module for module in network.modules() if isinstance(module, Classifier)]
    before = [classifier.by_layers for classifier in classifiers]
    for classifier in classifiers:
        classifier.by_layers = True
    try:
        yield
    finally:
        for classifier, value in zip(classifiers, before, strict=True):
            classifier.by_layers = value
