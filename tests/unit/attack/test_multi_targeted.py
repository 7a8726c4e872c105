"""MultiTargeted PGD against the closed form of a linear classifier, torch's Adam and autograd."""

import pytest
import torch
from torch import nn

from contrastdp.attack.multi_targeted import ascend, multi_targeted, target_gradient

CLASSES, PIXELS = 4, 9
OPTIONS = {"restarts": 1, "steps": 40, "batch": 16, "seed": 0}


class Linear(nn.Module):
    """Logits w x + b; remembers which images it has seen, by the number that `keys` gives them."""

    def __init__(self, seed=0):
        super().__init__()
        stream = torch.Generator().manual_seed(seed)
        self.w = torch.randn(CLASSES, PIXELS, generator=stream)
        self.b = 0.1 * torch.randn(CLASSES, generator=stream) - self.w.sum(dim=1) / 2
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return x.flatten(1) @ self.w.t() + self.b


class Curved(Linear):
    """Logits that bend with the image, so that steps matter."""

    def forward(self, x):
        return torch.sin(4 * super().forward(x)) + 0.3 * super().forward(x)


def images(count, low=0.0, high=1.0, seed=1):
    stream = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(count, 1, 3, 3, generator=stream)


def worst_margins(model, x, y, eps):
    """min over the ball and the pixel range of z_y - z_t, the largest decrease pixel by pixel."""
    low, high = (x - eps).clamp(min=0).flatten(1), (x + eps).clamp(max=1).flatten(1)
    found = torch.full((len(x), CLASSES), torch.inf)
    for i, label in enumerate(y.tolist()):
        for t in range(CLASSES):
            if t != label:
                slope = model.w[label] - model.w[t]
                value = sum(
                    min(s * a, s * b) for s, a, b in zip(slope, low[i], high[i], strict=True)
                )
                found[i, t] = value + model.b[label] - model.b[t]
    return found.min(dim=1).values


@pytest.mark.parametrize("eps", [0.02, 0.05, 0.12])
def test_equals_the_robust_accuracy_of_a_linear_model_in_closed_form(eps):
    model, x = Linear(), images(200, low=eps, high=1 - eps)
    y = model(x).argmax(dim=1)
    margin = worst_margins(model, x, y, eps)
    # away from the pixel bounds the minimum is margin - eps ||w_y - w_t||_1
    slopes = model.w[y][:, None] - model.w[None]
    inner = (slopes * x.flatten(1)[:, None]).sum(2) + model.b[y][:, None] - model.b[None]
    inner -= eps * slopes.abs().sum(2)
    inner[torch.arange(len(y)), y] = torch.inf
    torch.testing.assert_close(margin, inner.min(dim=1).values, atol=1e-5, rtol=0)

    x_adv, broken = multi_targeted(model, x, y, eps=eps, **OPTIONS)
    sure = margin.abs() > 1e-4
    assert torch.equal(broken[sure], margin[sure] < 0)
    assert 0.05 < broken.float().mean() < 0.95
    assert (x_adv - x).abs().max() <= eps + 1e-6
    assert torch.equal(model(x_adv).argmax(dim=1) != y, broken)
    assert torch.equal(x_adv[~broken], x[~broken])


@pytest.mark.parametrize("eps", [0.05, 0.3])
def test_respects_the_pixel_range_where_it_binds(eps):
    model, x = Linear(3), (2 * images(200) - 0.5).clamp(0, 1)  # half of the pixels lie on a bound
    y = model(x).argmax(dim=1)
    margin = worst_margins(model, x, y, eps)
    x_adv, broken = multi_targeted(model, x, y, eps=eps, **OPTIONS)
    sure = margin.abs() > 1e-4
    assert torch.equal(broken[sure], margin[sure] < 0)
    assert 0.05 < broken.float().mean() < 0.98
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1


def test_every_wrong_class_is_a_target():
    """From a middle where no other class is near, each image can be lost to one class alone."""
    w = torch.zeros(CLASSES, PIXELS)
    w[1:, :3] = torch.eye(3)
    model = Linear()
    model.w, model.b = w, torch.tensor([0.6, 0.0, 0.0, 0.0])
    x = torch.full((3, 1, 3, 3), 0.1)
    x.view(3, -1)[torch.arange(3), torch.arange(3)] = 0.45
    y = torch.zeros(3, dtype=torch.int64)
    x_adv, broken = multi_targeted(model, x, y, eps=0.2, **OPTIONS)
    assert broken.all()
    assert model(x_adv).argmax(dim=1).tolist() == [1, 2, 3]


# ---------------------------------------------------------------- its parts
def test_target_gradient_is_autograd_s():
    stream = torch.Generator().manual_seed(0)
    z = torch.randn(6, CLASSES, generator=stream, requires_grad=True)
    y, t = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 0, 3, 2, 3, 2])
    rows = torch.arange(6)
    (expected,) = torch.autograd.grad((z[rows, t] - z[rows, y]).sum(), z)
    assert torch.equal(target_gradient(y, t)(z.detach()), expected)


