"""Training of time-dependent classifiers against Eq. 5, written out, and known answers."""

import math

import pytest
import torch
from bright_rows import bright_rows
from torch import nn
from torch.nn import functional as F

from contrastdp.attack.early_stopped import EarlyStopped
from contrastdp.errors import InputError
from contrastdp.networks import build
from contrastdp.networks.time_dependent import TimeUNet
from contrastdp.training.time_classifier import (
    accuracy_by_band,
    noised,
    train_time_classifier_network,
)

NETWORK = {"architecture": "time_unet", "width": 4, "depth": 1, "multipliers": [1, 2]}
NETWORK |= {"attention": [], "head_size": 4, "groups": 2}
ABAR = torch.linspace(0.99, 0.01, 20)
RECIPE = {"network": NETWORK, "abar": ABAR, "classes": 3, "steps": 4, "batch": 12, "shift": 1}
RECIPE |= {"flip": True, "learning_rate": 5e-3, "weight_decay": 0.05, "seed": 0}
L2 = EarlyStopped(norm="L2", eps=0.4, steps=3, step_size="2.5 eps/steps")


def train(**changed):
    return train_time_classifier_network(*bright_rows(30, 8), **RECIPE | changed)


def weights(result):
    return result.network.state_dict()


@pytest.fixture
def passes(monkeypatch):
    """What passes the network: (x, t, whether its weights get a gradient) of each pass."""
    seen = []

    class Watching(TimeUNet):
        def forward(self, x, t=None):
            seen.append((x.detach().clone(), t.clone(), self.logits.weight.requires_grad))
            return super().forward(x, t)

    monkeypatch.setitem(build.ARCHITECTURES, "time_unet", Watching)
    return seen


# ---------------------------------------------------------------- noisy images
def test_noise_by_the_closed_form():
    x, t = torch.rand(4, 1, 2, 2) * 2 - 1, torch.tensor([0, 3, 19, 3])
    noise = torch.randn(4, 1, 2, 2)
    found = noised(x, t, noise, ABAR)
    for i, when in enumerate(t):
        a = float(ABAR[when])
        torch.testing.assert_close(found[i], math.sqrt(a) * x[i] + math.sqrt(1 - a) * noise[i])


def test_the_network_sees_x_t_of_pixels_from_minus_one_to_one_and_every_t(passes):
    x, y = torch.full((100, 1, 8, 8), 0.25), torch.arange(100) % 3
    options = RECIPE | {"steps": 20, "batch": 100, "shift": 0}
    train_time_classifier_network(x, y, **options)
    seen, t = torch.cat([x for x, _, _ in passes]), torch.cat([t for _, t, _ in passes])
    counts = t.bincount(minlength=20)
    assert len(counts) == 20
    assert ((counts - 100).abs() < 5 * 10).all()  # five standard deviations of a hundred
    a = ABAR[t].view(-1, 1, 1, 1)
    noise = (seen - a.sqrt() * (2 * 0.25 - 1)) / (1 - a).sqrt()
    late = noise[t > 5]  # rounding matters where there is little noise
    assert abs(float(late.mean())) < 5 / math.sqrt(late.numel())
    assert abs(float(late.var()) - 1) < 5 * math.sqrt(2 / late.numel())


# ---------------------------------------------------------------- Eq. 5
def test_weights_follow_adamw_on_the_mean_loss_at_the_attacked_points(passes, monkeypatch):
    """Every training pass once more, with AdamW written out and the rate falling linearly."""
    labels = []
    monkeypatch.setattr(
        "contrastdp.training.time_classifier.F.cross_entropy",
        lambda z, y, **options: (labels.append(y), F.nll_loss(z.log_softmax(1), y, **options))[1],
    )
    result = train(attack=L2, anneal_steps=10)
    own = [(x, t) for x, t, trained in passes if trained]
    assert len(own) == len(labels) == 4
    assert len(passes) > 8  # the attack's beside them

    network = build.build_network(
        **NETWORK, channels=1, classes=3, image_size=8, num_train_timesteps=20, seed=0
    )
    parameters = list(network.parameters())
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    losses = []
    for step, ((x, t), y) in enumerate(zip(own, labels, strict=True)):
        z = network(x, t).log_softmax(1)
        loss = -sum(z[i, label] for i, label in enumerate(y)) / len(y)
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, parameters)
        rate = 5e-3 * (1 - step / 10)
        for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
            m.mul_(0.9).add_(g, alpha=0.1)
            v.mul_(0.999).add_(g * g, alpha=0.001)
            size = m / (1 - 0.9 ** (step + 1))
            scale = (v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            p.data.mul_(1 - rate * 0.05).sub_(rate * size / scale)
    found = dict(result.network.named_parameters())
    compared = 0
    for (name, expected), v in zip(network.named_parameters(), second, strict=True):
        clear = v.sqrt() > 1e-5  # of rounding, which AdamW makes large where the gradient is 0
        compared += int(clear.sum())
        torch.testing.assert_close(found[name][clear], expected[clear], rtol=0, atol=1e-4)
    assert compared > 0.5 * sum(p.numel() for p in parameters)
    assert [row["loss"] for row in result.history] == pytest.approx(losses, rel=1e-3)
    assert torch.equal(result.network.abar, ABAR)
    assert not result.network.training


def test_history_counts_what_the_attack_moves_and_passes(passes):
    result = train(attack=L2, steps=2)
    assert result.passes == sum(len(x) for x, _, trained in passes if not trained)
    assert [row["step"] for row in result.history] == [1, 2]
    assert all(0 < row["attacked"] < 1 for row in result.history)


# ---------------------------------------------------------------- the same stream
def test_the_vanilla_twin_is_the_robust_one_without_its_attack(passes):
    given = [{}, {"attack": EarlyStopped(norm="L2", eps=0, steps=3, step_size="eps/6")}]
    given += [{"attack": EarlyStopped(norm="Linf", eps=1, steps=0, step_size="eps/6")}]
    plain, *others = [train(**attack) for attack in given]
    for other in others:
        assert all(torch.equal(weights(other)[k], v) for k, v in weights(plain).items())
        assert other.history == plain.history
    assert plain.history[-1]["attacked"] == plain.passes == 0

    starts = [(x, t) for x, t, _ in passes[:4]]
    passes.clear()
    robust = train(attack=L2)
    again = [seen for k, seen in enumerate(passes) if k == 0 or passes[k - 1][2]]
    for (x, t), (x_adv, t_adv, _) in zip(starts, again, strict=True):
        assert torch.equal(x, x_adv)
        assert torch.equal(t, t_adv)
    assert not torch.equal(weights(robust)["logits.weight"], weights(plain)["logits.weight"])


def test_seed_decides():
    one, two, other = (weights(train(attack=L2, seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], value) for name, value in two.items())
    assert not torch.equal(one["logits.weight"], other["logits.weight"])


def test_parts_of_a_batch_make_the_same_gradient():
    whole, parts = (train(attack=L2, micro_batch=size, steps=2) for size in (None, 5))
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], value, rtol=0, atol=2e-3)
    assert parts.history[0]["loss"] == pytest.approx(whole.history[0]["loss"], rel=1e-4)
    assert parts.passes == whole.passes


