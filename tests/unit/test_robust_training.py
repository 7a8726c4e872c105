"""The training loop: schedule, batches, weight decay, validation, reproducibility, bad input."""

from itertools import islice

import pytest
import torch
from torch import nn

from contrastdp.records import InputError
from contrastdp.robust_training import (
    learning_rate_at,
    mixed_batches,
    parameter_groups,
    summary,
    train_robust_network,
)

SETTINGS = {
    "classes": 3,
    "eps": 0.1,
    "step_size": 0.05,
    "attack_steps": 2,
    "beta": 6.0,
    "label_smoothing": 0.0,
    "steps": 12,
    "batch": 10,
    "synthetic_share": 0.8,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "warmup": 0.25,
    "averaging": 0.9,
    "shift": 1,
    "validate_every": 5,
    "validation_steps": 3,
    "seed": 0,
}
NETWORK = {"architecture": "small_cnn", "width": 6, "features": 12}


def images(n, mark=0.0, seed=0):
    """Three classes, each a bright row; `mark` is the value of the last pixel."""
    y = torch.arange(n) % 3
    x = 0.1 * torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    x[torch.arange(n), 0, y * 2] += 0.8
    x[:, 0, 5, 5] = mark
    return x, y


def train(**change):
    options = {
        "real": images(9),
        "synthetic": images(30),
        "validation": images(12),
        "loss": "trades",
    }
    return train_robust_network(NETWORK, **options | SETTINGS | change)


def test_schedule_by_hand():
    rates = [learning_rate_at(step, 8, 0.4, 0.25) for step in range(8)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.4])
    assert rates[5] == pytest.approx(0.2)
    assert rates[7] == pytest.approx(0.4 * 0.5 * (1 - 3**0.5 / 2))
    assert learning_rate_at(0, 8, 0.4, 0.0) == 0.4


def test_batches_hold_the_share_and_real_images_without_replacement():
    real, synthetic = images(9, mark=0.25), images(30, mark=0.75)
    generator = torch.Generator().manual_seed(0)
    draws = mixed_batches(real, synthetic, batch=10, synthetic_share=0.7, generator=generator)
    seen = []
    for x, y in islice(draws, 3):
        is_real = x[:, 0, 5, 5] == 0.25
        assert is_real.sum() == 3
        assert len(y) == 10
        for image, label in zip(x, y, strict=True):
            source = real if image[0, 5, 5] == 0.25 else synthetic
            place = (source[0] == image).flatten(1).all(1).nonzero().item()
            assert source[1][place] == label
            if source is real:
                seen.append(place)
    assert sorted(seen) == list(range(9))


def test_batches_of_one_kind():
    generator = torch.Generator().manual_seed(0)
    for real, synthetic in ((images(9), None), (None, images(30))):
        x, _ = next(
            mixed_batches(real, synthetic, batch=8, synthetic_share=0.5, generator=generator)
        )
        assert len(x) == 8


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_share_without_room_for_both(share):
    with pytest.raises(InputError, match="synthetic_share"):
        next(mixed_batches(images(9), images(9), batch=8, synthetic_share=share, generator=None))


def test_no_images():
    with pytest.raises(InputError, match="no images"):
        next(mixed_batches(None, None, batch=8, synthetic_share=0.5, generator=None))


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


@pytest.mark.parametrize("loss", ["trades", "pgd"])
def test_training_learns_and_validates_on_schedule(loss):
    result = train(loss=loss, steps=60, validate_every=25, beta=1.0)
    assert [row["step"] for row in result.history] == [25, 50, 60]
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    found = summary(result)
    assert found["best_validation_robust"] == max(r["validation_robust"] for r in result.history)
    assert found["last_validation_clean"] > 0.9
    assert found["steps"] == 60


def test_best_is_the_latest_of_equals_and_not_the_last_network_itself():
    result = train(steps=40, learning_rate=0.2, validate_every=10)
    top = max(row["validation_robust"] for row in result.history)
    latest = max(row["step"] for row in result.history if row["validation_robust"] == top)
    assert result.best_row["step"] == latest
    assert result.best is not result.last


def test_same_seed_same_weights_other_seed_others():
    one, two, other = (train(seed=seed).last.logits.weight for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_non_finite_loss_stops_in_one_line():
    with pytest.raises(InputError, match="training loss is nan at step"):
        train(learning_rate=1e30)


def test_unknown_loss():
    with pytest.raises(InputError, match="trades or pgd"):
        train(loss="trade")
