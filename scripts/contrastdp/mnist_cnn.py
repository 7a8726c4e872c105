"""The classifier of the paper's experiments on MNIST: two convolutions and two linear maps."""

import torch
from torch import nn
from torch.nn import functional as F

from contrastdp.records import InputError


class MnistCNN(nn.Module):
    """conv 5x5 (4) - ReLU - pool - conv 5x5 (10) - ReLU - pool - linear (100) - ReLU - linear.

    Nothing is padded and nothing normalised, neither pixels nor batches. 18,224 parameters for 28 x
    28 pixels of one channel and 10 classes. Raises InputError for images under 16 x 16 pixels.
    """

    def __init__(self, *, channels: int, classes: int, image_size: int):
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        if side < 1:
            raise InputError(
                f"architecture 'mnist_cnn': image_size is {image_size}; its convolutions need 16"
            )
        self.conv_0 = nn.Conv2d(channels, 4, 5)
        self.conv_1 = nn.Conv2d(4, 10, 5)
        self.linear = nn.Linear(10 * side * side, 100)
        self.logits = nn.Linear(100, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate features: (N, channels, H, W) in [0, 1] to (N, 100), not negative."""
        # ASSUME: the features that contrast compares are taken after the ReLU, as other networks'.
        # The maximum and ReLU commute, and ReLU costs less after pooling.
        h = F.relu(F.max_pool2d(self.conv_0(x), 2))
        h = F.relu(F.max_pool2d(self.conv_1(h), 2))
        return F.relu(self.linear(h.flatten(1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes)."""
        return self.logits(self.features(x))
