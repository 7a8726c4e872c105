"""Guidance by a classifier: its gradient in closed form, its sign and factor, y and windows."""

import pytest
import torch

from contrastdp.diffusion.sampling import sample_batch
from contrastdp.diffusion.schedulers import SubsequenceScheduler, set_chain
from contrastdp.errors import InputError
from contrastdp.guidance.build import build_guidance
from contrastdp.guidance.protocol import guided_noise

CHAIN = [800, 400, 0]
WEIGHT = torch.linspace(-1, 1, 3 * 4, dtype=torch.float64).view(3, 4).sin()


def linear(x):
    """Logits (m, 3) of images (m, 1, 2, 2): grad log p_y = w_y - sum_c p_c w_c."""
    return x.flatten(1) @ WEIGHT.to(x.dtype).T


def slope(x, label):
    p = linear(x).softmax(1)
    return (WEIGHT[label] - p @ WEIGHT).view(x.shape)


def abar(t):
    return {800: 0.1, 400: 0.5, 0: 0.99}[t]


def make(**settings):
    defaults = {"classifier": linear, "lambda": 2.0, "abar": abar, "encoder_input": "raw"}
    return build_guidance(None, loss="classifier", **(defaults | settings))


@pytest.fixture
def state():
    torch.manual_seed(0)
    return torch.randn(5, 1, 2, 2, dtype=torch.float64)


LABEL = torch.tensor([2, 0, 1, 1, 0])


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("t", CHAIN)
def test_the_gradient_in_closed_form_with_its_factor(state, t, micro_batch):
    guidance = make(micro_batch=micro_batch)
    guidance.start([0, 1, 2, 3, 4], CHAIN, LABEL)
    expected = -2.0 * (1 - abar(t)) ** 0.5 * slope(state, LABEL)
    torch.testing.assert_close(guidance(state, t), expected)


def test_a_random_direction_keeps_the_closed_forms_norm_and_stays(state):
    guidance = make(direction="random", seed=4)
    guidance.start([0, 1, 2, 3, 4], CHAIN, LABEL)
    found = {t: guidance(state, t).flatten(1) for t in CHAIN}
    for t, added in found.items():
        expected = 2.0 * (1 - abar(t)) ** 0.5 * slope(state, LABEL).flatten(1).norm(dim=1)
        torch.testing.assert_close(added.norm(dim=1), expected)
    unit = {t: added / added.norm(dim=1, keepdim=True) for t, added in found.items()}
    torch.testing.assert_close(unit[800], unit[0])
    gradients = slope(state, LABEL).flatten(1)
    cosines = torch.cosine_similarity(found[800], gradients)
    assert bool((cosines.abs() < 0.999).all())
    # the direction is the image's, whatever its batch, and another one under another seed
    guidance.start([3, 4], CHAIN, LABEL[3:])
    torch.testing.assert_close(guidance(state[3:], 800).flatten(1), found[800][3:])
    other = make(direction="random", seed=5)
    other.start([0, 1, 2, 3, 4], CHAIN, LABEL)
    assert not torch.allclose(other(state, 800).flatten(1), found[800])


def test_a_direction_must_be_known():
    with pytest.raises(InputError, match="direction is 'up'; choose gradient or random"):
        make(direction="up")


def test_without_the_factor_as_the_official_code(state):
    guidance = make(noise_factor=False)
    guidance.start([0, 1, 2, 3, 4], CHAIN, LABEL)
    torch.testing.assert_close(guidance(state, 800), -2.0 * slope(state, LABEL))


def test_the_unit_view_halves_the_slope(state):
    guidance = make(encoder_input="unit")
    guidance.start([0, 1, 2, 3, 4], CHAIN, LABEL)
    expected = -2.0 * 0.5**0.5 * 0.5 * slope((state + 1) / 2, LABEL)
    torch.testing.assert_close(guidance(state, 400), expected)


