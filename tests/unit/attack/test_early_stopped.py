"""The early-stopped attack against a loop over single images."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from contrastdp.attack.early_stopped import STEP_SIZES, EarlyStopped, early_stopped_pgd
from contrastdp.errors import InputError


class Judge(nn.Module):
    """A smooth function of x and t with three classes, which counts the images that pass it."""

    def __init__(self, scale=1.0):
        super().__init__()
        stream = torch.Generator().manual_seed(0)
        self.into = nn.Parameter(torch.randn(32, 12, generator=stream, dtype=torch.float64) / 5)
        self.out = nn.Parameter(torch.randn(12, 3, generator=stream, dtype=torch.float64) * scale)
        self.seen = []

    def forward(self, x, t):
        self.seen.append(len(x))
        return (x.flatten(1) @ self.into + t[:, None] / 10).sin() @ self.out


class Constant(nn.Module):
    """Always of class 0, whatever it sees."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, t):
        self.calls.append(len(x))
        return torch.tensor([1.0, 0.0]) + 0 * x.flatten(1)[:, :2]


def noisy(count=40):
    """Images, timesteps and labels of which some are right at first."""
    stream = torch.Generator().manual_seed(1)
    x = torch.randn(count, 2, 4, 4, generator=stream, dtype=torch.float64)
    t, y = torch.randint(0, 9, (count,), generator=stream), torch.arange(count) % 3
    z = Judge()(x, t)
    y[: count // 2] = z[: count // 2].argmax(1)
    return x, t, y


def attack(**changed):
    settings = {"norm": "L2", "eps": 0.8, "steps": 5, "step_size": "2.5 eps/steps"} | changed
    return EarlyStopped(**settings)


def one_by_one(network, x, t, y, norm, eps, steps, step):
    """Each image alone, as the paper words it."""
    found, moved, passes = [], [], 0
    for image, when, label in zip(x, t, y, strict=True):
        delta, went = torch.zeros_like(image), False
        for _ in range(steps):
            source = (image + delta).requires_grad_()
            z = network(source[None], when[None])
            passes += 1
            if z.argmax() != label:
                break
            F.cross_entropy(z, label[None]).backward()
            g, went = source.grad, True
            if norm == "L2":
                delta = delta + step * g / (g.square().sum().sqrt() + 1e-10)
                length = float(delta.square().sum().sqrt())
                delta = delta * min(1, eps / length)
            else:
                delta = (delta + step * g.sign()).clamp(-eps, eps)
        found.append(image + delta)
        moved.append(went)
    return torch.stack(found).detach(), torch.tensor(moved), passes


@pytest.mark.parametrize("norm", ["L2", "Linf"])
@pytest.mark.parametrize(("rule", "step"), [("eps/6", 1 / 6), ("2.5 eps/steps", 2.5 / 5)])
def test_equals_a_loop_over_single_images(norm, rule, step):
    eps = 0.8 if norm == "L2" else 0.15
    x, t, y = noisy()
    network = Judge()
    found = early_stopped_pgd(network, x, t, y, attack(norm=norm, eps=eps, step_size=rule))
    passes = sum(network.seen)
    expected, moved, looked = one_by_one(network, x, t, y, norm, eps, 5, step * eps)
    torch.testing.assert_close(found.x, expected, rtol=0, atol=1e-6)
    assert torch.equal(found.moved, moved)
    assert found.passes == passes == looked

    # it did something, and stopped for some before the others
    right = network(found.x, t).argmax(1) == y
    assert 5 < moved.sum() < 40
    assert not right.all()
    assert len(y) < looked < 5 * len(y)


@pytest.mark.parametrize("norm", ["L2", "Linf"])
def test_inside_the_ball_and_frozen_once_it_is_misclassified(norm):
    x, t, y = noisy()
    network, eps = Judge(scale=0.3), 0.5 if norm == "L2" else 0.1
    short, long = (
        early_stopped_pgd(network, x, t, y, attack(norm=norm, eps=eps, steps=steps, step_size=rule))
        for steps, rule in ((3, "eps/6"), (9, "eps/6"))
    )
    fooled = network(short.x, t).argmax(1) != y
    assert torch.equal(long.x[fooled], short.x[fooled])
    assert (long.x != short.x).flatten(1).any(1).equal(~fooled)
    wrong = network(x, t).argmax(1) != y
    assert torch.equal(long.x[wrong], x[wrong])
    assert torch.equal(long.moved, ~wrong)
    size = (long.x - x).flatten(1).norm(2 if norm == "L2" else math.inf, dim=1)
    assert size.max() <= eps * (1 + 1e-9)
    assert size.max() > 0.9 * eps  # the ball's edge


def test_a_network_that_is_always_wrong_is_never_attacked():
    network, x = Constant(), torch.randn(5, 2, 4, 4)
    found = early_stopped_pgd(
        network, x, torch.zeros(5), torch.ones(5, dtype=torch.int64), attack()
    )
    assert torch.equal(found.x, x)
    assert not found.moved.any()
    assert network.calls == [5]
    assert found.passes == 5


@pytest.mark.parametrize("none", [None, attack(eps=0), attack(steps=0)])
def test_no_attack_costs_nothing(none):
    network, (x, t, y) = Judge(), noisy()
    found = early_stopped_pgd(network, x, t, y, none)
    assert torch.equal(found.x, x)
    assert (found.passes, network.seen, bool(found.moved.any())) == (0, [], False)


def test_it_works_without_gradients_outside_and_leaves_the_network_as_it_was():
    network, (x, t, y) = Judge(), noisy()
    expected = early_stopped_pgd(network, x, t, y, attack())
    with torch.no_grad():
        found = early_stopped_pgd(network, x, t, y, attack())
    assert torch.equal(found.x, expected.x)
    assert found.moved.any()
    assert not found.x.requires_grad
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_both_rules_of_the_step():
    assert STEP_SIZES["eps/6"](0.5, 7) == pytest.approx(0.083, abs=5e-4)
    assert STEP_SIZES["2.5 eps/steps"](0.5, 7) == pytest.approx(0.179, abs=5e-4)


def test_a_gradient_that_is_not_finite_is_one_line():
    class Broken(Judge):
        def forward(self, x, t):
            root = x.flatten(1)[:, :1].abs().mul(0).sqrt()  # 0, of an infinite slope
            return super().forward(x, t) + root

    x, t, y = noisy()
    with pytest.raises(InputError, match="gradient of the attack on noisy images is not finite"):
        early_stopped_pgd(Broken(), x, t, y, attack())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"norm": "L1"}, "attack.norm is 'L1'; choose L2 or Linf"),
        ({"step_size": "eps"}, "attack.step_size is 'eps'; choose eps/6 or 2.5 eps/steps"),
        ({"eps": -0.1}, "attack.eps is -0.1; it must be finite, and 0 or more"),
        ({"eps": math.nan}, "attack.eps is nan"),
        ({"steps": -1}, "attack.steps is -1"),
    ],
)
def test_bad_settings_are_one_line(changed, words):
    with pytest.raises(InputError) as caught:
        attack(**changed)
    assert words in str(caught.value)
