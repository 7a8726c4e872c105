"""A learned variance: its range, its training and its sampling, against written-out formulas."""

import math
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from foreign_pipelines import make_unet

from contrastdp import ContrastiveGuidancePipeline
from contrastdp.diffusion.denoisers import build_denoiser, load_denoiser, save_denoiser
from contrastdp.diffusion.sampling import predict_noise, sample_batch
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.diffusion.terms import Prediction, VariationalBound, predict
from contrastdp.diffusion.training import train_denoiser
from contrastdp.errors import InputError
from contrastdp.streams import ImageNoise

SHAPE = (1, 4, 4)
BETAS = torch.linspace(1e-4, 0.02, 20, dtype=torch.float64)
ABAR = torch.cumprod(1 - BETAS, 0)
SIZES = {"width": 8, "inner": 8, "depth": 1, "embedding": 8, "groups": 4}


def small(**settings):
    """A small denoiser of random weights; the last layers start at zero."""
    torch.manual_seed(0)
    model = build_denoiser(
        "small_denoiser", image_size=4, channels=1, classes=None, **SIZES, **settings
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval().requires_grad_(False)


# ---------------------------------------------------------------- the range
def test_the_variance_lies_between_the_two_of_the_kept_steps():
    """beta and beta~ are of the chain's own abar, not of the whole chain's betas."""
    scheduler = SubsequenceScheduler(num_train_timesteps=20)
    scheduler.set_timesteps(timesteps=[15, 9, 4, 0])
    learned = torch.tensor([-1.0, 1.0, 0.0, 0.5, -2.0], dtype=torch.float64)
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 20), 0).double()
    kept = [abar[t].item() for t in (15, 9, 4, 0)] + [1.0]
    small_ones = []
    for place, t in enumerate((15, 9, 4, 0)):
        now, after = kept[place : place + 2]
        beta, tilde = 1 - now / after, (1 - now / after) * (1 - after) / (1 - now)
        small_ones.append(tilde)
        low = small_ones[-2] if t == 0 else tilde  # the last step's is 0, and has no logarithm
        for eta in (1.0, 0.5):
            found = scheduler.variance(t, eta, "learned_range", learned)
            v = [(x + 1) / 2 for x in learned.tolist()]
            expected = [eta**2 * beta**x * low ** (1 - x) for x in v]
            torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
            assert scheduler.variance(t, eta) == pytest.approx(eta**2 * tilde)
            large = low if t == 0 else beta
            assert scheduler.variance(t, eta, "fixed_large") == pytest.approx(eta**2 * large)
    with pytest.raises(InputError, match="predicts no variance"):
        scheduler.variance(9, 1.0, "learned_range")


# ---------------------------------------------------------------- training
def slow_bound(x0, noise, predicted, learned, t):
    """L_vlb's term of one pixel at t in nats, by numbers alone."""
    now = ABAR[t].item()
    before = ABAR[t - 1].item() if t else 1.0
    beta = 1 - now / before
    tilde = beta * (1 - before) / (1 - now)
    if t == 0:
        tilde = (1 - ABAR[1] / ABAR[0]).item() * (1 - ABAR[0].item()) / (1 - ABAR[1].item())
    x_t = math.sqrt(now) * x0 + math.sqrt(1 - now) * noise
    found = (x_t - math.sqrt(1 - now) * predicted) / math.sqrt(now)

    def mean(x):
        first = beta * math.sqrt(before) / (1 - now) * x
        return first + (1 - before) * math.sqrt(1 - beta) / (1 - now) * x_t

    v = (learned + 1) / 2
    variance = beta**v * tilde ** (1 - v)
    if t == 0:
        phi = [
            0.5 * (1 + math.erf((edge - mean(found)) / math.sqrt(2 * variance)))
            for edge in (x0 - 1 / 255, x0 + 1 / 255)
        ]
        low, high = 0.0 if x0 < -0.999 else phi[0], 1.0 if x0 > 0.999 else phi[1]
        return -math.log(max(high - low, 1e-12))
    q, p = (torch.distributions.Normal(m, s) for m, s in
            ((torch.tensor(mean(x0), dtype=torch.float64), tilde**0.5),
             (torch.tensor(mean(found), dtype=torch.float64), variance**0.5)))  # fmt: skip
    return torch.distributions.kl_divergence(q, p).item()


def part(t, seed=0, learned=None):
    stream = torch.Generator().manual_seed(seed)
    shape = (len(t), 1, 2, 2)
    level = torch.randint(0, 256, shape, generator=stream)
    level[0, 0, 0] = torch.tensor([0, 255])  # the ends take what lies beyond them
    x0 = level.double() / 127.5 - 1
    noise, predicted = torch.randn(2, *shape, generator=stream, dtype=torch.float64)
    predicted = noise + 0.1 * predicted
    if learned is None:
        learned = torch.rand(shape, generator=stream, dtype=torch.float64) * 3 - 1.5
    t = torch.tensor(t)
    return Prediction(predicted, noise, ABAR[t].view(-1, 1, 1, 1), x0, t, ABAR, learned)


