"""Prediction in batches."""

import torch
from torch import nn

from contrastdp.networks.predict import predict


class Logits(nn.Module):
    """Logits (log v, log(1 - v)) of the first pixel v, so that probabilities are v and 1 - v."""

    def forward(self, x):
        v = x[:, 0, 0, 0]
        return torch.stack([v, 1 - v], dim=1).log()


def test_prediction_does_not_depend_on_the_batch():
    x = torch.rand(7, 1, 1, 1)
    torch.testing.assert_close(predict(Logits(), x, batch=2), Logits()(x))
