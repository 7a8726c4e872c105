"""The toy of Figures 2, 6, 7: predictors against the exact score, measures on planted shapes."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from contrastdp.diffusion.conditioning import ClassLabel
from contrastdp.diffusion.initialisation import Gaussian
from contrastdp.diffusion.sampling import sample_batch
from contrastdp.diffusion.schedulers import SubsequenceScheduler, subsequence
from contrastdp.errors import InputError
from contrastdp.frames import as_table
from contrastdp.streams import generator
from contrastdp.theory import claims, toy
from contrastdp.theory import toy_measures as measures

MIXTURE = toy.Mixture([1.0, 0.5], 0.4)
LOSSES = {
    "infonce": {"loss": "infonce", "pairs": "previous", "tau": 0.1},
    "hnm_real_positive": {"loss": "hnm", "pairs": "real_positive", "tau": 10},
    "hnm_class_conditional": {"loss": "hnm", "pairs": "class_conditional", "tau": 10},
}
NETWORK = {"width": 64, "depth": 3, "batch": 256, "learning_rate": 5e-3, "averaging": 0.99}


@pytest.fixture(scope="module")
def scheduler():
    return SubsequenceScheduler(
        num_train_timesteps=100, beta_start=1e-4, beta_end=0.12, clip_sample=False
    )


@pytest.fixture(scope="module")
def trained(scheduler):
    return toy.train_point_denoiser(
        MIXTURE, scheduler.alphas_cumprod, seed=0, steps=1000, unlabelled=0.5, **NETWORK
    )


# ---------------------------------------------------------------- noise predictors
def log_density(x, abar, label):
    """log p(x_t) of one point, from the Gaussians' densities alone."""
    variance = abar * MIXTURE.sigma**2 + 1 - abar
    terms = [
        math.exp(
            -sum((x[j] - sign * math.sqrt(abar) * MIXTURE.mu[j]) ** 2 for j in (0, 1))
            / (2 * variance)
        )
        for sign in ((-1, 1) if label is None else (2 * label - 1,))
    ]
    return math.log(sum(terms))


@pytest.mark.parametrize("label", [None, 0, 1])
@pytest.mark.parametrize("timestep", [0, 30, 99])
def test_exact_noise_is_the_score_by_finite_differences(scheduler, label, timestep):
    abar = scheduler.alphas_cumprod.double()
    exact = toy.ExactDenoiser(MIXTURE, abar)
    points = torch.tensor([[0.3, -0.2], [-1.1, 0.7], [0.01, 0.02]], dtype=torch.float64)
    labels = None if label is None else torch.full((3,), label)
    got = exact(points, timestep, labels).sample
    a, h = float(abar[timestep]), 1e-5
    for point, noise in zip(points.tolist(), got.tolist(), strict=True):
        for j in (0, 1):
            up, down = list(point), list(point)
            up[j] += h
            down[j] -= h
            score = (log_density(up, a, label) - log_density(down, a, label)) / (2 * h)
            assert noise[j] == pytest.approx(-math.sqrt(1 - a) * score, rel=1e-5, abs=1e-7)


def test_trained_predictor_is_near_the_exact_one(scheduler, trained):
    denoiser, loss = trained
    found = toy.distance_to_exact(denoiser, MIXTURE, scheduler.alphas_cumprod, seed=1, points=4000)
    least = (found["exact_labelled"] + found["exact_unlabelled"]) / 2
    assert max(found["labelled"], found["unlabelled"]) < 0.04 * least
    assert loss == pytest.approx(least, rel=0.05)
    untrained = toy.PointDenoiser(scheduler.alphas_cumprod, width=32, depth=2)
    far = toy.distance_to_exact(untrained, MIXTURE, scheduler.alphas_cumprod, seed=1, points=4000)
    assert far["labelled"] > 10 * found["labelled"]


def test_training_repeats_and_leaves_the_global_random_state_alone(scheduler):
    settings = {"seed": 3, "steps": 5, "unlabelled": 0.5} | NETWORK
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    first, _ = toy.train_point_denoiser(MIXTURE, scheduler.alphas_cumprod, **settings)
    assert torch.equal(torch.rand(2), expected)
    second, _ = toy.train_point_denoiser(MIXTURE, scheduler.alphas_cumprod, **settings)
    third, _ = toy.train_point_denoiser(MIXTURE, scheduler.alphas_cumprod, **settings | {"seed": 4})
    weights = [d.net[0].weight for d in (first, second, third)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("steps", "eta", "start"), [(100, 1.0, 1.0), (100, 1.0, 2.0), (100, 0, 1)])
