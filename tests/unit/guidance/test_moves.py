"""What a classifier's guidance moves, the noise or the step's mean, on a Gaussian in closed form.

Two classes N(m_y, s^2 I): p(y | x_t) at every t is known, and its gradient is taken by finite
differences. The chains are written out after Dhariwal & Nichol (2021), Algorithms 1 and 2.
"""

import pytest
import torch
from diffusers import DDPMScheduler
from foreign_pipelines import make_unet
from gaussian_posterior import (
    CHAIN,
    MEANS,
    SHAPE,
    SPREAD,
    VARIANCES,
    Denoiser,
    Posterior,
    abar,
    make,
    on_chain,
    sampled,
    streams,
)

from contrastdp import ContrastiveGuidancePipeline
from contrastdp.diffusion.sampling import batches_of_shard
from contrastdp.errors import InputError
from contrastdp.guidance.build import build_guidance
from contrastdp.guidance.classifier import ClassifierGuidance
from contrastdp.guidance.protocol import StepMean, guided_noise


@pytest.fixture
def scheduler():
    return on_chain(clip_sample=False)


def log_p(x, t, y):
    """log p(y | x_t = x), x and the means lists of numbers."""
    densities = []
    for mean in MEANS.tolist():
        law = torch.distributions.Normal(
            abar(t) ** 0.5 * torch.tensor(mean, dtype=torch.float64),
            (abar(t) * SPREAD**2 + 1 - abar(t)) ** 0.5,
        )
        densities.append(law.log_prob(torch.tensor(x, dtype=torch.float64)).sum())
    return float(densities[y] - torch.stack(densities).logsumexp(0))


def slope(x, t, label, h=1e-5):
    """grad log p(y | x_t) by central differences."""
    found = torch.zeros_like(x)
    for i, image in enumerate(x.flatten(1).tolist()):
        for k in range(len(image)):
            up, down = list(image), list(image)
            up[k], down[k] = up[k] + h, down[k] - h
            rise = log_p(up, t, int(label[i])) - log_p(down, t, int(label[i]))
            found[i].view(-1)[k] = rise / (2 * h)
    return found


# ---------------------------------------------------------------- slow chains
def slow_ddpm(denoiser, draw, label, s, variance, *, clip_x0=None, window=(0, 1000), clip=None):
    """x_0 and the sizes: mu from the clamped x_0, then s Sigma grad log p, then the noise."""
    x, sizes, tilde_before = draw(), [], None
    for t, after_t in zip(CHAIN, [*CHAIN[1:], -1], strict=True):
        now, after = abar(t), abar(after_t)
        beta = 1 - now / after
        tilde = beta * (1 - after) / (1 - now)
        output = denoiser(x, t).sample
        e = output[:, :1]
        clean = (x - (1 - now) ** 0.5 * e) / now**0.5
        if clip_x0:
            clean = clean.clamp(-clip_x0, clip_x0)
        mean = after**0.5 * beta / (1 - now) * clean
        mean = mean + (1 - beta) ** 0.5 * (1 - after) / (1 - now) * x
        low = tilde_before if after == 1 else tilde
        if variance == "learned_range":
            v = (output[:, 1:] + 1) / 2
            sigma = beta**v * low ** (1 - v)
        elif variance == "fixed_large":
            sigma = torch.as_tensor(low if after == 1 else beta)
        else:
            sigma = torch.as_tensor(tilde)
        tilde_before = tilde
        if window[0] <= t <= window[1]:
            shift = s * sigma * slope(x, t, label)
            # the unclipped mean is (x - beta / sqrt(1 - abar) e) / sqrt(alpha)
            per_noise = beta / (1 - now) ** 0.5 / (1 - beta) ** 0.5
            size = shift.flatten(1).norm(dim=1) / per_noise / e.flatten(1).norm(dim=1)
            if clip is not None:
                cut = (clip / size).nan_to_num(1.0, posinf=1.0).clamp(max=1)
                shift, size = shift * cut.view(-1, 1, 1, 1), size * cut
            mean = mean + shift
            sizes.append(size)
        z = draw()
        x = mean + sigma**0.5 * z if after < 1 else mean
    return x, torch.stack(sizes).mean(0)


