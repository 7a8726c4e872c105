"""Residual networks with pre-activation (He et al. 2016, "Identity mappings"), and ResNet-18."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from contrastdp.networks.classifier import Classifier

ACTIVATIONS = {"relu": F.relu, "silu": F.silu}


class PreActivationBlock(nn.Module):
    """Two 3 x 3 convolutions, each after BatchNorm and activation, added to a shortcut.

    Where the channels change, the shortcut is a 1 x 1 convolution of the activated input. A stride
    of 2 pads both sides alike, or, with same_padding, as TensorFlow's 'SAME' does: an even side
    only at its end.
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        *,
        stride: int,
        activation: str,
        momentum: float,
        same_padding: bool,
    ):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.pads_itself = same_padding and stride == 2
        padding = 0 if self.pads_itself else 1
        self.batchnorm_0 = nn.BatchNorm2d(inside, momentum=momentum)
        self.conv_0 = nn.Conv2d(inside, outside, 3, stride, padding, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(outside, momentum=momentum)
        self.conv_1 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Conv2d(inside, outside, 1, stride, bias=False) if inside != outside else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inside, H, W) to (N, outside, ceil(H / stride), ceil(W / stride))."""
        h = self.activation(self.batchnorm_0(x))
        short = x if self.shortcut is None else self.shortcut(h)
        if self.pads_itself:
            height, width = h.shape[-2:]
            h = F.pad(h, (width % 2, 1, height % 2, 1))
        h = self.activation(self.batchnorm_1(self.conv_0(h)))
        return short + self.conv_1(h)


class BlockGroup(nn.Module):
    """Blocks of one width, of which the first may stride."""

    def __init__(self, inside: int, outside: int, *, blocks: int, stride: int, **settings):
        super().__init__()
        self.block = nn.Sequential(
            PreActivationBlock(inside, outside, stride=stride, **settings),
            *(
                PreActivationBlock(outside, outside, stride=1, **settings)
                for _ in range(blocks - 1)
            ),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All blocks in turn."""
        return self.block(x)


class PreActivationResNet(Classifier):
    """Normalised pixels, a convolution, groups of blocks, BatchNorm, activation, mean, linear.

    sizes: channels after the first convolution and after each group; strides, blocks: of each
    group; mean, std: one number a colour channel, in units of [0, 1]; activation: "silu" or "relu";
    momentum: the share of a new batch in BatchNorm's running statistics. The features are means
    over all positions, so the side of the images is free.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        *,
        channels: int,
        classes: int,
        sizes: Sequence[int],
        strides: Sequence[int],
        blocks: int,
        mean: Sequence[float],
        std: Sequence[float],
        activation: str,
        momentum: float,
        same_padding: bool,
    ):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            # not among the weights: the settings keep them, and other codes may have no such name
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        self.activation = ACTIVATIONS[activation]
        common = {"activation": activation, "momentum": momentum, "same_padding": same_padding}
        self.init_conv = nn.Conv2d(channels, sizes[0], 3, padding=1, bias=False)
        self.layer = nn.Sequential(
            *(
                BlockGroup(inside, outside, blocks=blocks, stride=stride, **common)
                for (inside, outside), stride in zip(pairwise(sizes), strides, strict=True)
            )
        )
        self.batchnorm = nn.BatchNorm2d(sizes[-1], momentum=momentum)
        self.logits = nn.Linear(sizes[-1], classes)
        self._initialise()

    def _initialise(self) -> None:
        """Convolutions from N(0, 2 / (area * outputs)), the bias of the logits 0.

        As Zagoruyko & Komodakis (2016) did, and the training code that the paper's builds on.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        nn.init.zeros_(self.logits.bias)

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        """(x - mean) / std per channel, for x (N, channels, H, W) in [0, 1]."""
        return (x - self.mean) / self.std

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate features: (N, channels, H, W) in [0, 1] to (N, sizes[-1])."""
        h = self.layer(self.init_conv(self.normalised(x)))
        return self.activation(self.batchnorm(h)).mean(dim=(2, 3))


class PreActResNet18(PreActivationResNet):
    """Four groups of two blocks, of width, 2, 4 and 8 times as many channels; width 64 is usual.

    11,172,170 parameters for 3 channels, 10 classes and width 64.
    """

    # PAPER: which variant is not said. This one ends in BatchNorm and activation, as He et al. and
    # Rice et al. (2020) have it; implementations without have 1,024 parameters fewer.

    def __init__(
        self,
        *,
        channels: int,
        classes: int,
        image_size: int,
        width: int,
        mean: Sequence[float],
        std: Sequence[float],
        activation: str = "relu",
        momentum: float = 0.1,
    ):
        super().__init__(
            channels=channels,
            classes=classes,
            sizes=(width, width, 2 * width, 4 * width, 8 * width),
            strides=(1, 2, 2, 2),
            blocks=2,
            mean=mean,
            std=std,
            activation=activation,
            momentum=momentum,
            same_padding=False,
        )
