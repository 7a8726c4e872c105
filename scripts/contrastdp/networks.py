"""Classifiers: features, then logits. Inputs are float NCHW in [0, 1]; normalisation is inside.

Every network has `features(x)`, the penultimate features (N, D), and `forward(x)`, which is
`logits(features(x))` of shape (N, classes). To add one, write the module and enter it in
ARCHITECTURES.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from contrastdp.records import InputError


class SmallCNN(nn.Module):
    """Two convolutions and two linear maps, for images of 8 x 8 to about 32 x 32 pixels.

    conv 3x3 (width) - ReLU - conv 3x3 of stride 2 (2 width) - ReLU - linear (features) - ReLU -
    linear (classes). It has no normalisation, neither of pixels nor of batches.
    """

    def __init__(self, *, channels: int, classes: int, image_size: int, width: int, features: int):
        super().__init__()
        side = (image_size + 1) // 2
        self.conv_0 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv_1 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.linear = nn.Linear(2 * width * side * side, features)
        self.logits = nn.Linear(features, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate features: (N, channels, H, W) in [0, 1] to (N, features), not negative."""
        h = F.relu(self.conv_0(x))
        h = F.relu(self.conv_1(h))
        return F.relu(self.linear(h.flatten(1)))  # (N, 2 width, H/2, W/2) -> (N, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes)."""
        return self.logits(self.features(x))


ARCHITECTURES: dict[str, type[nn.Module]] = {"small_cnn": SmallCNN}


def build_network(
    architecture: str,
    *,
    channels: int,
    classes: int,
    image_size: int,
    seed: int = 0,
    **sizes: Any,
) -> nn.Module:
    """Build a classifier, initialised from `seed`, on the CPU.

    sizes: what the architecture asks for (small_cnn: width, features). The settings stay with the
    network as `network.settings`, which a checkpoint keeps. Raises InputError for an unknown
    architecture and for missing, unknown or non-positive sizes.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise InputError(f"architecture '{architecture}': unknown; known are {known}")
    settings = {"channels": channels, "classes": classes, "image_size": image_size, **sizes}
    for name, value in settings.items():
        if isinstance(value, int) and value < 1:
            raise InputError(f"architecture '{architecture}': {name} is {value}, must be 1 or more")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = ARCHITECTURES[architecture](**settings)
        except TypeError as error:
            raise InputError(
                f"architecture '{architecture}': {str(error).split('__init__() ')[-1]}; "
                "correct its sizes in the settings"
            ) from None
    network.settings = {"architecture": architecture, **settings}
    return network