def test_steps_are_those_of_torch_s_adam():
    eps, steps, model = 0.2, 12, Curved()
    x, start = images(5, 0.3, 0.7), images(5, 0.3, 0.7, seed=2)
    rows, y, target = torch.arange(5), torch.tensor([0, 1, 2, 3, 0]), torch.tensor([1, 2, 3, 0, 2])
    aim = target_gradient(y, target)

    def never_fooled(x):
        z = model(x)
        return torch.cat([z, torch.full((len(z), 1), 99.0)], dim=1)  # one class always wins

    def wider(z):
        return torch.cat([aim(z[:, :CLASSES]), torch.zeros(len(z), 1)], dim=1)

    winner = torch.full((5,), CLASSES)
    found = ascend(never_fooled, x, winner, start, wider, eps=eps, steps=steps)

    slow = nn.Parameter(start.clamp(x - eps, x + eps).clamp(0, 1))
    optimizer = torch.optim.Adam([slow], maximize=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 if step < 6 else 0.01 if step < 9 else 0.0001
        z = model(slow)
        optimizer.zero_grad()
        (z[rows, target] - z[rows, y]).sum().backward()
        optimizer.step()
        with torch.no_grad():
            slow.copy_(slow.clamp(x - eps, x + eps).clamp(0, 1))
    torch.testing.assert_close(found, slow.detach(), atol=1e-5, rtol=0)
    assert (found - start).abs().max() > 0.05


def test_ascend_returns_the_first_misclassified_iterate():
    """One pixel rises from 0.5 in steps of 0.1; class 1 wins at 0.6, class 0 below and above."""

    def function(x):
        v = x.flatten(1)
        between = ((v > 0.55) & (v < 0.65)).float()
        return torch.cat([v * 0 + 0.5, between, v - 10], dim=1)

    x, y = torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])
    options = {"eps": 0.3, "steps": 2}
    found = ascend(function, x, y, x, lambda z: torch.tensor([[0.0, 0.0, 1.0]]), **options)
    assert found.item() == pytest.approx(0.6, abs=1e-5)
    assert function(found).argmax(dim=1).item() == 1


# ---------------------------------------------------------------- who is attacked, and from where
def test_a_broken_image_is_attacked_no_further():
    eps, model, x = 0.06, Linear(), images(100, 0.2, 0.8)
    y = model(x).argmax(dim=1)
    margin = worst_margins(model, x, y, eps)
    x = torch.cat([x[margin < -0.05][:4], x[margin > 0.05][:4]])
    y = model(x).argmax(dim=1)
    model.seen = []
    _, broken = multi_targeted(model, x, y, eps=eps, **OPTIONS | {"restarts": 3, "batch": 100})
    assert broken.tolist() == [True] * 4 + [False] * 4
    sizes = [len(seen) for seen in model.seen]
    assert sizes[0] == 8
    # the first restart breaks the four, whatever target it takes; later ones see the other four
    assert set(sizes[-2 * (CLASSES - 1) * 41 :]) == {4}
    robust = x[4:]
    assert all((seen - robust).abs().max() <= eps + 1e-6 for seen in model.seen[-200:])


def test_stops_when_all_are_broken():
    model, x = Linear(), images(6)
    y = model(x).argmax(dim=1)
    model.seen = []
    _, broken = multi_targeted(model, x, y, eps=0.9, **OPTIONS | {"restarts": 50})
    assert broken.all()
    assert len(model.seen) < 2 * CLASSES * 41


def test_seed_decides_the_start_and_batches_do_not():
    model, x = Curved(), images(20, 0.3, 0.7)
    y = model(x).argmax(dim=1)
    options = {"eps": 0.1, "restarts": 1, "steps": 3}
    first, broken = multi_targeted(model, x, y, batch=20, seed=0, **options)
    again, _ = multi_targeted(model, x, y, batch=20, seed=0, **options)
    pieces, _ = multi_targeted(model, x, y, batch=3, seed=0, **options)
    other, _ = multi_targeted(model, x, y, batch=20, seed=1, **options)
    assert broken.any()
    assert torch.equal(first, again)
    torch.testing.assert_close(first, pieces, atol=1e-4, rtol=0)
    assert not torch.equal(first, other)


def test_starts_fill_the_ball_evenly():
    """With no steps, the image that is looked at is the start: uniform in the ball."""
    model, x = Linear(), torch.full((2000, 1, 3, 3), 0.5)
    y = model(x).argmax(dim=1)
    model.seen = []
    multi_targeted(model, x, y, eps=0.1, restarts=1, steps=0, batch=2000, seed=0)
    start = model.seen[1] - 0.5
    assert start.abs().max() <= 0.1 + 1e-6
    assert start.mean().abs() < 0.002
    assert start.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.02)


def test_no_images():
    x_adv, broken = multi_targeted(
        Linear(), torch.zeros(0, 1, 3, 3), torch.zeros(0, dtype=torch.int64), eps=0.1, **OPTIONS
    )
    assert len(x_adv) == len(broken) == 0