@pytest.mark.parametrize("t", [[0, 0], [1, 2], [5, 19], [0, 7]])
def test_the_bound_against_a_slow_closed_form(t):
    given = part(t)
    pixels = [
        slow_bound(*(values[i].flatten()[k].item() for values in of_pixels), t[i])
        for of_pixels in [(given.x0, given.noise, given.predicted, given.learned)]
        for i in range(2)
        for k in range(4)
    ]
    expected = 0.25 * 20 / math.log(2) * sum(pixels) / len(pixels)
    found = VariationalBound(weight=0.25)(given)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_its_gradient_reaches_the_variance_alone():
    given = part([3, 11])
    given.predicted.requires_grad_()
    given.learned.requires_grad_()
    VariationalBound()(given).backward()
    assert given.predicted.grad is None
    assert bool((given.learned.grad != 0).all())


def test_the_best_variance_is_that_of_the_error():
    """At a perfect mean the bound is least, and 0, where the learned variance is beta~."""
    given = part([4, 9], learned=torch.full((2, 1, 2, 2), -1.0, dtype=torch.float64))
    perfect = Prediction(given.noise, *list(vars(given).values())[1:])
    assert VariationalBound()(perfect).item() == pytest.approx(0, abs=1e-12)
    away = Prediction(given.noise, *list(vars(given).values())[1:-1], given.learned + 0.5)
    assert VariationalBound()(away).item() > 1e-6


def train(model, **changes):
    image = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(3))
    settings = {"abar": ABAR.float(), "steps": 3, "batch": 6, "learning_rate": 1e-2, "warmup": 0}
    settings |= {"clip_norm": 1e9, "averaging": 0.0, "shift": 0, "weight_decay": 0.0}
    settings |= {"generator": torch.Generator().manual_seed(0)}
    return list(train_denoiser(model.requires_grad_(True), image, None, **settings | changes))


BOUND = {"terms": {"variational_bound": {}}}


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_training_moves_both_heads_alike_in_micro_batches(micro_batch):
    schedule = {"num_train_timesteps": 20, "beta_start": 1e-4, "beta_end": 0.02}
    model = small(learned_variance=True, schedule=schedule)
    before = model.leave.weight.clone()
    rows = train(model, micro_batch=micro_batch, **BOUND)
    assert all(math.isfinite(row["loss"]) for row in rows)
    assert bool((model.leave.weight != before).flatten(1).any(1).all())
    whole = small(learned_variance=True, schedule=schedule)
    train(whole, **BOUND)
    torch.testing.assert_close(model.leave.weight, whole.leave.weight, rtol=1e-4, atol=1e-6)


def test_term_and_denoiser_need_each_other():
    with pytest.raises(InputError, match="no term of its loss trains"):
        train(small(learned_variance=True))
    with pytest.raises(InputError, match="variational_bound needs a denoiser that learns"):
        train(small(), **BOUND)
    with pytest.raises(InputError, match="weight is -1"):
        VariationalBound(weight=-1)


def test_a_prediction_is_parted():
    model, t = small(learned_variance=True), torch.tensor([1, 5])
    x0, noise = torch.randn(2, 2, *SHAPE)
    found = predict(model, x0, noise, t, ABAR.float(), {})
    assert found.predicted.shape == found.learned.shape == x0.shape
    plain = small()
    assert predict(plain, x0, noise, t, ABAR.float(), {}).learned is None


# ---------------------------------------------------------------- denoisers
@pytest.mark.parametrize("patch", [1, 2])
def test_the_variance_is_net_alone_and_the_noise_as_without_it(patch):
    double, single = small(learned_variance=True, patch=patch), small(patch=patch)
    state = {k: v for k, v in double.state_dict().items() if not k.startswith("leave")}
    channels = patch**2
    state |= {f"leave.{k}": getattr(double.leave, k)[:channels] for k in ("weight", "bias")}
    single.load_state_dict(state)
    x = torch.randn(3, *SHAPE)
    found = double(x, 7).sample
    assert found.shape == (3, 2, 4, 4)
    torch.testing.assert_close(found[:, :1], single(x, 7).sample)


@pytest.mark.parametrize("architecture", ["small_denoiser", "unet2d"])
def test_it_is_kept_with_the_model(tmp_path, architecture):
    sizes = SIZES if architecture == "small_denoiser" else {
        "block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4,
        "down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2,
    }  # fmt: skip
    model = build_denoiser(
        architecture, image_size=8, channels=1, classes=None, learned_variance=True, **sizes
    )
    save_denoiser(tmp_path / "model", model, SubsequenceScheduler())
    again, _ = load_denoiser(tmp_path / "model")
    x = torch.randn(2, 1, 8, 8)
    assert again(x, 5).sample.shape == (2, 2, 8, 8)
    torch.testing.assert_close(again(x, 5).sample, model.eval()(x, 5).sample)