def test_the_probability_of_y_rises_and_x0_moves_by_the_stated_amount(state):
    """x_0 moves by s (1 - abar) / sqrt(abar) grad log p (Dhariwal & Nichol 2021, Algorithm 2)."""
    guidance = make(**{"lambda": 0.5})
    guidance.start([0, 1, 2, 3, 4], CHAIN, LABEL)
    noise = torch.zeros_like(state)
    guided, _ = guided_noise(guidance, noise, state, 400, 0.5)
    moved = -((1 - 0.5) ** 0.5) * (guided - noise) / 0.5**0.5
    torch.testing.assert_close(moved, 0.5 * 0.5 / 0.5**0.5 * slope(state, LABEL))
    before, after = (
        linear(x).log_softmax(1).gather(1, LABEL[:, None]) for x in (state, state + 0.1 * moved)
    )
    assert bool((after > before).all())


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize(
    ("steps", "t", "small"), [(1000, 1, 2.2), (50, 20, 63.0), (50, 980, 1.2), (50, 0, None)]
)
def test_the_mean_of_a_ddpm_step_moves_by_beta_over_root_alpha(state, steps, t, small, variance):
    """`small`: how much more that is than Algorithm 1's shift with the variance fixed_small."""
    scheduler = SubsequenceScheduler(clip_sample=False)
    set_chain(scheduler, steps=steps, spacing="uniform")
    guidance = make(**{"lambda": 3.0, "abar": scheduler.abar})
    guidance.start([0, 1, 2, 3, 4], scheduler.timesteps.tolist(), LABEL)
    noise, drawn = torch.randn(2, *state.shape, dtype=torch.float64)
    guided, _ = guided_noise(guidance, noise, state, t, scheduler.abar(t))
    plain, moved = (
        scheduler.step(
            e, t, state, eta=1.0, variance_noise=drawn, variance_type=variance
        ).prev_sample
        for e in (noise, guided)
    )
    after = scheduler.abar(scheduler.previous_timestep(t))
    alpha = scheduler.abar(t) / after
    expected = 3.0 * (1 - alpha) / alpha**0.5 * slope(state, LABEL)
    torch.testing.assert_close(moved - plain, expected, rtol=1e-6, atol=1e-12)
    if small is not None:
        beta_tilde = (1 - alpha) * (1 - after) / (1 - scheduler.abar(t))
        assert (1 - alpha) / alpha**0.5 / beta_tilde == pytest.approx(small, rel=0.02)


def test_y_is_the_label_else_the_target_else_the_index(state):
    wanted = {
        "label": (make(), LABEL, LABEL),
        "target": (make(target=1), None, torch.ones(5, dtype=torch.int64)),
        "index": (make(micro_batch=3), None, torch.tensor([1, 2, 0, 1, 2])),
    }
    for guidance, given, label in wanted.values():
        guidance.start([4, 5, 6, 7, 8], CHAIN, given)
        expected = -2.0 * 0.5**0.5 * slope(state, label)
        torch.testing.assert_close(guidance(state, 400), expected)


def test_a_time_dependent_classifier_is_told_t(state):
    def warmer(x, t):
        assert t.shape == (len(x),)
        return linear(x) * (t[:, None] / 400)

    warmer.time_dependent = True
    found = []
    for t in (400, 800):
        guidance = make(classifier=warmer, noise_factor=False)
        guidance.start([0, 1, 2, 3, 4], CHAIN, LABEL)
        found.append(guidance(state, t))
    torch.testing.assert_close(found[0], -2.0 * slope(state, LABEL))
    p = (2 * linear(state)).softmax(1)
    expected = -2.0 * 2 * (WEIGHT[LABEL] - p @ WEIGHT).view(state.shape)
    torch.testing.assert_close(found[1], expected)


def test_the_window_and_the_first_step(state):
    guidance = make(window_low=400, window_high=800)
    guidance.start([0, 1, 2, 3, 4], CHAIN)
    assert [guidance(state, t) is not None for t in CHAIN] == [True, True, False]


def test_a_gradient_that_is_not_finite_is_told(state):
    guidance = make(classifier=lambda x: linear(x) * torch.nan)
    guidance.start([7, 8, 9, 10, 11], CHAIN)
    with pytest.raises(InputError, match="image 7 is not finite at step 2 of 3, t = 400"):
        guidance(state, 400)


def test_a_class_is_drawn_more_often_under_its_guidance():
    """An exact denoiser of N(0, I) and p(y | x) by sign of the mean: plain 50%, guided all."""

    class Exact(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.place = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, t, class_labels=None):
            from types import SimpleNamespace

            return SimpleNamespace(sample=(1 - scheduler.abar(t)) ** 0.5 * x)

    scheduler = SubsequenceScheduler(clip_sample=False)
    scheduler.set_timesteps(timesteps=range(975, 0, -25))
    direction = torch.tensor([[-1.0] * 4, [1.0] * 4])
    guidance = make(classifier=lambda x: x.flatten(1) @ direction.T, abar=scheduler.abar, target=1)
    settings = {"indices": range(200), "seed": 0, "shape": (1, 2, 2)}
    plain = sample_batch(Exact(), scheduler, **settings)
    guided = sample_batch(Exact(), scheduler, **settings, guidance=guidance)
    assert 0.4 < float((plain.mean((1, 2, 3)) > 0).float().mean()) < 0.6
    assert float((guided.mean((1, 2, 3)) > 0).float().mean()) > 0.95
