"""What gradients point at, of classifiers and denoisers whose gradients are known."""

import numpy as np
import one_line
import pytest
import torch
from torch import nn

from contrastdp.networks.build import build_network
from contrastdp.networks.checkpoint import save_network
from contrastdp.synthesis import alignment
from contrastdp.synthesis.gradient_pictures import targeted_attack

SHAPE, CLASSES, SPREAD = (1, 4, 4), 3, 1.0
CENTRES = torch.randn(CLASSES, *SHAPE, generator=torch.Generator().manual_seed(0)).double()


def abar(timestep):
    return 1 - 0.9 * timestep / 99


class Linear:
    """Two classes, logits w.x and -w.x: the gradient of class 0 is along w, whatever x and t."""

    w = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).double()

    def __call__(self, x, t):
        z = (x * self.w).flatten(1).sum(1)
        return torch.stack([z, -z], dim=1)


# ---------------------------------------------------------------- an exact Gaussian mixture
def log_densities(x, t):
    """log p(x_t | y) up to one constant, (N, classes): x_0 of class y is N(centre_y, SPREAD^2)."""
    a = abar(int(t))
    variance = a * SPREAD**2 + 1 - a
    distance = (x[:, None] - a**0.5 * CENTRES).flatten(2).square().sum(2)
    return -distance / (2 * variance)


def posterior(x, t):
    """Logits of p(y | x_t), each class being as likely."""
    return log_densities(x, t[0])


def predicted_noise(x, t, label):
    """-sqrt(1 - abar_t) times the exact score, of all classes or of one, by autograd."""
    source = x.detach().requires_grad_()
    each = log_densities(source, t)
    log_p = each.logsumexp(1) if label is None else each.gather(1, label[:, None])
    return -((1 - abar(t)) ** 0.5) * torch.autograd.grad(log_p.sum(), source)[0]


def score(x, t, label):
    return predicted_noise(x, t, None) - predicted_noise(x, t, label)


def mixture(count, seed=3):
    stream = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % CLASSES
    noise = torch.randn(count, *SHAPE, generator=stream).double()
    return CENTRES[label] + SPREAD * noise, label


@pytest.fixture(scope="module")
def of_mixture():
    clean, label = mixture(60)
    return alignment.band_measures(
        {"exact": posterior, "opposed": lambda x, t: -posterior(x, t)},
        clean=clean,
        label=label,
        abar=abar,
        means=alignment.class_mean_differences(*mixture(600), CLASSES),
        score=score,
        bands=alignment.bands_of(100, 5, 2),
        low_frequency=0.5,
        seed=0,
    )


def test_an_exact_posterior_points_along_the_difference_of_exact_scores(of_mixture):
    assert [band["n"] for band in of_mixture] == [120] * 5
    for band in of_mixture:
        assert band["exact"]["score"] == pytest.approx(1, abs=1e-5)
        assert set(band["exact"]) == set(alignment.MEASURES)


def test_bands_cut_all_timesteps_and_look_inside_each():
    found = alignment.bands_of(1000, 5, 4)
    assert [(b.low, b.high) for b in found] == [(200 * k, 200 * k + 199) for k in range(5)]
    assert found[1].timesteps == (225, 275, 325, 375)
    uneven = alignment.bands_of(10, 3, 1)
    assert [(b.low, b.high) for b in uneven] == [(0, 2), (3, 6), (7, 9)]
    assert all(b.low <= t <= b.high for b in uneven for t in b.timesteps)


def test_a_linear_classifier_points_along_the_class_mean():
    """Of two classes whose means differ along its own weights, in every band."""
    network = Linear()
    label = torch.arange(40) % 2
    sign = 1.0 - 2.0 * label.view(-1, 1, 1, 1)
    clean = sign * network.w
    found = alignment.band_measures(
        {"linear": network, "turned": lambda x, t: network(x, t).flip(1)},
        clean=clean,
        label=label,
        abar=abar,
        means=alignment.class_mean_differences(clean, label, 2),
        score=lambda x, t, y: torch.ones_like(x),
        bands=alignment.bands_of(100, 2, 3),
        low_frequency=0.5,
        seed=0,
    )
    for band in found:
        assert band["linear"]["class_mean"] == pytest.approx(1, abs=1e-6)
        assert band["turned"]["class_mean"] == pytest.approx(-1, abs=1e-6)


def test_the_gradient_is_that_of_a_finite_difference():
    clean, label = mixture(3)
    gradient = alignment.log_p_gradient(posterior, clean, 40, label)
    step = torch.zeros(SHAPE)
    step[0, 2, 1] = 1e-2

    def log_p(x):
        return posterior(x, torch.full((3,), 40)).log_softmax(1).gather(1, label[:, None])[:, 0]

    slope = (log_p(clean + step) - log_p(clean - step)) / 2e-2
    assert gradient[:, 0, 2, 1].numpy() == pytest.approx(slope.numpy(), abs=1e-3)


