"""Subsequences and reverse steps against written-out formulas and diffusers' own DDPM."""

import math
from fractions import Fraction

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from contrastdp.diffusion.schedulers import SubsequenceScheduler, set_chain, subsequence
from contrastdp.errors import InputError


def scheduler(**settings):
    return SubsequenceScheduler(clip_sample=False, **settings)


def abars():
    """abar_t of the linear schedule, in double precision, by a plain product."""
    betas = [1e-4 + (0.02 - 1e-4) * t / 999 for t in range(1000)]
    product, found = 1.0, []
    for beta in betas:
        product *= 1 - beta
        found.append(product)
    return found


@pytest.mark.parametrize("steps", [1, 7, 13, 50, 250, 1000])
def test_uniform_is_every_nth_timestep(steps):
    assert subsequence(1000, steps, "uniform") == list(range(0, 1000, 1000 // steps))[::-1]


@pytest.mark.parametrize("steps", [7, 13, 50, 200])
def test_quadratic_is_the_squared_grid(steps):
    grid = {int((k / (steps - 1)) ** 2 * 800 + 1e-9) for k in range(steps)}
    assert subsequence(1000, steps, "quadratic") == sorted(grid, reverse=True)


def test_quadratic_at_200_steps_has_13_duplicates_and_58_or_59_late_steps():
    chain = subsequence(1000, 200, "quadratic")
    assert len(chain) == 200 - 13
    assert chain[0] == 800
    assert sum(t >= 400 for t in chain) == 59


@pytest.mark.parametrize("steps", [1, 2, 7, 250, 1000])
def test_even_is_the_line_from_0_to_the_last_timestep(steps):
    line = {int(k / max(steps - 1, 1) * 999 + 1e-9) for k in range(steps)}
    assert subsequence(1000, steps, "even") == sorted(line, reverse=True)


@pytest.mark.parametrize("total", [10, 97, 1000])
def test_respaced_is_improved_diffusions_line_rounded(total):
    """space_timesteps of one section, in exact numbers: round to the nearest, halves to even."""
    for steps in range(1, total + 1):
        stride = Fraction(total - 1, steps - 1) if steps > 1 else Fraction(1)
        taken, place = [], Fraction(0)
        for _ in range(steps):
            below = place.numerator // place.denominator
            over = place - below
            up = over > Fraction(1, 2) or (over == Fraction(1, 2) and below % 2 == 1)
            taken.append(below + up)
            place += stride
        assert subsequence(total, steps, "respaced") == taken[::-1]
        assert len(set(taken)) == steps


def test_respaced_at_250_of_1000():
    """The chain of the robust-classifier paper, and the floats of improved-diffusion's code."""
    taken, place = [], 0.0
    for _ in range(250):
        taken.append(round(place))
        place += 999 / 249
    chain = subsequence(1000, 250, "respaced")
    assert chain == taken[::-1]
    assert (len(chain), chain[0], chain[-1], chain[-2], chain[1]) == (250, 999, 0, 4, 995)
    assert chain != subsequence(1000, 250, "even")


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_the_slope_is_that_of_the_mean_in_the_noise(eta):
    scheduler = SubsequenceScheduler(clip_sample=False)
    scheduler.set_timesteps(timesteps=[800, 300, 20, 0])
    x, e = torch.randn(2, 3, 4, dtype=torch.float64)
    for t in (800, 300, 20, 0):
        options = {"eta": eta, "variance_noise": torch.zeros_like(x)}
        moved = scheduler.step(e + 1e-3, t, x, **options).prev_sample
        slope = (moved - scheduler.step(e, t, x, **options).prev_sample) / 1e-3
        torch.testing.assert_close(slope, torch.full_like(x, scheduler.slope(t, eta)))


@pytest.mark.parametrize("spacing", ["uniform", "quadratic", "even"])
@pytest.mark.parametrize("steps", [7, 13, 50, 250, 1000])
def test_the_previous_timestep_is_the_next_of_the_chain(spacing, steps):
    chosen = scheduler()
    chain = subsequence(1000, steps, spacing)
    chosen.set_timesteps(timesteps=chain)
    assert [chosen.previous_timestep(t) for t in chain] == [*chain[1:], -1]


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [7, 13, 50, 250, 1000])
def test_diffusers_spacings_are_exact_too(spacing, steps):
    chosen = scheduler(timestep_spacing=spacing)
    chosen.set_timesteps(steps)
    chain = chosen.timesteps.tolist()
    assert [chosen.previous_timestep(t) for t in chain] == [*chain[1:], -1]


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_step_is_equation_4(eta):
    torch.manual_seed(0)
    x, e, z = torch.randn(3, 2, 1, 4, 4, dtype=torch.float64)
    abar, chosen = abars(), scheduler()
    chosen.set_timesteps(timesteps=[800, 433, 17])
    for t, before in ((800, abar[433]), (433, abar[17]), (17, 1.0)):
        a = abar[t]
        c1 = eta * ((1 - a / before) * (1 - before) / (1 - a)) ** 0.5
        x0 = (x - (1 - a) ** 0.5 * e) / a**0.5
        expected = before**0.5 * x0 + (1 - before - c1**2) ** 0.5 * e + c1 * z
        got = chosen.step(e, t, x, eta, variance_noise=z)
        torch.testing.assert_close(got.prev_sample, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(got.pred_original_sample, x0, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("clip", [False, True])
def test_eta_one_is_ddpm_on_any_chain(clip, variance_type):
    """The oracle is diffusers' DDPMScheduler with custom timesteps, drawing the same noise."""
    torch.manual_seed(0)
    chain = subsequence(1000, 13, "quadratic")
    ours = SubsequenceScheduler(clip_sample=clip)
    theirs = DDPMScheduler(clip_sample=clip, variance_type=variance_type)
    ours.set_timesteps(timesteps=chain)
    theirs.set_timesteps(timesteps=chain)
    for t in chain:
        x, e = torch.randn(2, 2, 1, 4, 4)
        expected = theirs.step(e, t, x, generator=torch.Generator().manual_seed(t)).prev_sample
        z = torch.randn(x.shape, generator=torch.Generator().manual_seed(t))
        got = ours.step(e, t, x, eta=1.0, variance_noise=z, variance_type=variance_type).prev_sample
        torch.testing.assert_close(got, expected, rtol=2e-4, atol=2e-4)


def test_ddpm_of_mnist_and_gtsrb():
    """The official sampler for them, written out: cosine abar, an even chain with betas made anew
    from its abar, x_0 clamped to [-1, 1], the posterior's mean and its variance beta tilde."""

    def curve(t):
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    full, product = [], 1.0
    for t in range(1000):
        product *= 1 - min(1 - curve(t + 1) / curve(t), 0.999)
        full.append(product)
    chain = [int(k * 999 / 249 + 1e-9) for k in range(250)]
    chosen = SubsequenceScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=True)
    settings = {"steps": 250, "spacing": "even", "eta": 1.0, "variance_type": "fixed_small"}
    rest = set_chain(chosen, **settings)
    assert chosen.timesteps.tolist() == chain[::-1]
    assert min(x for x in chosen.alphas_cumprod.tolist()) == pytest.approx(min(full), rel=1e-3)

    stream = torch.Generator().manual_seed(0)
    clamped = 0
    for k in (249, 248, 200, 100, 30, 1, 0):
        now, before = full[chain[k]], full[chain[k - 1]] if k else 1.0
        beta, alpha = 1 - now / before, now / before
        x, e, z = (torch.randn(3, 2, 1, 4, 4, generator=stream, dtype=torch.float64)).unbind()
        x0 = (1 / now) ** 0.5 * x - (1 / now - 1) ** 0.5 * e
        clamped += int((x0.abs() > 1).any() and (x0.abs() < 1).any())
        x0 = x0.clamp(-1, 1)
        mean = beta * before**0.5 / (1 - now) * x0 + (1 - before) * alpha**0.5 / (1 - now) * x
        variance = beta * (1 - before) / (1 - now)
        expected = mean + variance**0.5 * z if k else mean
        got = chosen.step(e, chain[k], x, variance_noise=z, **rest).prev_sample
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert clamped >= 4


def test_ddpm_step_of_the_paper():
    """x' = (x - (1 - alpha) / sqrt(1 - abar) e) / sqrt(alpha) + sigma z, section 2.2."""
    torch.manual_seed(1)
    x, e, z = torch.randn(3, 1, 1, 4, 4, dtype=torch.float64)
    abar, chosen = abars(), scheduler()
    chosen.set_timesteps(timesteps=list(range(999, -1, -1)))
    t = 500
    alpha = abar[t] / abar[t - 1]
    sigma = ((1 - abar[t - 1]) / (1 - abar[t]) * (1 - alpha)) ** 0.5
    expected = (x - (1 - alpha) / (1 - abar[t]) ** 0.5 * e) / alpha**0.5 + sigma * z
    got = chosen.step(e, t, x, eta=1.0, variance_noise=z).prev_sample
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_agrees_with_diffusers_where_diffusers_is_exact():
    ours, theirs = scheduler(), DDIMScheduler(clip_sample=False)
    ours.set_timesteps(50)
    theirs.set_timesteps(50)
    torch.manual_seed(0)
    for t in theirs.timesteps[:-1]:
        x, e = torch.randn(2, 1, 1, 4, 4)
        expected = theirs.step(e, t, x).prev_sample
        torch.testing.assert_close(ours.step(e, t, x).prev_sample, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_an_oracle_noise_predictor_recovers_x0(spacing, eta):
    torch.manual_seed(0)
    x0 = torch.rand(2, 1, 4, 4) * 2 - 1
    chosen = scheduler()
    chosen.set_timesteps(timesteps=subsequence(1000, 20, spacing))
    state = torch.randn(2, 1, 4, 4)
    for t in chosen.timesteps.tolist():
        a = chosen.abar(t)
        oracle = (state - a**0.5 * x0) / (1 - a) ** 0.5
        state = chosen.step(
            oracle, t, state, eta, variance_noise=torch.randn(state.shape)
        ).prev_sample
    torch.testing.assert_close(state, x0, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_noise_of_every_prediction_type(kind):
    """Each type predicts one x_0 and e; their v is sqrt(abar) e - sqrt(1 - abar) x_0."""
    torch.manual_seed(0)
    x0, e = torch.randn(2, 2, 1, 4, 4, dtype=torch.float64)
    chosen, a = scheduler(prediction_type=kind), abars()[300]
    chosen.set_timesteps(timesteps=[300, 10])
    x = a**0.5 * x0 + (1 - a) ** 0.5 * e
    v = a**0.5 * e - (1 - a) ** 0.5 * x0
    output = {"epsilon": e, "v_prediction": v, "sample": x0}[kind]
    torch.testing.assert_close(chosen.noise_of(output, 300, x), e, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(chosen.output_of(e, 300, x), output, rtol=1e-5, atol=1e-5)
    stepped = chosen.step(output, 300, x).prev_sample
    b = abars()[10]
    torch.testing.assert_close(stepped, b**0.5 * x0 + (1 - b) ** 0.5 * e, rtol=1e-5, atol=1e-5)


def test_a_samplers_chain_is_set_from_its_settings():
    chosen = scheduler()
    assert set_chain(chosen, steps=7, spacing="quadratic", eta=0.5) == {"eta": 0.5}
    assert chosen.timesteps.tolist() == subsequence(1000, 7, "quadratic")
    assert set_chain(chosen, steps=7, spacing="quadratic", timesteps=[900, 3]) == {}
    assert chosen.timesteps.tolist() == [900, 3]


@pytest.mark.parametrize("own", [False, True])
def test_a_sampler_clips_as_it_says_else_as_the_noise_schedule_does(own):
    for given, expected in ((None, own), (False, False), (True, True)):
        chosen = SubsequenceScheduler(clip_sample=own)
        set_chain(chosen, steps=7, spacing="respaced", clip_sample=given)
        x = torch.full((1, 1), 50.0)
        clean = chosen.step(torch.zeros_like(x), 0, x).pred_original_sample
        assert bool(clean.abs().max() <= 1) == expected


def test_saves_and_loads_as_diffusers_does(tmp_path):
    scheduler(beta_end=0.01).save_pretrained(tmp_path)
    again = SubsequenceScheduler.from_pretrained(tmp_path)
    assert again.config.beta_end == 0.01
    assert again.config.clip_sample is False


def _step(**settings):
    chosen = scheduler()
    chosen.set_timesteps(timesteps=[10])
    chosen.step(torch.zeros(1), 10, torch.zeros(1), **settings)


@pytest.mark.parametrize(
    "call",
    [
        lambda: subsequence(1000, 0, "uniform"),
        lambda: subsequence(1000, 1001, "uniform"),
        lambda: subsequence(1000, 10, "quad"),
        lambda: scheduler().set_timesteps(timesteps=[10, 10]),
        lambda: scheduler().set_timesteps(timesteps=[1000, 10]),
        lambda: scheduler().set_timesteps(timesteps=[]),
        lambda: _step(variance_type="learned"),
    ],
)
def test_bad_input_is_told_in_one_line(call):
    with pytest.raises(InputError) as error:
        call()
    assert "\n" not in str(error.value)
