"""Training a denoiser: the loss, one step of each setting against torch, and repetition."""

import math

import pytest
import torch
from torch import nn

from contrastdp.diffusion.denoisers import build_denoiser
from contrastdp.diffusion.terms import NoisePrediction, predict
from contrastdp.diffusion.training import train_denoiser
from contrastdp.errors import InputError

ABAR = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)


def build(classes=None):
    torch.manual_seed(0)
    sizes = {"image_size": 8, "channels": 1, "width": 8, "inner": 16}
    return build_denoiser("small_denoiser", classes=classes, **sizes)


def test_the_loss_is_the_mean_squared_noise_error():
    model = build()
    x0, noise = torch.rand(2, 1, 8, 8) * 2 - 1, torch.randn(2, 1, 8, 8)
    t = torch.tensor([3, 900])
    total = 0.0
    for i in range(2):
        a = float(ABAR[t[i]])
        noisy = a**0.5 * x0[i] + (1 - a) ** 0.5 * noise[i]
        total += float(((1 - a) ** 0.5 * noisy - noise[i]).pow(2).mean()) / 2
    got = NoisePrediction()(predict(model, x0, noise, t, ABAR, {}))
    assert got.item() == pytest.approx(total, rel=1e-4)


def test_the_velocity_s_weighting_is_the_error_of_v():
    """v of what is predicted from e and x_t, against v of the noise and the image themselves."""
    model = build()
    x0, noise = torch.rand(3, 1, 8, 8) * 2 - 1, torch.randn(3, 1, 8, 8)
    t = torch.tensor([3, 500, 900])
    a = ABAR[t].view(-1, 1, 1, 1)
    noisy = a.sqrt() * x0 + (1 - a).sqrt() * noise
    predicted = (model(noisy, t).sample - (1 - a).sqrt() * noisy) / a.sqrt()
    expected = (predicted - (a.sqrt() * noise - (1 - a).sqrt() * x0)).pow(2).mean()
    got = NoisePrediction(weighting="velocity")(predict(model, x0, noise, t, ABAR, {}))
    assert got.item() == pytest.approx(expected.item(), rel=1e-4)
    first, second = build(), build()
    train(first, steps=4)
    train(second, steps=4, weighting="velocity")
    assert difference(first, second) > 1e-4


def train(model, seed=0, label=None, **changes):
    settings = {
        "abar": ABAR,
        "steps": 20,
        "batch": 16,
        "learning_rate": 2e-3,
        "warmup": 5,
        "clip_norm": 1.0,
        "averaging": 0.9,
        "shift": 0,
        "generator": torch.Generator().manual_seed(seed),
    }
    return list(train_denoiser(model, images(), label, **(settings | changes)))


def images():
    return torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def difference(a, b):
    """The largest difference of any weight of two networks."""
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max((x - y).abs().max().item() for x, y in pairs)


def test_training_lowers_the_loss_and_repeats_bit_for_bit():
    first, second = build(), build()
    rows = train(first, steps=120)
    train(second, steps=120)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert rows[-1]["step"] == 120
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_loss_that_is_not_finite_stops_in_one_line():
    model = build()
    with torch.no_grad():
        model.leave.bias.fill_(float("nan"))
    with pytest.raises(InputError, match="diffusion loss is nan at step 1"):
        train(model)