def slow_ddim(denoiser, draw, label, s):
    x = draw()
    for t, after_t in zip(CHAIN, [*CHAIN[1:], -1], strict=True):
        now, after = abar(t), abar(after_t)
        e = denoiser(x, t).sample - (1 - now) ** 0.5 * s * slope(x, t, label)
        clean = (x - (1 - now) ** 0.5 * e) / now**0.5
        x = after**0.5 * clean + (1 - after) ** 0.5 * e
    return x


LABEL = torch.tensor([0, 1, 0])  # index mod classes


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize(
    "options", [{}, {"clip_x0": 0.8}, {"window": (40, 600)}, {"clip": 0.2, "clip_x0": 0.8}], ids=str
)
def test_the_mean_moves_by_the_variance_times_the_gradient(variance, options):
    """The shift comes after x_0 is clamped, at the last step as well where it has a variance."""
    bound, window = options.get("clip_x0"), options.get("window", (0, 1000))
    clipping = {"clip_sample": bool(bound), "clip_sample_range": bound or 1.0}
    guidance = make(
        moves="mean", window_low=window[0], window_high=window[1], clip=options.get("clip")
    )
    sizes = []
    found = sampled(guidance, on_chain(**clipping), variance=variance, sizes=sizes)
    draw, learns = streams(range(3)), variance == "learned_range"
    expected, size = slow_ddpm(
        Denoiser(learns), lambda: draw.draw("cpu"), LABEL, 4.0, variance, **options
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(sizes[0], size.float(), rtol=1e-4, atol=1e-6)
    plain = sampled(None, on_chain(**clipping), variance=variance)
    assert (found - plain).abs().max() > 1e-3


def test_the_noise_moves_as_in_ddim(scheduler):
    found = sampled(make(), scheduler, eta=0.0)
    draw = streams(range(3))
    expected = slow_ddim(Denoiser(), lambda: draw.draw("cpu"), LABEL, 4.0)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("moves", "eta"), [("noise", 0.0), ("noise", 1.0), ("mean", 1.0)])
@pytest.mark.parametrize("clip_sample", [False, True])
def test_scale_0_is_plain_sampling_bit_for_bit(moves, eta, clip_sample):
    """Of a model of v as well where the mean moves, since its output is left as it is."""
    chain = on_chain(clip_sample=clip_sample)
    for variance in VARIANCES if eta else VARIANCES[:2]:
        plain = sampled(None, chain, variance=variance, eta=eta)
        guidance = make(moves=moves, **{"lambda": 0.0})
        assert torch.equal(sampled(guidance, chain, variance=variance, eta=eta), plain)
    if moves == "mean":
        chain = on_chain(clip_sample=clip_sample, prediction_type="v_prediction")
        assert torch.equal(
            sampled(guidance, chain, variance=variance), sampled(None, chain, variance=variance)
        )


@pytest.mark.parametrize("at", ["state", "clean"])
def test_where_the_gradient_is_taken(scheduler, at):
    """On the predicted x_0 the slope in x_t is 1 / sqrt(abar_t), as where the noise moves."""

    def linear(x):
        return x.flatten(1) @ MEANS.T

    moved, t = {}, 250
    state, noise = torch.randn(2, 3, *SHAPE, dtype=torch.float64)
    for moves in ("noise", "mean"):
        guidance = make(classifier=linear, encoder_input="raw", moves=moves, at=at)
        guidance.start([0, 1, 2], CHAIN)
        mean = StepMean(-0.5)
        e, size = guided_noise(guidance, noise, state, t, abar(t), mean=mean)
        moved[moves] = e - noise if moves == "noise" else mean.moved
        torch.testing.assert_close(
            size, moved[moves].flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
        )
        if moves == "mean":
            assert torch.equal(e, noise)
    # one is -s sqrt(1 - abar) g, the other s unit g
    torch.testing.assert_close(moved["noise"] / (1 - abar(t)) ** 0.5, moved["mean"] / 0.5)


def test_a_random_direction_keeps_the_norm_of_the_shift():
    """Of Sigma times the gradient, where the variance differs from pixel to pixel, too."""
    unit = -torch.rand(3, *SHAPE, dtype=torch.float64)
    state = torch.randn(3, *SHAPE, dtype=torch.float64)
    found = {}
    for direction in ("gradient", "random"):
        guidance = make(moves="mean", direction=direction)
        guidance.start([0, 1, 2], CHAIN)
        found[direction] = [guidance(state, t, unit) for t in CHAIN[:2]]
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one.flatten(1).norm(dim=1), other.flatten(1).norm(dim=1))
        assert not torch.allclose(one, other)
    unit_vectors = [x.flatten(1) / x.flatten(1).norm(dim=1, keepdim=True) for x in found["random"]]
    torch.testing.assert_close(*unit_vectors)