def test_sampling_with_the_exact_predictor_gives_back_the_mixture(scheduler, steps, eta, start):
    scheduler.set_timesteps(timesteps=subsequence(100, steps, "uniform"))
    x = sample_batch(
        toy.ExactDenoiser(MIXTURE, scheduler.alphas_cumprod),
        scheduler,
        indices=range(2000),
        seed=0,
        shape=(2,),
        eta=eta,
        conditioning=ClassLabel(2),
        initialisation=Gaussian(initial_scale=start),
    )
    towards = x * (2 * ClassLabel(2).label(range(2000))[:, None] - 1)
    assert towards.mean(0).tolist() == pytest.approx(MIXTURE.mu, abs=0.05)
    # The DDPM step's small variance takes a tenth off at 100 steps.
    assert float(towards.var(0).mean()) == pytest.approx(MIXTURE.sigma**2, rel=0.18)


def test_deterministic_steps_keep_the_wider_start(scheduler):
    scheduler.set_timesteps(timesteps=subsequence(100, 100, "uniform"))
    exact = toy.ExactDenoiser(MIXTURE, scheduler.alphas_cumprod)
    labels = torch.ones(1000, dtype=torch.int64)
    settings = {"indices": range(1000), "seed": 0, "shape": (2,)}
    settings["conditioning"] = ClassLabel(labels=labels)
    starts = [Gaussian(initial_scale=s) for s in (1.0, 2.0)]
    spread = [
        float(sample_batch(exact, scheduler, initialisation=start, **settings).var(0).mean())
        for start in starts
    ]
    assert spread[1] == pytest.approx(4 * spread[0], rel=1e-3)


# ---------------------------------------------------------------- measures
def around(centres, offsets):
    """Points around -centres and +centres with their classes."""
    points = np.concatenate([offsets - centres, offsets + centres])
    return points, np.repeat([0, 1], len(offsets))


def test_measures_of_two_planted_rings():
    angle = np.arange(500) * 2 * np.pi / 500
    ring = 0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = measures.measure(*around(np.array([2.0, 0.0]), ring), mu=[2.0, 0.0])
    assert found["radial_cv"] == pytest.approx(0, abs=1e-12)
    assert found["between"] == pytest.approx(4)
    assert found["within"] == pytest.approx(0.5, rel=2e-3)
    assert found["separability"] == pytest.approx(8, rel=2e-3)
    assert found["variance"] == pytest.approx(0.125, rel=3e-3)
    assert found["position"] == pytest.approx(1) and found["smaller"] == 0.5


@pytest.mark.parametrize(("shape", "expected"), [("blob", 0.5227), ("disc", 0.3536)])
def test_radial_spread_of_a_blob_and_of_a_disc(shape, expected):
    rng = np.random.default_rng(0)
    offsets = rng.standard_normal((40_000, 2))
    if shape == "disc":
        offsets *= np.sqrt(rng.random((40_000, 1))) / np.linalg.norm(offsets, axis=1, keepdims=True)
    found = measures.measure(*around(np.array([3.0, 3.0]), 0.7 * offsets), mu=[3.0, 3.0])
    assert found["radial_cv"] == pytest.approx(expected, abs=0.004)
    assert expected == pytest.approx(
        {"blob": measures.GAUSSIAN_CV, "disc": measures.DISC_CV}[shape], abs=1e-4
    )


def test_a_vanished_class_leaves_what_needs_both_open():
    points, label = np.random.default_rng(0).normal(size=(20, 2)), np.zeros(20, int)
    label[:2] = 1
    found = measures.measure(points, label, mu=[1.0, 1.0])
    assert math.isnan(found["separability"]) and math.isnan(found["position"])
    assert found["radial_cv"] > 0 and found["smaller"] == 0.1


def test_intervals_cover_the_mean_at_their_level():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        mean, low, high = measures.interval(
            rng.normal(3.0, 1.0, 24), level=0.9, resamples=200, seed=seed
        )
        assert low < mean < high
        hits += low < 3.0 < high
    assert 165 <= hits <= 195


# ---------------------------------------------------------------- panels
def panels(scheduler, denoiser, **changes):
    settings = {"predictor": "trained", "features": "identity", "normalise": True}
    settings |= {"steps": 20, "eta": 0.0, "starts": [1.0, 2.0], "sizes": [0.3], "batches": 2}
    settings |= {"plain_batches": 2} | changes
    return list(
        toy.sample_readings(
            {"a": settings},
            denoiser,
            MIXTURE,
            scheduler,
            toy.identity,
            losses=LOSSES,
            points=16,
            real=16,
            seed=0,
        )
    )


