"""Distances between features against closed forms, scipy and slow loops; copies by construction."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from contrastdp.errors import InputError
from contrastdp.networks.build import build_network
from contrastdp.report.quality_table import METRICS
from contrastdp.synthesis import quality


def gaussian(count, mean, std, seed):
    return mean + std * np.random.default_rng(seed).normal(size=(count, len(mean)))


def exactly(x, mean, std):
    """The points of x, moved so that their sample mean and covariance are mean and diag(std^2)."""
    x = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
    return x @ vectors / np.sqrt(values) * std + mean


# ---------------------------------------------------------------- Fréchet
def test_distance_of_diagonal_gaussians_in_closed_form():
    mean_a, mean_b = np.array([0.0, 1.0, -2.0]), np.array([0.5, 1.0, 1.0])
    std_a, std_b = np.array([1.0, 2.0, 0.5]), np.array([1.5, 0.1, 0.5])
    a = exactly(gaussian(40, mean_a, std_a, 0), mean_a, std_a)
    b = exactly(gaussian(30, mean_b, std_b, 1), mean_b, std_b)
    expected = np.square(mean_a - mean_b).sum() + np.square(std_a - std_b).sum()
    assert quality.frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_distance_of_correlated_features_is_scipy_s():
    random = np.random.default_rng(0)
    a = random.normal(size=(50, 6)) @ random.normal(size=(6, 6))
    b = random.normal(size=(60, 6)) @ random.normal(size=(6, 6)) + 0.3
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = np.square(a.mean(0) - b.mean(0)).sum()
    expected += np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert quality.frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert quality.frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)


def test_distance_to_itself_is_zero_with_constant_features_and_few_images():
    x = np.random.default_rng(0).normal(size=(5, 20)).astype(np.float32)
    x[:, 3:8] = 0
    assert quality.frechet_distance(x, x) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_jackknife_removes_the_bias_and_its_error_is_the_spread(shift):
    """Two distributions whose distance is known, sampled again and again."""
    zero, one = np.zeros(12), np.ones(12)
    found = [
        quality.frechet_jackknife(
            gaussian(150, zero, one, 2 * i), gaussian(200, zero + shift, one, 2 * i + 1), 10
        )
        for i in range(150)
    ]
    raw, error, debiased = (np.array([f[name] for f in found]) for name in found[0])
    distance, spread = 12 * shift**2, debiased.std(ddof=1)
    assert raw.mean() - distance > 5 * raw.std() / 150**0.5
    assert abs(debiased.mean() - distance) < 3 * spread / 150**0.5
    # at 0, where a distance has no slope, the error is on the safe side
    assert (0.8 if shift else 1.0) < error.mean() / spread < (1.25 if shift else 1.6)


def test_jackknife_of_two_groups_by_hand():
    random = np.random.default_rng(1)
    a, b = random.normal(size=(8, 2)), random.normal(size=(8, 2)) + 1
    halves = [np.sort(g) for g in np.array_split(np.random.default_rng(0).permutation(8), 2)]
    one, other = (quality.frechet_distance(a[h], b[h]) for h in halves)
    whole = quality.frechet_distance(a, b)
    found = quality.frechet_jackknife(a, b, 2)
    assert found["frechet"] == whole
    assert found["frechet_debiased"] == pytest.approx(2 * whole - (one + other) / 2)
    assert found["frechet_error"] == pytest.approx(abs(one - other) / 2)


def test_too_few_images():
    x = np.zeros((9, 2))
    with pytest.raises(InputError, match="at least 2"):
        quality.frechet_distance(x[:1], x)
    with pytest.raises(InputError, match="5 groups"):
        quality.frechet_jackknife(x, x, 5)
    with pytest.raises(InputError, match="5 neighbours"):
        quality.manifold_scores(x[:6], x, 5)


# ---------------------------------------------------------------- precision, recall, …
@pytest.mark.parametrize("rows", [7, 1000])
def test_manifold_scores_are_the_papers_definitions(capsys, monkeypatch, rows):
    """Kynkäänniemi et al. (2019), eq. 2, and Naeem et al. (2020), eqs. 3 and 5, in slow loops."""
    monkeypatch.setattr(quality, "ROWS", rows)  # 7 parts neither set without a rest
    random = np.random.default_rng(0)
    real, fake, k = random.normal(size=(30, 3)), 0.7 * random.normal(size=(24, 3)) + 0.4, 4

    def radius(points, i):
        return sorted(np.linalg.norm(points - points[i], axis=1))[k]  # the 0th is itself

    inside_real = np.array(
        [[np.linalg.norm(f - r) < radius(real, i) for i, r in enumerate(real)] for f in fake]
    )
    inside_fake = np.array(
        [[np.linalg.norm(f - r) < radius(fake, j) for j, f in enumerate(fake)] for r in real]
    )
    found = quality.manifold_scores(real, fake, k)
    assert found["precision"] == pytest.approx(np.mean([row.any() for row in inside_real]))
    assert found["recall"] == pytest.approx(np.mean([row.any() for row in inside_fake]))
    assert found["density"] == pytest.approx(inside_real.sum() / (k * len(fake)))
    assert found["coverage"] == pytest.approx(np.mean([inside_real[:, i].any() for i in range(30)]))
    assert len(set(found.values())) == 4
    assert capsys.readouterr().out == ""


def test_a_copy_lies_in_no_ball_that_ends_at_it():
    """Balls are open, and rounding to float32, as features have it, keeps equal distances equal."""
    random = np.random.default_rng(0)
    real = random.normal(size=(60, 16)).astype(np.float32) + 5
    found = quality.manifold_scores(real, real.copy(), 3)
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert found["density"] == 1  # itself and the two nearest of its three neighbours


# ---------------------------------------------------------------- in pixels
def test_nearest_distances_in_a_slow_loop():
    random = np.random.default_rng(0)
    x, training = random.random((7, 5)), random.random((9, 5))
    slow = [min(np.linalg.norm(a - b) for b in training) for a in x]
    assert quality.nearest_distances(x, training) == pytest.approx(slow)


def test_choose():
    assert quality.choose(5, 3).tolist() == [0, 1, 2]
    chosen = quality.choose(50, 1000)
    assert len(set(chosen.tolist())) == 50
    assert (np.diff(chosen) > 0).all()
    assert 300 < chosen.mean() < 700
    assert np.array_equal(chosen, quality.choose(50, 1000))


# ---------------------------------------------------------------- all of it
def pictures(count, seed):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
    return image, random.integers(0, 3, count)


@pytest.fixture(scope="module")
def networks():
    sizes = {"channels": 1, "classes": 3, "image_size": 4, "width": 2, "features": 5}
    return {
        name: build_network("small_cnn", **sizes, seed=seed).eval()
        for seed, name in enumerate(("encoder", "labeler"))
    }


def test_images_are_seen_as_the_networks_see_them(networks):
    image, label = pictures(6, 0)
    seen = quality.see(image, label, **networks)
    x = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        probability = networks["labeler"](x).softmax(dim=1).numpy()
        feature = networks["encoder"].features(x).numpy()
        own = networks["encoder"](x).argmax(dim=1).numpy()
    np.testing.assert_allclose(seen.feature, feature, rtol=1e-6)
    np.testing.assert_allclose(seen.confidence, probability[np.arange(6), label], rtol=1e-6)
    assert seen.agreement["encoder"].tolist() == (own == label).tolist()
    assert seen.agreement["labeler"].tolist() == (probability.argmax(1) == label).tolist()
    np.testing.assert_allclose(seen.pixels, image.reshape(6, 16) / 255, rtol=1e-6)
    assert len(seen) == 6


def made(pixels, feature, confidence=0.5):
    agreement = {"labeler": np.arange(len(pixels)) % 2 == 0, "encoder": np.arange(len(pixels)) < 3}
    return quality.Images(pixels, feature, np.full(len(pixels), confidence), agreement)


def test_measure_tells_copies_from_new_images():
    random = np.random.default_rng(0)
    training, heldout = random.random((40, 6)), random.random((60, 6))
    feature = random.normal(size=(60, 4))
    options = {"heldout": made(heldout, feature), "neighbours": 3, "groups": 5}
    half = np.concatenate([training[:30], random.random((30, 6))])
    found = quality.measure(made(half, feature + 1, 0.95), training, **options)
    assert set(found) == {"n", *METRICS}
    assert found["n"] == 60
    assert 0.5 <= found["copies"] < 0.56
    own = np.concatenate([np.zeros(30), quality.nearest_distances(half[30:], training)]).mean()
    assert found["nearest"] == pytest.approx(own, abs=1e-6)
    other = quality.nearest_distances(heldout, training).mean()
    assert found["nearest_heldout"] == pytest.approx(other, abs=1e-6)
    assert found["nearest_ratio"] == pytest.approx(own / other, abs=1e-6)
    assert found["frechet"] == pytest.approx(4)  # moved by 1 in each of 4 features
    assert found["frechet_relative"] == pytest.approx(
        found["frechet_debiased"] / np.trace(np.cov(feature, rowvar=False))
    )
    assert (found["confidence"], found["confident"]) == (pytest.approx(0.95), 1)
    assert (found["agreement_labeler"], found["agreement_encoder"]) == (0.5, 0.05)

    alone = quality.measure(made(heldout, feature), None, **options)
    assert alone["frechet"] == pytest.approx(0, abs=1e-9)
    assert alone["confident"] == 0
    assert [alone[name] for name in ("nearest", "nearest_heldout", "copies")] == [None] * 3