# ---------------------------------------------------------------- accuracy
class Line(nn.Module):
    """Class 1 where the mean pixel is above 0, else 0; from timestep 6 on the other way round."""

    def __init__(self):
        super().__init__()
        self.register_buffer("abar", torch.ones(10))
        self.seen = []

    def forward(self, x, t):
        self.seen.append(t.clone())
        mean = x.flatten(1).mean(1) * torch.where(t < 6, 1.0, -1.0)
        return torch.stack([-mean, mean], 1)


def test_accuracy_by_band_of_a_line():
    # the distance of a constant image to the line is |2 x - 1| times the root of the pixels, 4
    x = torch.tensor([0.9, 0.6, 0.55, 0.05]).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    y = torch.tensor([1, 1, 1, 1])
    attack = EarlyStopped(norm="L2", eps=1.0, steps=4, step_size="2.5 eps/steps")
    network = Line()
    rows = accuracy_by_band(network, x, y, attack=attack, seed=0, batch=3)
    assert [(row["t_low"], row["t_high"]) for row in rows] == [(k, k + 1) for k in range(0, 10, 2)]
    assert [row["clean"] for row in rows] == [0.75] * 3 + [0.25] * 2
    assert [row["robust"] for row in rows] == [0.25] * 5  # of one image, 3.2 or 3.6 away
    drawn = [{int(t) // 2 for t in seen} for seen in network.seen]
    assert all(len(bands) == 1 for bands in drawn)
    assert [min(bands) for bands in drawn] == sorted(min(bands) for bands in drawn)
    assert len({int(t) for seen in network.seen for t in seen}) > 7
    unattacked = accuracy_by_band(network, x, y, attack=None, seed=0)
    assert [row["clean"] for row in unattacked] == [0.75] * 3 + [0.25] * 2
    assert {row["robust"] for row in unattacked} == {None}


def test_accuracy_is_of_noisy_images():
    network = Line()
    network.abar.fill_(0.5)
    x, y = torch.full((2000, 1, 4, 4), 0.55), torch.ones(2000, dtype=torch.int64)
    first, second = (accuracy_by_band(network, x, y, attack=None, seed=s)[0] for s in (0, 0))
    assert first == second
    # the mean of 16 pixels of 0.1 sqrt(1/2) plus noise of variance 1/2 is above 0
    expected = 0.5 * (1 + math.erf(0.1 * math.sqrt(0.5) / math.sqrt(0.5 / 16) / math.sqrt(2)))
    assert first["clean"] == pytest.approx(expected, abs=5 * math.sqrt(0.25 / 2000))


def test_it_learns_and_its_attack_makes_it_robust():
    options = RECIPE | {"steps": 60, "batch": 20, "shift": 0, "flip": False}
    options |= {"learning_rate": 2e-2, "abar": torch.linspace(1.0, 0.8, 20)}
    strong = EarlyStopped(norm="L2", eps=2.5, steps=3, step_size="2.5 eps/steps")
    found = {}
    for name, attack in (("robust", strong), ("vanilla", None)):
        result = train_time_classifier_network(*bright_rows(60, 8), **options | {"attack": attack})
        rows = accuracy_by_band(result.network, *bright_rows(60, 8, 1), attack=strong, seed=1)
        found[name] = [sum(row[kind] for row in rows) / 5 for kind in ("clean", "robust")]
    assert found["vanilla"][0] > 0.9
    assert found["robust"][1] > found["vanilla"][1] + 0.1


# ---------------------------------------------------------------- faults
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"network": {"architecture": "small_cnn", "width": 4}}, "'small_cnn' takes no t"),
        (
            {"network": NETWORK | {"num_train_timesteps": 30}},
            "num_train_timesteps is 30, and the noise schedule has 20; leave it out",
        ),
        ({"anneal_steps": 3}, "anneal_steps is 3"),
        ({"learning_rate": 1e30, "steps": 20}, "training loss is nan"),
    ],
)
def test_faults_are_one_line(changed, words):
    with pytest.raises(InputError) as caught:
        train(**changed)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