# ---------------------------------------------------------------- settings
class Scale(nn.Module):
    """A denoiser of one weight, which notes what it was given."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
        self.seen = []

    def forward(self, sample, timestep, class_labels=None):
        self.seen.append((sample.detach().clone(), timestep.clone()))
        return type("Output", (), {"sample": self.weight * sample})


def by_hand(optimiser, decay, weight_decay, warmup=3, steps=12, rate=0.05):
    """The weight of Scale after training: draws, clipped gradient and Adam as written in papers."""
    stream = torch.Generator().manual_seed(0)
    weight, first, second, average = 1.0, 0.0, 0.0, 1.0
    pending = torch.empty(0, dtype=torch.int64)
    for k in range(steps):
        while len(pending) < 16:
            pending = torch.cat([pending, torch.randperm(20, generator=stream)])
        index, pending = pending[:16], pending[16:]
        x0 = images()[index] * 2 - 1
        t = torch.randint(0, 1000, (16,), generator=stream)
        noise = torch.randn(x0.shape, generator=stream)
        a = ABAR[t].view(-1, 1, 1, 1)
        noisy = (a.sqrt() * x0 + (1 - a).sqrt() * noise).double()
        gradient = float((2 * (weight * noisy - noise) * noisy).mean())
        gradient *= min(1.0, 0.3 / (abs(gradient) + 1e-6))
        now = rate * (k + 1) / warmup
        if k >= warmup:
            now = rate
            if decay == "cosine":
                now *= 0.5 * (1 + math.cos(math.pi * (k - warmup) / (steps - warmup)))
        if optimiser == "adam":
            gradient += weight_decay * weight
        else:
            weight *= 1 - now * weight_decay
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        step = first / (1 - 0.9 ** (k + 1))
        weight -= now * step / ((second / (1 - 0.999 ** (k + 1))) ** 0.5 + 1e-8)
        share = min(0.9, (1 + k) / (10 + k))
        average = share * average + (1 - share) * weight
    return average


@pytest.mark.parametrize("decay", ["cosine", "constant"])
@pytest.mark.parametrize("optimiser", ["adamw", "adam"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.4])
def test_the_optimisation_written_out(optimiser, decay, weight_decay):
    model = Scale()
    options = {"optimiser": optimiser, "decay": decay, "weight_decay": weight_decay}
    train(model, steps=12, warmup=3, learning_rate=0.05, clip_norm=0.3, **options)
    assert model.weight.item() == pytest.approx(by_hand(**options), rel=1e-6)


@pytest.mark.parametrize("micro_batch", [1, 5, 16, 99])
def test_micro_batches_change_nothing_but_rounding(micro_batch):
    whole, parts = build(classes=4), build(classes=4)
    options = {"label": torch.arange(20) % 4, "flip": True, "steps": 6}
    expected = train(whole, **options)
    found = train(parts, **options, micro_batch=micro_batch)
    for a, b in zip(expected, found, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
    assert difference(whole, parts) < 2e-4
    seen = Scale()
    train(seen, steps=1, micro_batch=micro_batch)
    sizes = [len(x) for x, _ in seen.seen]
    assert (sizes[0], sum(sizes)) == (min(micro_batch, 16), 16)


def test_flips_mirror_half_of_the_images_and_leave_other_draws():
    plain, flipped = Scale(), Scale()
    near = {"abar": torch.ones(1000), "clip_norm": 1e-9}  # abar = 1: the images without noise
    train(plain, **near, steps=1, batch=20)
    train(flipped, **near, steps=1, batch=20, flip=True)
    x, y = plain.seen[0][0], flipped.seen[0][0]
    mirrored = [bool(torch.equal(b, a.flip(2))) for a, b in zip(x, y, strict=True)]
    kept = [bool(torch.equal(b, a)) for a, b in zip(x, y, strict=True)]
    assert [m != k for m, k in zip(mirrored, kept, strict=True)] == [True] * 20
    assert 4 < sum(mirrored) < 16


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [({"precision": "bfloat16"}, 0.1), ({"channels_last": True}, 1e-3), ({"compiled": "eager"}, 0)],
)
def test_how_it_is_run_changes_rounding_alone(options, tolerance):
    exact, other = build(), build()
    expected, found = train(exact, steps=10), train(other, steps=10, **options)
    assert found[-1]["loss"] == pytest.approx(expected[-1]["loss"], rel=tolerance, abs=1e-7)
    assert (difference(exact, other) > 1e-3) == (options.get("precision") == "bfloat16")
    assert {parameter.dtype for parameter in other.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "options",
    [{"optimiser": "sgd"}, {"decay": "linear"}, {"weighting": "snr"}, {"precision": "float16"}],
)
def test_an_unknown_choice_is_told_in_one_line(options):
    with pytest.raises(InputError, match=f"{next(iter(options))} is .*; choose"):
        train(build(), **options)