def test_panels_are_complete_repeat_and_share_their_noise(scheduler, trained):
    found, again = (panels(scheduler, trained[0]) for _ in range(2))
    keys = [tuple(panel.key.values()) for panel in found]
    assert len(set(keys)) == len(keys) == 1 + 2 * 2 + 3 * 2
    for one, other in zip(found, again, strict=True):
        assert one.points.shape == (2, 16, 2) and len(one.rows) == 2
        assert np.array_equal(one.points, other.points)
    by_key = dict(zip(keys, found, strict=True))
    # Without fresh noise the wider start stays in the samples.
    within = {
        start: by_key["a", "plain_conditional", start, 0.0].rows[0]["within"]
        for start in (1.0, 2.0)
    }
    assert within[2.0] > 1.5 * within[1.0]
    # Guidance of next to no size changes next to nothing: the same noise, sampler and model.
    for faint in panels(scheduler, trained[0], sizes=[1e-6]):
        if faint.key["size"]:
            base = "plain_conditional" if "class" in faint.key["panel"] else "plain"
            plain = by_key["a", base, faint.key["start"], 0.0]
            assert np.abs(faint.points - plain.points).max() < 1e-3
            guided = by_key["a", faint.key["panel"], faint.key["start"], 0.3]
            assert np.abs(guided.points - plain.points).max() > 1e-2


def test_lambda_makes_guidance_as_large_as_asked(scheduler, trained):
    """On the unguided chain, by a loop of its own; lambda is shared by both starts."""
    guided = [p for p in panels(scheduler, trained[0]) if p.key["panel"] == "infonce"]
    (lambda_,) = {row["lambda"] for panel in guided for row in panel.rows}
    twice = [p for p in panels(scheduler, trained[0], sizes=[0.6]) if p.key["panel"] == "infonce"]
    assert twice[0].rows[0]["lambda"] == pytest.approx(2 * lambda_)

    class Watched(toy.ExactDenoiser):
        def forward(self, sample, timestep, class_labels=None):
            self.seen.append(sample)
            return super().forward(sample, timestep, class_labels)

    exact = Watched(MIXTURE, scheduler.alphas_cumprod)
    exact.seen = []
    scheduler.set_timesteps(timesteps=subsequence(100, 20, "uniform"))
    stream = toy.derive_seed(0, "toy sample")
    sample_batch(exact, scheduler, indices=range(16), seed=stream, shape=(2,))
    states = exact.seen[:20]
    added, predicted = [], []
    for t, (before, now) in zip(scheduler.timesteps.tolist()[1:], pairwise(states), strict=True):
        x = now.clone().requires_grad_()
        unit, unit_before = (v / v.norm(dim=1, keepdim=True) for v in (x, before))
        others = (unit @ unit.detach().T).masked_fill(torch.eye(16, dtype=torch.bool), -torch.inf)
        logits = torch.cat([(unit * unit_before).sum(1, keepdim=True), others], dim=1) / 0.1
        target = torch.zeros(16, dtype=torch.int64)
        (slope,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, target), x)
        added.append(float(slope.norm(dim=1).median()))
        predicted.append(float(exact(now, t).sample.norm(dim=1).median()))
    found = next(
        p for p in panels(scheduler, None, predictor="exact") if p.key["panel"] == "infonce"
    )
    expected = 0.3 * np.mean(predicted) / np.mean(added)
    assert found.rows[0]["lambda"] == pytest.approx(expected, rel=1e-3)