def test_a_certain_classifier_has_the_direction_of_one_that_doubts():
    """p(y) is 1 but for rounding, so that the softmax has no gradient of class y."""
    x = (30 / Linear.w.square().sum() * Linear.w[None]).float()
    gradient = alignment.log_p_gradient(Linear(), x, 0, torch.tensor([0]))
    assert Linear()(x, 0).softmax(1)[0, 0] == 1
    assert alignment.cosines(gradient, Linear.w[None]).item() == pytest.approx(1, abs=1e-6)


def test_class_means_are_those_of_a_slow_loop():
    x, y = mixture(30)
    found = alignment.class_mean_differences(x, y, CLASSES)
    for c in range(CLASSES):
        own = np.mean([x[i].numpy() for i in range(30) if y[i] == c], axis=0)
        others = np.mean([x[i].numpy() for i in range(30) if y[i] != c], axis=0)
        assert found[c].numpy() == pytest.approx(own - others, abs=1e-5)
    line = one_line.told(alignment.class_mean_differences, x[y != 1], y[y != 1], CLASSES)
    assert "class 1 has 0 of 20 real images" in line


# ---------------------------------------------------------------- frequencies
def test_a_constant_is_all_low_and_a_checkerboard_not_at_all():
    flat = torch.ones(1, 3, 8, 8)
    board = (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8)[None])
    both = torch.cat([flat, board.expand(1, 3, 8, 8)])
    assert alignment.low_frequency_share(both).tolist() == pytest.approx([1, 0])
    assert alignment.low_frequency_share(flat + 2 * board).item() == pytest.approx(1 / 5)


@pytest.mark.parametrize(("cycles", "share"), [(2, 1.0), (3, 0.0)])
def test_a_wave_is_low_up_to_half_of_nyquist(cycles, share):
    """Of 8 pixels: 2 cycles are 1/4 a pixel, half of Nyquist's 1/2; 3 are above."""
    wave = torch.cos(2 * torch.pi * cycles * torch.arange(8) / 8).expand(1, 1, 8, 8)
    assert alignment.low_frequency_share(wave).item() == pytest.approx(share, abs=1e-9)


def test_white_noise_has_the_share_of_low_frequencies():
    noise = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    u = np.fft.fftfreq(8)
    low = np.mean([np.hypot(a, b) <= 0.25 for a in u for b in u])
    assert alignment.low_frequency_share(noise).mean().item() == pytest.approx(low, abs=0.01)


# ---------------------------------------------------------------- what has no answer
class Flat(nn.Module):
    def forward(self, x, t):
        return x.flatten(1)[:, :CLASSES] * 0


def test_a_gradient_that_is_zero_counts_for_no_classifier():
    clean, label = mixture(6)

    def half(x, t):
        """Blind on the first images."""
        z = posterior(x, t)
        return torch.cat([z[:2] * 0, z[2:]])

    given = {"clean": clean, "label": label, "abar": abar, "score": score, "seed": 0}
    given |= {"means": alignment.class_mean_differences(clean, label, CLASSES)}
    given |= {"bands": alignment.bands_of(100, 1, 1), "low_frequency": 0.5}
    both = {"exact": posterior, "half": half}
    assert alignment.band_measures(both, **given)[0]["n"] == 4
    line = one_line.told(alignment.band_measures, {"flat": Flat()}, **given)
    assert "gradients from t = 0 to 99 are all 0" in line


def test_a_gradient_that_is_not_finite_is_told():
    clean, label = mixture(3)
    line = one_line.told(
        alignment.log_p_gradient, lambda x, t: posterior(x, t) / 0, clean, 7, label
    )
    assert "not finite at t = 7" in line


def test_a_classifier_without_timestep_is_refused(tmp_path):
    settings = {"architecture": "small_cnn", "width": 8, "features": 8}
    settings |= {"channels": 1, "classes": 3, "image_size": 8}
    path = tmp_path / "model.safetensors"
    save_network(path, build_network(**settings), settings)
    files = {"robust": str(path)}
    schedule = torch.linspace(1, 0, 10)
    line = one_line.told(alignment.load_classifiers, files, torch.device("cpu"), 3, schedule)
    assert "the robust classifier takes no timestep" in line


# ---------------------------------------------------------------- the targeted attack
def test_a_targeted_attack_seeks_its_class_inside_its_ball():
    x = 0.2 * torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(5))
    target = torch.zeros(8, dtype=torch.int64)
    radius = 0.4 * (128 * 128 * 3 / 16) ** 0.5  # 0.4 for 16 values
    found = targeted_attack(Linear(), x, target, steps=7, radius=radius)
    change = (found - x).flatten(1)
    assert change.norm(dim=1).numpy() == pytest.approx(np.full(8, 0.4), abs=1e-5)
    along = alignment.cosines(change, Linear.w.expand(8, *SHAPE))
    assert along.numpy() == pytest.approx(np.ones(8), abs=1e-5)


def test_a_targeted_attack_stays_among_pixels():
    x, target = torch.zeros(2, *SHAPE), torch.tensor([0, 1])
    found = targeted_attack(Linear(), x, target, steps=3, radius=1e5)
    assert found.abs().max() <= 1
