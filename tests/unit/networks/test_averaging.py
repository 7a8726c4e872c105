"""Averaged weights against the closed form of a moving average; buffers follow the network."""

import pytest
import torch
from torch import nn

from contrastdp.errors import InputError
from contrastdp.networks.averaging import STATISTICS, AveragedNetwork, averaging_weight


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


def test_each_kind_of_statistics_agrees_with_a_slow_loop():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    kinds = {
        kind: AveragedNetwork(network, decay=0.5, warmup=1, statistics=kind) for kind in STATISTICS
    }
    names = ("0.weight", "1.bias", "1.running_mean", "1.running_var")
    average = {}
    for step in range(9):
        network(torch.randn(8, 2) * (step + 1) + step)
        for parameter in network.parameters():
            parameter.data.add_(torch.randn_like(parameter))
        live = {name: network.state_dict()[name].clone() for name in names}
        weight = 0.0 if step < 1 else min(0.5, step / (step + 9))
        average = {
            name: weight * average.get(name, live[name]) + (1 - weight) * live[name]
            for name in names
        }
        for kept in kinds.values():
            kept.update(step)
    states = {kind: kept.network().state_dict() for kind, kept in kinds.items()}
    for name in names:
        torch.testing.assert_close(states["averaged"][name], average[name])
        expected = live[name] if "running" in name else average[name]
        torch.testing.assert_close(states["live"][name], expected)
    assert not torch.allclose(average["1.running_mean"], live["1.running_mean"])
    assert {kind: int(state["1.num_batches_tracked"]) for kind, state in states.items()} == {
        "live": 9,
        "averaged": 9,
        "recomputed": 0,
    }
    assert torch.equal(states["recomputed"]["1.running_mean"], torch.zeros(2))


def test_recomputed_statistics_outlast_a_look_at_the_network():
    network = nn.BatchNorm1d(2)
    averaged = AveragedNetwork(network, decay=0.5, warmup=0, statistics="recomputed")
    averaged.network().running_mean.fill_(7)
    assert averaged.network().running_mean.tolist() == [7, 7]


def test_unknown_statistics():
    with pytest.raises(InputError, match="averaged_statistics 'none'"):
        AveragedNetwork(nn.Linear(1, 1), decay=0.5, warmup=0, statistics="none")
