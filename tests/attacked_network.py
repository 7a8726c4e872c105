"""A small network to attack, with images, settings of the attack and a stream."""

import torch
from torch import nn

from contrastdp.networks.build import build_network

SIZES = {"channels": 1, "classes": 5, "image_size": 8, "width": 3, "features": 7}
ATTACK = {"eps": 0.1, "step_size": 0.03, "steps": 4}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def small_network():
    return build_network("small_cnn", **SIZES, seed=1)


def six_images():
    """(6, 1, 8, 8) and labels of five classes."""
    return torch.rand(6, 1, 8, 8, generator=stream(1)), torch.tensor([0, 1, 2, 3, 4, 0])


class Normed(nn.Module):
    """A network with BatchNorm and without dropout, to watch statistics."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.logits = nn.Linear(144, 5)

    def forward(self, x):
        return self.logits(self.body(x))
