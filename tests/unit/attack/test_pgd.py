"""Attacks of robust training against automatic, numerical and hand-written answers."""

import pytest
import torch
from attacked_network import ATTACK, SIZES, Normed, six_images, small_network, stream
from torch import nn
from torch.nn import functional as F

from contrastdp.attack.pgd import (
    PGD,
    accuracies,
    attacking,
    cross_entropy_gradient,
    divergence_gradient,
    margin_gradient,
)
from contrastdp.networks.build import FrozenSmallCNN, build_network, frozen


@pytest.fixture
def network():
    return small_network()


@pytest.fixture
def images():
    return six_images()


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


# ---------------------------------------------------------------- PGD
def test_pgd_stays_in_the_ball_and_the_pixel_range_and_reaches_its_edge(network, images):
    x, y = images
    x[0] = 0
    x[1] = 1
    x_adv = PGD(**ATTACK, generator=stream())(network, x, cross_entropy_gradient(y))
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
    x_adv = PGD(**ATTACK, generator=stream(3))(network, x, cross_entropy_gradient(y))
    torch.testing.assert_close(x_adv, expected, atol=1e-6, rtol=0)


def test_pgd_raises_its_objective(network, images):
    x, y = images
    x_adv = PGD(**ATTACK, generator=stream())(network, x, cross_entropy_gradient(y))
    assert F.cross_entropy(network(x_adv), y) > F.cross_entropy(network(x), y)


def test_attack_leaves_weights_statistics_and_mode_alone(images):
    x, y = images
    network = Normed().train()
    network.logits.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    PGD(**ATTACK, generator=stream())(network, x, cross_entropy_gradient(y))
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
    attack = PGD(eps=0.1, step_size=0.05, steps=5, generator=stream())
    found = accuracies(Threshold(), x, y, attack, batch=3)
    assert found == (6 / 7, 4 / 7)
