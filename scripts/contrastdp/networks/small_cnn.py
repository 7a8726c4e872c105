"""The small convolutional classifier, and the same with frozen weights as matrix products."""

import torch
from torch import nn
from torch.nn import functional as F

from contrastdp.networks.classifier import Classifier


class SmallCNN(Classifier):
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


class FrozenSmallCNN(nn.Module):
    """A SmallCNN with its present weights as four matrix products, for cheap input gradients.

    The first convolution and the gathering of 3 x 3 neighbourhoods for the second are one linear
    map, and ReLU does not mind the order. For 8 x 8 pixels its gradient with respect to the image
    takes about 2/3 of the time of the convolutions' own. The map's size grows with the fourth power
    of the image's side, so it suits small images alone.
    """

    LARGEST = 128  # values in an image

    @classmethod
    def suits(cls, network: SmallCNN) -> bool:
        """Whether the matrices are small enough to pay."""
        settings = network.settings
        return settings["channels"] * settings["image_size"] ** 2 <= cls.LARGEST

    @torch.no_grad()
    def __init__(self, network: SmallCNN):
        super().__init__()
        first, second = network.conv_0, network.conv_1
        channels, side = network.settings["channels"], network.settings["image_size"]
        maps = network.linear.in_features // second.out_channels

        def neighbourhoods(h: torch.Tensor) -> torch.Tensor:
            # (n, width, H, W) -> (n, 9 width, positions) -> (n, positions * 9 width)
            return F.unfold(h, 3, padding=1, stride=2).transpose(1, 2).flatten(1)

        assert first.bias is not None and second.bias is not None
        pixels = torch.eye(channels * side * side, device=first.weight.device)
        pixels = pixels.view(-1, channels, side, side)
        bias = first.bias.view(1, -1, 1, 1).expand(1, -1, side, side)
        # the flattened features are ordered (map, position), here (position, map)
        linear = network.linear.weight.view(-1, second.out_channels, maps).transpose(1, 2)
        layers = [
            (neighbourhoods(bias)[0], neighbourhoods(F.conv2d(pixels, first.weight, padding=1))),
            (second.bias, second.weight.flatten(1).t().contiguous()),
            (network.linear.bias, linear.flatten(1).t().contiguous()),
            (network.logits.bias, network.logits.weight.t().contiguous()),
        ]
        self.layers = [(bias.detach(), weight.detach()) for bias, weight in layers]
        self.whole = [network]  # in a list, so as not to be registered as a part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes); without a gradient, by the convolutions, which are faster then."""
        if not (x.requires_grad and torch.is_grad_enabled()):
            return self.whole[0](x)
        h = x
        for bias, weight in self.layers[:-1]:
            h = torch.addmm(bias, h.reshape(-1, len(weight)), weight).relu_()
        bias, weight = self.layers[-1]
        return torch.addmm(bias, h, weight)
