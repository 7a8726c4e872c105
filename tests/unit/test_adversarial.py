"""Attacks and losses of robust training against automatic, numerical and hand-written answers."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from contrastdp import adversarial
from contrastdp.adversarial import (
    accuracies,
    attacking,
    cross_entropy_gradient,
    divergence_gradient,
    margin_gradient,
    parse_fraction,
    pgd,
    pgd_loss,
    trades_loss,
)
from contrastdp.networks import FrozenSmallCNN, build_network, frozen
from contrastdp.records import InputError

SIZES = {"channels": 1, "classes": 5, "image_size": 8, "width": 3, "features": 7}
ATTACK = {"eps": 0.1, "step_size": 0.03, "steps": 4}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def network():
    return build_network("small_cnn", **SIZES, seed=1)


@pytest.fixture
def images():
    return torch.rand(6, 1, 8, 8, generator=stream(1)), torch.tensor([0, 1, 2, 3, 4, 0])


class Normed(nn.Module):
    """A network with BatchNorm and dropout-free, to watch statistics."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.logits = nn.Linear(144, 5)

    def forward(self, x):
        return self.logits(self.body(x))


# ---------------------------------------------------------------- objectives
def test_closed_gradients_equal_autograd():
    z = torch.randn(6, 5, generator=stream(), dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 1, 2, 3, 4, 0])
    p = torch.rand(6, 5, generator=stream(2), dtype=torch.float64).softmax(dim=1)
    others = z.masked_fill(F.one_hot(y, 5).bool(), -torch.inf)
    pairs = [
        (cross_entropy_gradient(y), F.cross_entropy(z, y, reduction="sum")),
        (divergence_gradient(p), F.kl_div(z.log_softmax(1), p, reduction="sum")),
        (margin_gradient(y), (others.amax(1) - z[torch.arange(6), y]).sum()),
    ]
    for closed, objective in pairs:
        (expected,) = torch.autograd.grad(objective, z, retain_graph=True)
        torch.testing.assert_close(closed(z.detach()), expected)


@pytest.mark.parametrize("text", ["0", "1", "-1/255", "8/0", "eight", "nan"])
def test_bad_eps_is_one_line(text):
    with pytest.raises(InputError, match="eps"):
        parse_fraction(text)


def test_eps_of_a_fraction():
    assert parse_fraction("8/255") == 8 / 255
    assert parse_fraction("1/10") == 0.1
    assert parse_fraction(0.25) == 0.25


# ---------------------------------------------------------------- PGD
def test_pgd_stays_in_the_ball_and_the_pixel_range_and_reaches_its_edge(network, images):
    x, y = images
    x[0] = 0
    x[1] = 1
    x_adv = pgd(network, x, cross_entropy_gradient(y), **ATTACK, generator=stream())
    assert (x_adv - x).abs().max() <= 0.1 + 1e-6
    assert (x_adv - x).abs().max() > 0.099
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert not x_adv.requires_grad


def test_pgd_agrees_with_a_slow_loop_by_the_book(network, images):
    x, y = images
    start = (2 * torch.rand(x.shape, generator=stream(3)) - 1) * 0.1
    expected = (x + start).clamp(0, 1)
    for _ in range(4):
        expected.requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(network(expected), y), expected)
        moved = expected.detach() + 0.03 * g.sign()
        expected = torch.max(torch.min(moved, x + 0.1), x - 0.1).clamp(0, 1)
    x_adv = pgd(network, x, cross_entropy_gradient(y), **ATTACK, generator=stream(3))
    torch.testing.assert_close(x_adv, expected, atol=1e-6, rtol=0)


def test_pgd_raises_its_objective(network, images):
    x, y = images
    x_adv = pgd(network, x, cross_entropy_gradient(y), **ATTACK, generator=stream())
    assert F.cross_entropy(network(x_adv), y) > F.cross_entropy(network(x), y)


def test_attack_leaves_weights_statistics_and_mode_alone(images):
    x, y = images
    network = Normed().train()
    network.logits.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pgd(network, x, cross_entropy_gradient(y), **ATTACK, generator=stream())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert network.training
    assert all(p.grad is None for p in network.parameters())
    assert network.body[1].track_running_stats
    assert network.logits.weight.requires_grad
    assert not network.logits.bias.requires_grad


def test_attacking_restores_after_an_error(network):
    with pytest.raises(RuntimeError), attacking(network):
        raise RuntimeError
    assert all(p.requires_grad for p in network.parameters())


