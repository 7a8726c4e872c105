"""Pseudo-labels for synthetic images, and how sure the labeler is of them (paper, section 5)."""

import torch
from torch import nn

from contrastdp.networks.predict import predict


def label_with(
    labeler: nn.Module, x: torch.Tensor, own_label: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Label images x (N, C, H, W) in [0, 1]: label (N,) int64 and confidence (N,) float32.

    The label is the labeler's most probable class, or own_label (N,) where the generator was told
    what to draw; the confidence is the labeler's softmax probability of that label.
    """
    # PAPER: the paper labels with LaNet, whose weights are not to be had.
    probability = predict(labeler, x).softmax(dim=1)  # (N, classes)
    label = probability.argmax(dim=1) if own_label is None else own_label
    return label, probability.gather(1, label[:, None]).squeeze(1)