def test_labels_follow_the_nearest_mode_or_the_condition(scheduler, trained):
    for panel in panels(scheduler, trained[0]):
        if "conditional" in panel.key["panel"]:
            assert (panel.label == np.arange(16) % 2).all()
        else:
            nearest = [
                [
                    np.linalg.norm(x - np.array(MIXTURE.mu)) < np.linalg.norm(x + MIXTURE.mu)
                    for x in batch
                ]
                for batch in panel.points
            ]
            assert (panel.label == np.array(nearest)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predictor": "guess"}, "predictor is 'guess'"),
        ({"features": "pixels"}, "features 'pixels'"),
        ({"mixture": {"mu": [1, 1], "sigma": 2.0}}, "trained on the main mixture"),
        ({"mixture": {"mu": [0, 0], "sigma": 2.0}}, "positive sigma"),
    ],
)
def test_unknown_choices_are_refused_in_one_line(scheduler, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        panels(scheduler, None, **changes)
    assert "\n" not in str(caught.value)


def test_features_of_the_classifier_tell_the_classes_apart():
    mapped = toy.train_point_features(
        MIXTURE, seed=0, width=16, features=4, steps=200, batch=128, learning_rate=1e-2
    )
    label = ClassLabel(2).label(range(400))
    found = torch.nn.functional.normalize(mapped(MIXTURE.draw(label, generator(0, "x"))))
    same = found[label == 0] @ found[label == 0].T
    other = found[label == 0] @ found[label == 1].T
    assert found.shape == (400, 4) and float(same.mean() - other.mean()) > 0.3


# ---------------------------------------------------------------- claims
def rows(**panels_):
    """The measures' table for panels with given (measure -> batch values)."""
    found = [
        {"reading": "a", "panel": panel, "start": 1, "size": size, "batch": batch}
        | {name: values[batch] for name, values in found.items()}
        for (panel, size), found in panels_.pop("found").items()
        for batch in range(4)
    ]
    return as_table(found, measures.COLUMNS)


SETTING = {"reading": "a", "start": 1, "level": 0.95, "resamples": 200, "seed": 0}


def judged(cv):
    plain = {"radial_cv": [0.52, 0.53, 0.51, 0.52]}
    found = {("plain", 0): plain, ("one", 1.0): {"radial_cv": [0.1, 0.12, 0.11, 0.1]}}
    found["two", 1.0] = {"radial_cv": cv}
    return claims.TESTS["toy_circle"](
        {"toy": rows(found=found)}, size=1.0, panels=["one", "two"], threshold=0.3536, **SETTING
    )


def test_a_ring_in_every_panel_is_a_circle_and_one_blob_spoils_it():
    assert judged([0.2, 0.21, 0.19, 0.2]).verdict == "reproduced"
    spoiled = judged([0.5, 0.51, 0.52, 0.5])
    assert spoiled.verdict == "not reproduced" and spoiled.effect == pytest.approx(0.5075)
    assert "one 0.108, two 0.508" in spoiled.evidence
    assert judged([0.3, 0.4, 0.3, 0.4]).verdict == "inconclusive"


def ratio(values, **changes):
    found = {
        ("plain", 0): {"variance": [1.0, 1.1, 0.9, 1.0]},
        ("hnm", 1.0): {"variance": values},
        ("hnm", 0.3): {"variance": [0.8, 0.8, 0.8, 0.8]},
    }
    settings = {"measure": "variance", "panel": "hnm", "baseline": "plain", "size": 1.0}
    settings |= {"above": False, "threshold": 0.5} | SETTING | changes
    return claims.TESTS["toy_ratio"]({"toy": rows(found=found)}, **settings)


def test_ratios_are_taken_to_the_plain_panel_and_tell_other_settings():
    small = ratio([0.4, 0.44, 0.36, 0.4])
    assert small.verdict == "reproduced" and small.effect == pytest.approx(0.4)
    assert (small.low, small.high) == pytest.approx((0.4, 0.4))  # paired: the same in every batch
    assert "0 of 1 other settings" in small.evidence and "size 0.3 (0.80)" in small.evidence
    assert ratio([0.9, 0.8, 0.9, 0.8]).verdict == "not reproduced"
    assert ratio([0.9, 0.8, 0.9, 0.8], threshold=0.5, above=True).verdict == "reproduced"


@pytest.mark.parametrize(("scale", "verdict"), [(1.02, "reproduced"), (1.3, "not reproduced")])
def test_recovery_catches_a_planted_error(scale, verdict):
    real = {"variance": [0.25, 0.26, 0.24, 0.25], "position": [1.0, 1.0, 1.01, 0.99]}
    plain = {"variance": [scale * v for v in real["variance"]], "position": real["position"]}
    found = claims.TESTS["toy_recovers"](
        {"toy": rows(found={("real", 0): real, ("plain", 0): plain})},
        measures=["variance", "position"],
        threshold=0.1,
        **SETTING,
    )
    assert found.verdict == verdict and found.effect == pytest.approx(scale - 1)


def test_a_panel_that_was_not_sampled_is_named():
    with pytest.raises(InputError, match="no panel 'hnm' of reading 'b'"):
        ratio([0.4] * 4, reading="b")
