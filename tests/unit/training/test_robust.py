"""The training loop: schedule, batches, weight decay, validation, reproducibility, bad input."""

from contextlib import contextmanager
from itertools import combinations, islice

import pytest
import torch
from bright_rows import bright_rows
from flat_training import train_flat
from torch import nn

from contrastdp.attack.pgd import PGD
from contrastdp.errors import InputError
from contrastdp.networks.averaging import STATISTICS
from contrastdp.networks.build import build_network
from contrastdp.networks.execution import training_pass
from contrastdp.streams import generator
from contrastdp.training import robust as robust_training
from contrastdp.training.batches import MixedBatches, augmented
from contrastdp.training.losses import pgd_loss, trades_loss
from contrastdp.training.robust import (
    accumulate_gradient,
    normalised_over,
    summary,
    validation_subset,
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
    x, y = bright_rows(n, side=6, seed=seed)
    x[:, 0, 5, 5] = mark
    return x, y


def train(network=NETWORK, **change):
    options = {
        "real": images(9),
        "synthetic": images(30),
        "validation": images(12),
        "loss": "trades",
    }
    return train_flat(network, **options | SETTINGS | change)


# ---------------------------------------------------------------- gradients in pieces
def gradients(network, x, y, start, micro_batch, loss=trades_loss, **change):
    network.zero_grad()
    options = change | ({"beta": 6.0} if loss is trades_loss else {})
    attack = PGD(eps=0.1, step_size=0.04, steps=3)
    value = accumulate_gradient(
        loss, network, x, y, attack, start, micro_batch=micro_batch, **options
    )
    return value, [p.grad.clone() for p in network.parameters()]


@pytest.mark.parametrize("loss", [trades_loss, pgd_loss])
@pytest.mark.parametrize("mixed", [False, True])
def test_micro_batches_give_the_same_loss_and_gradient(loss, mixed):
    layers = nn.Conv2d(1, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(64, 3)
    network = nn.Sequential(*layers).double()
    x, y = images(11)
    x, start = x.double(), torch.rand(x.shape, dtype=torch.float64)
    if mixed:
        y = torch.rand(11, 3, dtype=torch.float64).softmax(dim=1)
    value, whole = gradients(network, x, y, start, None, loss, label_smoothing=0.1)
    for size in (1, 4, 11, 50):
        other, pieces = gradients(network, x, y, start, size, loss, label_smoothing=0.1)
        assert other == pytest.approx(value, rel=1e-9)
        for one, two in zip(whole, pieces, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-9)


def test_training_draws_the_same_whatever_the_micro_batch(monkeypatch):
    drawn = {}
    for micro_batch in (None, 4):
        kept = drawn.setdefault(micro_batch, [])

        def watch(loss, network, x, y, attack, start, kept=kept, **options):
            kept.extend((x, y, start))
            return accumulate_gradient(loss, network, x, y, attack, start, **options)

        monkeypatch.setattr(robust_training, "accumulate_gradient", watch)
        train(micro_batch=micro_batch, steps=3, shift=1, flip=True, cutmix=1.0)
    assert len(drawn[4]) == 9
    for one, two in zip(drawn[None], drawn[4], strict=True):
        assert torch.equal(one, two)
    # and another start every step
    assert not torch.equal(drawn[4][2], drawn[4][5])


def test_statistics_are_those_of_a_micro_batch():
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.BatchNorm1d(3))
    assert normalised_over(network, 64, None) == 64
    assert normalised_over(network, 64, 16) == 16
    assert normalised_over(nn.Linear(2, 2), 64, 16) is None
    x, y = images(8)
    start = torch.rand(x.shape)
    gradients(network, x, y, start, 4)
    assert network[2].num_batches_tracked == 4


# ---------------------------------------------------------------- precision, layout, compiler


@contextmanager
def watched(kind, look):
    """The list of look(module, output) of every pass through a module of `kind`."""
    seen = []

    def hook(module, given, output):
        if isinstance(module, kind):
            seen.append(look(module, output))

    handle = nn.modules.module.register_module_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


def test_low_precision_reaches_the_layers_and_not_the_logits():
    network = build_network(**NETWORK, channels=1, classes=3, image_size=6)
    low = training_pass(network, precision="bfloat16", compiled=None)
    x, y = images(12)
    start = torch.rand(x.shape)
    torch.testing.assert_close(low(x), network(x), atol=0.02, rtol=0.02)
    assert not torch.equal(low(x), network(x))
    exact, _ = gradients(network, x, y, start, None)

    seen = []
    network.conv_1.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    assert low(x).dtype == torch.float32
    value, found = gradients(low, x, y, start, None)
    # that pass, the clean one, three of the attack and the adversarial one
    assert seen == [torch.bfloat16] * 6
    assert {g.dtype for g in found} == {torch.float32}
    assert value == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("change", [{"channels_last": True}, {"compiled": "eager"}])
def test_layout_and_compiler_change_nothing_but_rounding(change):
    plain, other = train(steps=3), train(steps=3, **change)
    torch.testing.assert_close(
        other.last.logits.weight, plain.last.logits.weight, atol=1e-5, rtol=0
    )
    assert other.passes == plain.passes | change


def test_training_in_low_precision_validates_in_float32():
    with watched(nn.Conv2d, lambda module, out: (module.training, out.dtype)) as seen:
        normed(precision="bfloat16")
    assert set(seen) == {(True, torch.bfloat16), (False, torch.float32)}


def test_training_in_low_precision_learns():
    result = train(steps=60, validate_every=25, beta=1.0, precision="bfloat16")
    assert summary(result)["last_validation_clean"] > 0.9
    assert result.passes["precision"] == "bfloat16"
    assert {p.dtype for p in result.last.parameters()} == {torch.float32}
    assert type(result.last).__name__ == "SmallCNN"


# ---------------------------------------------------------------- statistics of BatchNorm
NORMED = {"architecture": "wide_resnet", "depth": 10, "width": 1, "mean": [0.2], "std": [0.3]}


def normed(**change):
    return train(NORMED, steps=4, batch=8, attack_steps=1, validate_every=2, **change)


def first_norm(network):
    return next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))