# ---------------------------------------------------------------- frozen networks
@pytest.mark.parametrize("change", [{}, {"image_size": 7}, {"channels": 2, "image_size": 6}])
def test_frozen_network_is_the_same_function_with_the_same_gradient(change):
    network = build_network("small_cnn", **SIZES | change, seed=2)
    side, channels = (SIZES | change)["image_size"], (SIZES | change)["channels"]
    x = torch.rand(4, channels, side, side, generator=stream(5), requires_grad=True)
    fast = frozen(network)
    assert isinstance(fast, FrozenSmallCNN)
    torch.testing.assert_close(fast(x), network(x))
    weights = torch.randn(4, 5, generator=stream(6))
    (expected,) = torch.autograd.grad((network(x) * weights).sum(), x)
    (found,) = torch.autograd.grad((fast(x) * weights).sum(), x)
    torch.testing.assert_close(found, expected)
    assert not any(p.grad is not None for p in network.parameters())


def test_large_images_keep_the_convolutions():
    network = build_network("small_cnn", **SIZES | {"image_size": 28})
    assert frozen(network) is network


# ---------------------------------------------------------------- losses
def test_trades_at_eps_zero_is_cross_entropy(network, images):
    x, y = images
    loss = trades_loss(
        network, x, y, eps=0.0, step_size=0.03, steps=3, beta=6.0, generator=stream()
    )
    torch.testing.assert_close(loss, F.cross_entropy(network(x), y), atol=1e-6, rtol=1e-6)


def by_hand(network, x, y, x_adv, beta, smoothing):
    """CE with smoothing and KL(p || q), in float64 numpy."""
    z, z_adv = (network(v).detach().double().numpy() for v in (x, x_adv))

    def log_softmax(v):
        v = v - v.max(axis=1, keepdims=True)
        return v - np.log(np.exp(v).sum(axis=1, keepdims=True))

    log_p, log_q = log_softmax(z), log_softmax(z_adv)
    nll = -log_p[np.arange(len(y)), y.numpy()]
    entropy = (1 - smoothing) * nll + smoothing * -log_p.mean(axis=1)
    divergence = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return entropy.mean() + beta * divergence.mean()


def test_trades_loss_equals_the_formula(network, images):
    x, y = images
    target = network(x).softmax(1).detach()
    x_adv = pgd(network, x, divergence_gradient(target), **ATTACK, generator=stream(4))
    loss = trades_loss(network, x, y, **ATTACK, beta=6.0, label_smoothing=0.1, generator=stream(4))
    assert loss.item() == pytest.approx(by_hand(network, x, y, x_adv, 6.0, 0.1), rel=1e-5)


def test_trades_gradient_flows_through_both_passes(images, monkeypatch):
    # with the adversarial images held fixed, the gradient must be that of the formula
    x, y = images
    network = build_network("small_cnn", **SIZES, seed=1).double()
    x = x.double()
    x_adv = (x + 0.05 * torch.randn(x.shape, generator=stream(7))).clamp(0, 1)
    monkeypatch.setattr(adversarial, "pgd", lambda *_, **__: x_adv)
    loss = trades_loss(network, x, y, **ATTACK, beta=6.0, generator=stream())
    bias = network.logits.bias
    (found,) = torch.autograd.grad(loss, bias)
    for j in range(len(bias)):
        values = []
        for h in (1e-5, -1e-5):
            bias.data[j] += h
            values.append(by_hand(network, x, y, x_adv, 6.0, 0.0))
            bias.data[j] -= h
        assert found[j].item() == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-7)


def test_trades_updates_statistics_by_the_clean_then_the_adversarial_pass(images):
    x, y = images
    torch.manual_seed(0)
    network = Normed().train()
    twin = Normed().train()
    twin.load_state_dict(network.state_dict())
    trades_loss(network, x, y, **ATTACK, beta=6.0, generator=stream())
    target = twin(x).softmax(1).detach()
    twin(pgd(twin, x, divergence_gradient(target), **ATTACK, generator=stream()))
    torch.testing.assert_close(network.body[1].running_mean, twin.body[1].running_mean)
    assert network.body[1].num_batches_tracked == 2


