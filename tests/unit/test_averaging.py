"""Averaged weights against the closed form of a moving average; buffers follow the network."""

import pytest
import torch
from torch import nn

from contrastdp.averaging import AveragedNetwork, averaging_weight


def test_weight_by_hand():
    assert averaging_weight(0, 0.9, 3) == 0
    assert averaging_weight(2, 0.9, 3) == 0
    assert averaging_weight(3, 0.9, 3) == pytest.approx(1 / 10)
    assert averaging_weight(5, 0.9, 3) == pytest.approx(3 / 12)
    assert averaging_weight(1000, 0.9, 3) == 0.9


def test_average_is_the_closed_form_sum():
    network = nn.Linear(1, 1, bias=False)
    averaged = AveragedNetwork(network, decay=0.6, warmup=2)
    values = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0, 6.0]
    for step, value in enumerate(values):
        network.weight.data.fill_(value)
        averaged.update(step)
    # the average is sum_k v_k (1 - w_k) prod_{j > k} w_j, with w = 0 in the warm-up
    weights = [0.0 if k < 2 else min(0.6, (k - 1) / (k + 8)) for k in range(len(values))]
    expected, tail = 0.0, 1.0
    for value, weight in reversed(list(zip(values, weights, strict=True))):
        expected += value * (1 - weight) * tail
        tail *= weight
    assert averaged.network().weight.item() == pytest.approx(expected, rel=1e-6)


def test_buffers_are_those_of_the_live_network_and_nothing_is_shared():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    averaged = AveragedNetwork(network, decay=0.9, warmup=0)
    network.train()(torch.randn(8, 2) + 5)
    kept = averaged.network()
    assert torch.equal(kept[1].running_mean, network[1].running_mean)
    assert not kept.training
    before = kept[0].weight.clone()
    network[0].weight.data.add_(1)
    assert torch.equal(kept[0].weight, before)
