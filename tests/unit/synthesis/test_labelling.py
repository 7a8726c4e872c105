"""Pseudo-labels and their confidence."""

import torch
from torch import nn

from contrastdp.synthesis.labelling import label_with


class Logits(nn.Module):
    """Logits (log v, log(1 - v)) of the first pixel v, so that probabilities are v and 1 - v."""

    def forward(self, x):
        v = x[:, 0, 0, 0]
        return torch.stack([v, 1 - v], dim=1).log()


VALUES = torch.tensor([0.9, 0.2, 0.6])[:, None, None, None]


def test_pseudo_label_and_its_probability():
    label, confidence = label_with(Logits(), VALUES)
    assert label.tolist() == [0, 1, 0]
    torch.testing.assert_close(confidence, torch.tensor([0.9, 0.8, 0.6]))


def test_own_label_is_kept_with_the_labeler_s_probability_of_it():
    label, confidence = label_with(Logits(), VALUES, torch.tensor([1, 1, 0]))
    assert label.tolist() == [1, 1, 0]
    torch.testing.assert_close(confidence, torch.tensor([0.1, 0.8, 0.6]))
