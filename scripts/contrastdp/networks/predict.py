"""Labels that a network gives, and how many of them are right."""

import torch
from torch import nn

from contrastdp.data.tensors import batches


@torch.no_grad()
def predict(network: nn.Module, x: torch.Tensor, batch: int = 1000) -> torch.Tensor:
    """Logits (N, classes) of x (N, C, H, W), in the network's present mode."""
    return torch.cat([network(x[piece]) for piece in batches(len(x), batch)])


def accuracy(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of x whose largest logit is the label."""
    return (predict(network, x).argmax(dim=1) == y).float().mean().item()
