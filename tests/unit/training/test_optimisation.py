"""Learning rate and momentum against written-out numbers and torch's own; weight decay's groups."""

import math

import pytest
import torch
from torch import nn

from contrastdp.errors import InputError
from contrastdp.training.optimisation import (
    one_cycle_at,
    parameter_groups,
    rates_at,
)

OFFICIAL = {
    "schedule": "one_cycle",
    "steps": 400 * 49,
    "epoch_steps": 49,
    "learning_rate": 0.4,
    "momentum": 0.9,
    "warmup": 0.025,
    "cycle_momentum": False,
}


def test_cosine_by_hand():
    short = OFFICIAL | {"schedule": "cosine", "steps": 8, "warmup": 0.25}
    rates = [rates_at(step, **short)[0] for step in range(8)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.4])
    assert rates[5] == pytest.approx(0.2)
    assert rates[7] == pytest.approx(0.4 * 0.5 * (1 - 3**0.5 / 2))
    assert rates_at(0, **short | {"warmup": 0.0})[0] == 0.4
    found = [rates_at(step, **OFFICIAL | {"schedule": "cosine"}) for step in (0, 489, 19599)]
    rest = 19600 - 490
    last = 0.2 * (1 + math.cos(math.pi * (rest - 1) / rest))
    assert found == [pytest.approx(pair) for pair in ((0.4 / 490, 0.9), (0.4, 0.9), (last, 0.9))]


def test_one_cycle_is_the_official_curve():
    def rate(epoch):
        return rates_at(epoch * 49, **OFFICIAL)[0]

    assert rate(0) == pytest.approx(0.016)
    assert rate(9) == pytest.approx(0.4)
    assert rate(399) == pytest.approx(1.6e-6)
    # half a cosine up: at a third of the rise 3/4 of the first value and 1/4 of the peak are left
    assert rate(3) == pytest.approx(0.016 + 0.25 * (0.4 - 0.016))
    # and down: half-way it is the mean of both ends
    assert rate(204) == pytest.approx((0.4 + 1.6e-6) / 2)
    assert rates_at(48, **OFFICIAL)[0] == rate(0)
    assert rates_at(49, **OFFICIAL)[0] == rate(1)
    assert {rates_at(step, **OFFICIAL)[1] for step in range(0, 19600, 49)} == {0.9}


@pytest.mark.parametrize(
    ("epochs", "warmup"), [(400, 0.025), (400, 0.25), (7, 0.3), (5, 0.025), (2, 0.9)]
)
def test_one_cycle_equals_torch(epochs, warmup):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    torchs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.3, total_steps=epochs, pct_start=warmup
    )
    options = {"epoch_steps": 3, "steps": 3 * epochs - 1, "learning_rate": 0.3, "warmup": warmup}
    for epoch in range(epochs):
        group = optimizer.param_groups[0]
        for step in range(3 * epoch, min(3 * epoch + 3, 3 * epochs - 1)):
            found = rates_at(step, **OFFICIAL | options | {"cycle_momentum": True})
            assert found == pytest.approx((group["lr"], group["momentum"]), rel=1e-9)
        optimizer.step()
        if epoch + 1 < epochs:
            torchs.step()


def test_one_cycle_that_begins_at_its_top():
    # torch divides by zero here
    found = [one_cycle_at(epoch, 20, 0.05, start=1.0, top=5.0, end=0.0) for epoch in (0, 19)]
    assert found == [5.0, 0.0]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schedule": "linear"}, "schedule 'linear'"),
        ({"epoch_steps": 20000}, "2 epochs or more"),
        ({"schedule": "cosine", "cycle_momentum": True}, "cycle_momentum"),
    ],
)
def test_schedules_that_do_not_fit(change, match):
    with pytest.raises(InputError, match=match):
        rates_at(0, **OFFICIAL | change)


def test_weight_decay_groups():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3))
    counts = {}
    for undecayed in ("none", "norm", "norm_and_bias"):
        groups = parameter_groups(network, 0.1, undecayed)
        counts[undecayed] = [(len(g["params"]), g["weight_decay"]) for g in groups]
    assert counts == {
        "none": [(6, 0.1)],
        "norm": [(4, 0.1), (2, 0.0)],
        "norm_and_bias": [(2, 0.1), (4, 0.0)],
    }
    with pytest.raises(InputError, match="undecayed"):
        parameter_groups(network, 0.1, "bias")