def test_micro_batches_and_shards(scheduler):
    guidance = make(moves="mean")
    whole = sampled(guidance, scheduler, indices=range(4), variance="learned_range")
    pieces = make(moves="mean", micro_batch=3)
    found = sampled(pieces, scheduler, indices=range(4), variance="learned_range", micro_batch=3)
    torch.testing.assert_close(found, whole)
    every = {}
    for start, stop in ((0, 8), (2, 6), (5, 8)):
        parts = [
            sampled(guidance, scheduler, indices=indices)[keep]
            for indices, keep in batches_of_shard(start, stop, 4)
        ]
        every[start, stop] = torch.cat(parts)
    for (start, stop), images in every.items():
        assert torch.equal(images, every[0, 8][start:stop])


# ---------------------------------------------------------------- the pipeline
@pytest.mark.parametrize("clipped", [False, True])
def test_the_pipeline_moves_the_mean(clipped):
    unet = make_unet()
    weight = torch.randn(2, 64, dtype=torch.float64)

    def linear(x):
        return x.flatten(1) @ weight.T

    def gradient(x):
        p = linear(x).softmax(1)
        return (weight[torch.arange(2)] - p @ weight).view(x.shape)

    scheduler = DDPMScheduler(clip_sample=clipped)
    pipeline = ContrastiveGuidancePipeline(unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    guidance = ClassifierGuidance(linear, 20.0, abar, encoder_input="raw", moves="mean")
    found = pipeline(
        batch_size=2,
        generator=torch.Generator().manual_seed(0),
        eta=1.0,
        use_clipped_model_output=True,
        timesteps=CHAIN,
        guidance=guidance,
        output_type="pt",
    ).images
    stream = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(2, 1, 8, 8, generator=stream, dtype=torch.float64)

    x = draw()
    for t, after_t in zip(CHAIN, [*CHAIN[1:], -1], strict=True):
        now, after = abar(t), abar(after_t)
        beta = 1 - now / after
        with torch.no_grad():
            e = unet(x, t).sample
        clean = (x - (1 - now) ** 0.5 * e) / now**0.5
        clean = clean.clamp(-1, 1) if clipped else clean
        mean = after**0.5 * beta / (1 - now) * clean
        mean = mean + (1 - beta) ** 0.5 * (1 - after) / (1 - now) * x
        sigma = beta * (1 - after) / (1 - now)
        x = mean + 20.0 * sigma * gradient(x) + sigma**0.5 * draw()
    torch.testing.assert_close(found, (x / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)


# ---------------------------------------------------------------- what is refused
def test_without_a_variance_there_is_nothing_to_move_by(scheduler):
    with pytest.raises(InputError, match="which is 0 with eta 0; use eta above 0"):
        sampled(make(moves="mean"), scheduler, eta=0.0)
    guidance = make(moves="mean")
    guidance.start([0, 1, 2], CHAIN)
    state = torch.randn(3, *SHAPE, dtype=torch.float64)
    with pytest.raises(InputError, match="none is given"):
        guided_noise(guidance, state, state, 250, abar(250))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"moves": "both"}, "moves is 'both'; choose noise or mean"),
        ({"moves": "mean", "noise_factor": False}, "noise_factor is of moves 'noise'"),
        ({"encoder_input": "unit"}, "sees x_t as it is, so choose raw and state"),
        ({"at": "clean"}, "sees x_t as it is, so choose raw and state"),
    ],
)
def test_settings_that_do_not_go_together(settings, words):
    with pytest.raises(InputError, match=words) as caught:
        make(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("role", ["features", "labeler"])
def test_contrastive_guidance_has_no_use_for_a_classifier_of_t(role):
    given = {"features": lambda x: x.flatten(1), "labeler": None} | {role: Posterior()}
    features = given.pop("features")
    with pytest.raises(InputError, match="is a time-dependent classifier"):
        build_guidance(features, loss="infonce", tau=0.1, lambda_=1.0, **given)