# ---------------------------------------------------------------- sampling
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("micro_batch", [None, 2])
def test_sampling_against_a_slow_loop(clip, micro_batch):
    """p_sample of Nichol & Dhariwal's code on the betas of the kept steps."""
    model = small(learned_variance=True).double()
    scheduler = SubsequenceScheduler(clip_sample=clip)
    scheduler.set_timesteps(timesteps=[900, 500, 100, 0])
    found = sample_batch(
        model,
        scheduler,
        indices=range(3),
        seed=4,
        shape=SHAPE,
        eta=1.0,
        variance_type="learned_range",
        micro_batch=micro_batch,
        streams=Doubled(4, range(3)),
    )
    kept = [scheduler.alphas_cumprod[t].double() for t in (900, 500, 100, 0)] + [1.0]
    streams = Doubled(4, range(3))
    x = streams.draw("cpu")
    for place, t in enumerate((900, 500, 100, 0)):
        now, after = kept[place], kept[place + 1]
        noise, values = model(x, t).sample.split(1, dim=1)
        clean = (x - (1 - now).sqrt() * noise) / now.sqrt()
        clean = clean.clamp(-1, 1) if clip else clean
        alpha = now / after
        beta = 1 - alpha
        mean = beta * after**0.5 / (1 - now) * clean
        mean = mean + (1 - after) * alpha.sqrt() / (1 - now) * x
        tilde = beta * (1 - after) / (1 - now)
        v = (values + 1) / 2
        drawn = streams.draw("cpu")
        x = mean
        if t > 0:
            x = mean + (0.5 * (v * beta.log() + (1 - v) * tilde.log())).exp() * drawn
    torch.testing.assert_close(found, x, rtol=1e-6, atol=1e-9)


class Doubled(ImageNoise):
    """The noise of the streams (seed, i) in float64."""

    def __init__(self, seed, indices):
        super().__init__(seed, indices, SHAPE)

    def draw(self, device):
        return super().draw(device).double()


def chain(**settings):
    scheduler = SubsequenceScheduler(clip_sample=False)
    scheduler.set_timesteps(timesteps=[500, 0])
    return {"scheduler": scheduler, "indices": [0, 1], "seed": 0, "shape": SHAPE, **settings}


@pytest.mark.parametrize(
    ("learns", "settings", "words"),
    [
        (True, {"eta": 1.0}, "2 channels of 1 and variance_type is 'fixed_small'"),
        (True, {"eta": 0.5, "variance_type": "fixed_large"}, "is 'fixed_large'"),
        (False, {"eta": 1.0, "variance_type": "learned_range"}, "1 channels of 1"),
    ],
)
def test_a_learned_variance_and_its_range_need_each_other(learns, settings, words):
    with pytest.raises(InputError, match=words) as caught:
        sample_batch(small(learned_variance=learns), **chain(**settings))
    assert "\n" not in str(caught.value)


def test_another_number_of_channels_is_refused():
    class Triple(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.place = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, t):
            return SimpleNamespace(sample=x.repeat(1, 3, 1, 1))

    for eta in (0.0, 1.0):
        with pytest.raises(InputError, match="predicts 3 channels of 1"):
            sample_batch(Triple(), **chain(eta=eta))


def test_without_noise_the_variance_is_left_out():
    double, single = small(learned_variance=True), small()
    state = {k: v for k, v in double.state_dict().items() if not k.startswith("leave")}
    state |= {f"leave.{k}": getattr(double.leave, k)[:1] for k in ("weight", "bias")}
    single.load_state_dict(state)
    torch.testing.assert_close(sample_batch(double, **chain()), sample_batch(single, **chain()))


def test_classifier_free_guidance_leaves_the_variance_that_of_the_condition():
    def denoiser(x, t, told=None):
        return SimpleNamespace(sample=torch.cat([x * told, x + told], dim=1))

    x, told, null = torch.randn(2, *SHAPE), torch.full((2, 1, 1, 1), 3.0), torch.ones(2, 1, 1, 1)
    found = predict_noise(denoiser, x, 5, {"told": told}, None, 2.0, {"told": null})
    torch.testing.assert_close(found[:, :1], x + 2 * (3 * x - x))
    torch.testing.assert_close(found[:, 1:], x + 3)


# ---------------------------------------------------------------- the pipeline
def test_the_pipeline_samples_as_diffusers_ddpm():
    """On the whole chain, where diffusers' upper end, the betas of all steps, is right."""
    unet = make_unet(out_channels=2)
    scheduler = DDPMScheduler(num_train_timesteps=6, variance_type="learned_range")
    options = {"batch_size": 2, "num_inference_steps": 6}
    for pipeline in (
        ours := ContrastiveGuidancePipeline(unet, scheduler),
        theirs := DDPMPipeline(unet, scheduler),
    ):
        pipeline.set_progress_bar_config(disable=True)
    expected = theirs(generator=torch.Generator().manual_seed(1), output_type="np", **options)
    found = ours(
        generator=torch.Generator().manual_seed(1),
        output_type="np",
        eta=1.0,
        use_clipped_model_output=True,
        **options,
    )
    torch.testing.assert_close(
        torch.from_numpy(found.images), torch.from_numpy(expected.images), atol=1e-5, rtol=0
    )
