"""TRADES, PGD-AT and MART against their formulas, and the registry of losses."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from attacked_network import ATTACK, SIZES, Normed, six_images, small_network, stream
from flat_training import train_flat
from torch import nn
from torch.nn import functional as F

from contrastdp.attack.pgd import (
    PGD,
    cross_entropy_gradient,
    divergence_gradient,
)
from contrastdp.errors import InputError
from contrastdp.networks.build import build_network
from contrastdp.training import losses, recipe
from contrastdp.training.losses import LOSSES, loss_named, mart_loss, pgd_loss, trades_loss

ROOT = Path(__file__).parents[3]


@pytest.fixture
def network():
    return small_network()


@pytest.fixture
def images():
    return six_images()


def test_trades_at_eps_zero_is_cross_entropy(network, images):
    x, y = images
    attack = PGD(eps=0.0, step_size=0.03, steps=3, generator=stream())
    loss = trades_loss(network, x, y, attack, beta=6.0)
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
    x_adv = PGD(**ATTACK, generator=stream(4))(network, x, divergence_gradient(target))
    loss = trades_loss(
        network, x, y, PGD(**ATTACK, generator=stream(4)), beta=6.0, label_smoothing=0.1
    )
    assert loss.item() == pytest.approx(by_hand(network, x, y, x_adv, 6.0, 0.1), rel=1e-5)


def test_trades_gradient_flows_through_both_passes(images):
    # with the adversarial images held fixed, the gradient must be that of the formula
    x, y = images
    network = build_network("small_cnn", **SIZES, seed=1).double()
    x = x.double()
    x_adv = (x + 0.05 * torch.randn(x.shape, generator=stream(7))).clamp(0, 1)
    loss = trades_loss(network, x, y, lambda *_: x_adv, beta=6.0)
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
    trades_loss(network, x, y, PGD(**ATTACK, generator=stream()), beta=6.0)
    target = twin(x).softmax(1).detach()
    twin(PGD(**ATTACK, generator=stream())(twin, x, divergence_gradient(target)))
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

    loss = trades_loss(network, x, y, PGD(**ATTACK, start=start), beta=6.0, label_smoothing=0.1)
    assert loss.item() == pytest.approx(by_the_book(y), rel=1e-4)
    # the clean prediction as the target is another attack
    assert loss.item() != pytest.approx(by_the_book(network(x).softmax(1).detach()), rel=1e-2)


@pytest.mark.parametrize("loss", [trades_loss, pgd_loss])
def test_labels_as_probabilities_of_one_are_labels(network, images, loss):
    x, y = images
    options = {"beta": 0.0} if loss is trades_loss else {}
    one, two = (
        loss(network, x, labels, PGD(**ATTACK, generator=stream()), **options, label_smoothing=0.1)
        for labels in (y, F.one_hot(y, 5).float())
    )
    torch.testing.assert_close(one, two)


def test_start_is_the_caller_s_or_the_generator_s_and_is_left_alone(network, images):
    x, y = images
    start = torch.rand(x.shape, generator=stream(3))
    kept = start.clone()
    given = PGD(**ATTACK, start=start)(network, x, cross_entropy_gradient(y))
    drawn = PGD(**ATTACK, generator=stream(3))(network, x, cross_entropy_gradient(y))
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
    attack = PGD(**ATTACK | {"steps": 10}, generator=stream())
    loss(network, x, y, attack, **({"beta": 6.0} if loss is trades_loss else {})).backward()
    assert counts == passes
    assert sum(weights) == passes[0] - 10


def test_pgd_loss_is_the_cross_entropy_of_attacked_images(images):
    x, y = images
    network = Normed().eval()
    twin = copy.deepcopy(network).train()
    x_adv = PGD(**ATTACK, generator=stream())(network, x, cross_entropy_gradient(y))
    expected = F.cross_entropy(twin(x_adv), y)
    network.train()
    torch.testing.assert_close(pgd_loss(network, x, y, PGD(**ATTACK, generator=stream())), expected)
    assert network.training


# ---------------------------------------------------------------- MART
def mart_by_the_book(network, x, x_adv, y, beta):
    """The sum that Wang et al. (2020) print, image by image and class by class, in float64."""
    p, q = (torch.exp(z - z.logsumexp(1, keepdim=True)) for z in (network(x), network(x_adv)))
    total = 0.0
    for own, other, label in zip(p, q, y.tolist(), strict=True):
        rival = max(v.item() for k, v in enumerate(other) if k != label)
        (place,) = (k for k, v in enumerate(other) if k != label and v.item() == rival)
        entropy = -torch.log(other[label]) - torch.log(1 - other[place])
        divergence = 0.0
        for k in range(len(own)):
            divergence = divergence + own[k] * torch.log(own[k] / other[k])
        total = total + entropy + beta * divergence * (1 - own[label])
    return total / len(y)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_mart_and_its_gradient_are_those_of_the_book(images, scale):
    """Of a network that is unsure of every image, and of one that is sure of most."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(144, 5)
    network = nn.Sequential(*layers).double()
    network[3].weight.data.mul_(scale)
    x, y = images[0].double(), images[1]
    attack = PGD(**ATTACK, start=torch.rand(x.shape, dtype=x.dtype, generator=stream(4)))
    x_adv = attack(network, x, cross_entropy_gradient(y))
    expected = mart_by_the_book(network, x, x_adv, y, beta=5.0)
    found = mart_loss(network, x, y, attack, beta=5.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    weights = list(network.parameters())
    slopes = (torch.autograd.grad(value, weights) for value in (found, expected))
    for one, two in zip(*slopes, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-10)
    # the misclassified weigh more: without the weight it would be another loss
    assert abs(found.item() - mart_by_the_book(network, x, x_adv, y, 0.0).item()) > 1e-3


def test_mart_stays_finite_where_the_rival_is_certain():
    """1 - max_{k != y} p_k rounds to 0 in float32, and its logarithm would be infinite."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    network[1].weight.data.zero_()
    network[1].bias.data.copy_(torch.tensor([0.0, 90.0, 0.0]))
    x, y = torch.rand(2, 1, 2, 2, generator=stream()), torch.tensor([0, 2])
    loss = mart_loss(network, x, y, PGD(**ATTACK, generator=stream()), beta=5.0)
    loss.backward()
    # -log p_y is 90, and 1 - p_1 = 2 exp(-90)
    assert loss.item() == pytest.approx(90 + 90 - np.log(2), rel=1e-5)
    assert network[1].bias.grad.isfinite().all()


def test_mart_smooths_the_labels_of_its_cross_entropy_alone(network, images):
    x, y = images
    x_adv = PGD(**ATTACK, generator=stream())(network, x, cross_entropy_gradient(y))
    plain, smooth = (
        mart_loss(network, x, y, PGD(**ATTACK, generator=stream()), beta=5.0, label_smoothing=s)
        for s in (0.0, 0.1)
    )
    rise = F.cross_entropy(network(x_adv), y, label_smoothing=0.1)
    rise = rise - F.cross_entropy(network(x_adv), y)
    torch.testing.assert_close(smooth - plain, rise, atol=1e-6, rtol=1e-4)


def test_mart_attacks_in_evaluation_and_updates_statistics_by_both_passes(images):
    x, y = images
    torch.manual_seed(0)
    network = Normed().train()
    twin = copy.deepcopy(network)
    mart_loss(network, x, y, PGD(**ATTACK, generator=stream()), beta=5.0)
    x_adv = PGD(**ATTACK, generator=stream())(twin.eval(), x, cross_entropy_gradient(y))
    twin.train()
    twin(x)
    twin(x_adv)
    assert network.training
    assert torch.equal(network.body[1].running_mean, twin.body[1].running_mean)
    assert network.body[1].num_batches_tracked == 2


# ---------------------------------------------------------------- the registry
def test_losses_and_settings_are_those_of_the_schema():
    schema = yaml.safe_load((ROOT / "config/schema.yaml").read_text(encoding="utf-8"))
    trainer = schema["$defs"]["trainer"]["properties"]
    assert set(trainer["loss"]["enum"]) == set(LOSSES)
    own = {setting for name in LOSSES for setting in loss_named(name).settings}
    assert trainer.keys() == own | {"loss", "attack_steps"}


def test_a_loss_is_entered_in_one_place(monkeypatch):
    """A toy loss trains, with a setting of its own, from the settings of a YAML file."""
    monkeypatch.setattr(losses, "LOSSES", copy.deepcopy(LOSSES))
    monkeypatch.setattr(recipe, "LOSSES", losses.LOSSES)

    @losses.LOSSES.enter("toy", weight_passes=1)
    def toy(network, x, y, attack, *, factor):
        return factor * F.cross_entropy(network(x), y)

    x, y = six_images()
    settings = {"loss": "toy", "factor": 0.0, "eps": 0.1, "step_size": 0.1, "attack_steps": 1}
    settings |= {"steps": 2, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0}
    settings |= {"warmup": 0.0, "batch": 4, "synthetic_share": 0.5, "shift": 0, "averaging": 0.0}
    settings |= {"validate_every": 1, "validation_steps": 1, "classes": 5, "seed": 0}
    settings |= {"real": (x, y), "synthetic": None, "validation": (x, y)}
    network = {"architecture": "small_cnn", "width": 3, "features": 7}
    still, moved = (train_flat(network, **settings | {"factor": f}) for f in (0.0, 1.0))
    assert [row["loss"] for row in still.history] == [0.0, 0.0]
    assert not torch.equal(still.last.logits.weight, moved.last.logits.weight)
    with pytest.raises(InputError, match="setting 'factor' is missing"):
        train_flat(network, **{k: v for k, v in settings.items() if k != "factor"})