def test_statistics_of_averaged_weights_differ_by_their_kind_and_the_weights_do_not():
    kinds = {kind: normed(averaged_statistics=kind).last for kind in STATISTICS}
    means = [first_norm(network).running_mean for network in kinds.values()]
    for one, two in combinations(means, 2):
        assert not torch.equal(one, two)
    weights = [next(network.parameters()) for network in kinds.values()]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_recomputed_statistics_are_the_means_over_training_batches():
    settings = {"shift": 1, "flip": True, "micro_batch": 4, "statistics_batches": 3}
    result = normed(averaged_statistics="recomputed", **settings)
    network = result.last
    stream = generator(0, "statistics")
    draws = MixedBatches(images(9), images(30), batch=8, synthetic_share=0.8, generator=stream)
    draws = augmented(draws, shift=1, flip=True, cutmix=0, classes=3, generator=stream)
    # what the first BatchNorm is given, batch by batch
    given = []
    hook = first_norm(network).register_forward_hook(lambda module, x, _: given.append(x[0]))
    for x, _ in islice(draws, 3):
        for piece in (x[:4], x[4:]):
            network(piece)
    hook.remove()
    mean = torch.stack([h.mean(dim=(0, 2, 3)) for h in given]).mean(0)
    variance = torch.stack([h.var(dim=(0, 2, 3)) for h in given]).mean(0)
    torch.testing.assert_close(first_norm(network).running_mean, mean)
    torch.testing.assert_close(first_norm(network).running_var, variance)
    assert not network.training
    assert first_norm(network).momentum == 0.01


def test_first_step_replaces_the_initial_statistics():
    # one step of momentum 1 leaves the statistics of its last pass alone, without the initial 0
    seen = {}
    for first in (None, 1.0):
        network = train(NORMED, steps=1, batch=8, first_norm_momentum=first).last
        seen[first] = first_norm(network).running_mean
        assert first_norm(network).momentum == 0.01
    with watched(nn.BatchNorm2d, lambda module, out: (module.training, module.momentum)) as found:
        train(NORMED, steps=3, batch=8, attack_steps=1, first_norm_momentum=0.5)
    momenta = [momentum for training, momentum in found if training]
    assert momenta == [0.5] * (len(momenta) // 3) + [0.01] * (len(momenta) // 3 * 2)
    # the two passes of a TRADES step see nearly the same images
    torch.testing.assert_close(seen[None], seen[1.0] * (1 - 0.99**2), rtol=0.2, atol=1e-3)


def test_record_says_what_statistics_are_taken_over():
    assert normed(micro_batch=4).passes["normalised_over"] == 4
    assert train(steps=2).passes["normalised_over"] is None


# ---------------------------------------------------------------- training
def test_validation_on_a_part_is_on_the_same_part_always():
    whole = images(300)
    for one, two in zip(validation_subset(whole, 40), validation_subset(whole, 40), strict=True):
        assert torch.equal(one, two)
    x, y = validation_subset((torch.arange(300).float(), torch.arange(300)), 40)
    assert torch.equal(x.long(), y)
    assert len(y.unique()) == 40
    # a sorted split: the first 40 would hold one class of three
    assert (y // 100).unique().tolist() == [0, 1, 2]
    assert validation_subset(whole, None) is whole
    with pytest.raises(InputError, match="validation_images 301"):
        train(validation=whole, validation_images=301)
    counted = train(validation=whole, validation_images=7, steps=2).history[-1]
    assert counted["validation_clean"] * 7 == pytest.approx(round(counted["validation_clean"] * 7))


def test_schedule_reaches_the_optimiser_and_the_history():
    settings = {"schedule": "one_cycle", "epoch_steps": 5, "steps": 20, "warmup": 0.5}
    result = train(**settings, validate_every=5, cycle_momentum=True)
    rates = [row["learning_rate"] for row in result.history]
    assert rates == pytest.approx([0.1 / 25, 0.1, 0.05 + 0.1 / 5e5, 0.1 / 25e4])
    plain = train(**settings, validate_every=5)
    assert not torch.equal(result.last.logits.weight, plain.last.logits.weight)


def test_training_on_synthetic_images_alone_and_pooled():
    assert train(real=None, synthetic_share="pooled").history[-1]["step"] == 12
    one, two = (train(synthetic_share=share).last.logits.weight for share in ("pooled", 0.8))
    assert not torch.equal(one, two)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"precision": "float16"}, "precision is 'float16'"),
        ({"compiled": "gcc"}, "compiled 'gcc'"),
        ({"averaged_statistics": "old"}, "averaged_statistics 'old'"),
        ({"cutmix": 1.0, "averaging": 0.0}, "cutmix"),
    ],
)
def test_settings_that_do_not_fit(change, match):
    with pytest.raises(InputError, match=match) as caught:
        train(**change)
    assert "\n" not in str(caught.value)


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
    words = "training loss 'trade': unknown; known are trades, pgd, mart"
    with pytest.raises(InputError, match=words):
        train(loss="trade")