def test_trades_of_mixed_labels_attacks_away_from_them(network, images):
    # the loop by the book: KL(y || f(x_adv)) has the gradient of the cross entropy with y
    x, _ = images
    network.logits.weight.data.mul_(40)
    y = torch.randn(6, 5, generator=stream(8)).softmax(dim=1)
    start = torch.rand(x.shape, generator=stream(4))

    def by_the_book(target):
        x_adv = (x + (2 * start - 1) * 0.1).clamp(0, 1)
        for _ in range(4):
            x_adv.requires_grad_()
            objective = F.kl_div(network(x_adv).log_softmax(1), target, reduction="sum")
            (g,) = torch.autograd.grad(objective, x_adv)
            moved = x_adv.detach() + 0.03 * g.sign()
            x_adv = torch.max(torch.min(moved, x + 0.1), x - 0.1).clamp(0, 1)
        log_p, log_q = (network(v).log_softmax(1) for v in (x, x_adv))
        entropy = -((0.9 * y + 0.1 / 5) * log_p).sum(1).mean()
        return (entropy + 6 * (log_p.exp() * (log_p - log_q)).sum(1).mean()).item()

    loss = trades_loss(network, x, y, **ATTACK, beta=6.0, label_smoothing=0.1, start=start)
    assert loss.item() == pytest.approx(by_the_book(y), rel=1e-4)
    # the clean prediction as the target is another attack
    assert loss.item() != pytest.approx(by_the_book(network(x).softmax(1).detach()), rel=1e-2)


@pytest.mark.parametrize("loss", [trades_loss, pgd_loss])
def test_labels_as_probabilities_of_one_are_labels(network, images, loss):
    x, y = images
    options = ATTACK | ({"beta": 0.0} if loss is trades_loss else {})
    one, two = (
        loss(network, x, labels, **options, label_smoothing=0.1, generator=stream())
        for labels in (y, F.one_hot(y, 5).float())
    )
    torch.testing.assert_close(one, two)


def test_start_is_the_caller_s_or_the_generator_s_and_is_left_alone(network, images):
    x, y = images
    start = torch.rand(x.shape, generator=stream(3))
    kept = start.clone()
    given = pgd(network, x, cross_entropy_gradient(y), **ATTACK, start=start)
    drawn = pgd(network, x, cross_entropy_gradient(y), **ATTACK, generator=stream(3))
    assert torch.equal(given, drawn)
    assert torch.equal(start, kept)


class Counting(torch.autograd.Function):
    """The identity, which counts its forward and backward passes in a list of two."""

    @staticmethod
    def forward(context, x, counts):
        context.counts = counts
        counts[0] += 1
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        context.counts[1] += 1
        return gradient, None


@pytest.mark.parametrize(("loss", "passes"), [(trades_loss, [12, 12]), (pgd_loss, [11, 11])])
def test_passes_of_a_step_are_as_few_as_can_be(images, loss, passes):
    # ten steps of the attack, and one clean and one adversarial pass for the loss; the weights take
    # part in the backward passes of the loss alone
    x, y = images
    counts, weights = [0, 0], []

    class Counted(Normed):
        def forward(self, x):
            weights.append(self.logits.weight.requires_grad)
            return Counting.apply(super().forward(x), counts)

    network = Counted().train()
    options = ATTACK | {"steps": 10} | ({"beta": 6.0} if loss is trades_loss else {})
    loss(network, x, y, **options, generator=stream()).backward()
    assert counts == passes
    assert sum(weights) == passes[0] - 10


def test_pgd_loss_is_the_cross_entropy_of_attacked_images(images):
    x, y = images
    network = Normed().eval()
    twin = copy.deepcopy(network).train()
    x_adv = pgd(network, x, cross_entropy_gradient(y), **ATTACK, generator=stream())
    expected = F.cross_entropy(twin(x_adv), y)
    network.train()
    torch.testing.assert_close(pgd_loss(network, x, y, **ATTACK, generator=stream()), expected)
    assert network.training


# ---------------------------------------------------------------- accuracy
class Threshold(nn.Module):
    """Two classes by the first pixel: logits (0.5 - v, v - 0.5)."""

    def forward(self, x):
        v = x[:, 0, 0, 0] - 0.5
        return torch.stack([-v, v], dim=1)


def test_accuracies_of_a_network_whose_margin_is_known():
    values = torch.tensor([0.1, 0.35, 0.45, 0.55, 0.65, 0.9, 0.2])
    y = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    x = values[:, None, None, None]
    found = accuracies(
        Threshold(), x, y, eps=0.1, step_size=0.05, steps=5, generator=stream(), batch=3
    )
    assert found == (6 / 7, 4 / 7)
