"""Sampling: the loop against a written-out one, and images that do not depend on the shard."""

import gc
from types import SimpleNamespace

import pytest
import torch

from contrastdp.diffusion.denoisers import build_denoiser
from contrastdp.diffusion.sampling import (
    batches_of_shard,
    class_labels,
    predict_noise,
    sample_batch,
    sample_shard,
)
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.errors import InputError
from contrastdp.guidance.build import build_guidance
from contrastdp.networks.build import build_network
from contrastdp.networks.execution import faster
from contrastdp.streams import ImageNoise

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def denoiser():
    torch.manual_seed(0)
    model = build_denoiser("small_denoiser", image_size=8, channels=1, classes=None)
    for parameter in model.parameters():  # the last layers start at zero
        torch.nn.init.normal_(parameter, std=0.05)
    return model.eval().requires_grad_(False)


@pytest.fixture
def scheduler():
    chosen = SubsequenceScheduler(clip_sample=False)
    chosen.set_timesteps(timesteps=[700, 300, 50, 0])
    return chosen


def guidance(head):
    torch.manual_seed(1)
    encoder = build_network("small_cnn", channels=1, classes=10, image_size=8, width=4, features=8)
    return build_guidance(encoder.features, loss="hnm", seed=0, tau=1.0, head=head, lambda_=100.0)


def shard(denoiser, scheduler, start, stop, **settings):
    parts = []
    for indices, keep in batches_of_shard(start, stop, 4):
        state = sample_batch(denoiser, scheduler, indices=indices, seed=0, shape=SHAPE, **settings)
        parts.append(state[keep])
    return torch.cat(parts)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("head", [None, 0, 8])
def test_any_shard_gives_the_same_images_bit_for_bit(denoiser, scheduler, eta, head):
    guide = None if head is None else guidance(head)
    whole = shard(denoiser, scheduler, 0, 12, eta=eta, guidance=guide)
    for start, stop in [(8, 12), (0, 4), (3, 9), (5, 6)]:
        again = shard(denoiser, scheduler, start, stop, eta=eta, guidance=guide)
        assert torch.equal(again, whole[start:stop])


def test_unguided_images_do_not_depend_on_the_batch(denoiser, scheduler):
    whole = sample_batch(denoiser, scheduler, indices=range(6), seed=0, shape=SHAPE, eta=1.0)
    alone = sample_batch(denoiser, scheduler, indices=[5, 2], seed=0, shape=SHAPE, eta=1.0)
    torch.testing.assert_close(alone, whole[[5, 2]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_give_the_same_images_within_rounding(denoiser, scheduler, micro_batch):
    settings = {"indices": range(4), "seed": 0, "shape": SHAPE, "guidance": guidance(8)}
    whole = sample_batch(denoiser, scheduler, **settings)
    pieces = sample_batch(denoiser, scheduler, **settings, micro_batch=micro_batch)
    torch.testing.assert_close(pieces, whole, rtol=1e-3, atol=1e-4)


def test_algorithm_1_written_out(denoiser, scheduler):
    """e = eps_theta + lambda grad loss, then DDIM, in a plain loop with its own arithmetic."""
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    guide = guidance(0)
    guide.start([0, 1, 2, 3], [700, 300, 50, 0])
    x = ImageNoise(0, range(4), SHAPE).draw()
    for t, after in ((700, 300), (300, 50), (50, 0), (0, None)):
        e = denoiser(x, t).sample
        added = guide(x, t)
        e = e if added is None else e + added
        a = float(abar[t])
        b = 1.0 if after is None else float(abar[after])
        x0 = (x - (1 - a) ** 0.5 * e) / a**0.5
        x = b**0.5 * x0 + (1 - b) ** 0.5 * e
    got = sample_batch(
        denoiser, scheduler, indices=range(4), seed=0, shape=SHAPE, guidance=guidance(0)
    )
    torch.testing.assert_close(got, x, rtol=1e-3, atol=1e-4)
    plain = sample_batch(denoiser, scheduler, indices=range(4), seed=0, shape=SHAPE)
    assert not torch.allclose(got, plain, atol=1e-3)


def test_lambda_zero_is_the_plain_sampler(denoiser, scheduler):
    guide = guidance(8)
    guide.lambda_ = 0.0
    settings = {"indices": range(4), "seed": 0, "shape": SHAPE}
    guided = sample_batch(denoiser, scheduler, **settings, guidance=guide)
    assert torch.equal(guided, sample_batch(denoiser, scheduler, **settings))


def test_shards_hold_whole_batches():
    found = list(batches_of_shard(3, 9, 4))
    assert found == [
        ([0, 1, 2, 3], slice(3, 4)),
        ([4, 5, 6, 7], slice(0, 4)),
        ([8, 9, 10, 11], slice(0, 1)),
    ]
    with pytest.raises(InputError):
        list(batches_of_shard(5, 5, 4))


def test_samples_that_are_not_finite_stop_in_one_line(scheduler):
    class Broken(torch.nn.Linear):
        def forward(self, x, t, class_labels=None):
            return SimpleNamespace(sample=x * torch.nan)

    with pytest.raises(InputError, match="samples 0 to 1 are not finite"):
        sample_batch(Broken(1, 1), scheduler, indices=[0, 1], seed=0, shape=SHAPE)


def test_class_labels_go_round():
    assert class_labels([0, 9, 10, 23], 10).tolist() == [0, 9, 0, 3]
    assert class_labels([0], None) is None


class Zero(torch.nn.Module):
    """Predicts no noise."""

    def __init__(self):
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(num_class_embeds=None)

    def forward(self, x, t, class_labels=None):
        return SimpleNamespace(sample=torch.zeros_like(x))


def test_initial_scale_multiplies_the_starting_noise_alone(denoiser, scheduler):
    """Where no noise is predicted, a chain of one step gives x_T / sqrt(abar)."""
    scheduler.set_timesteps(timesteps=[700])
    settings = {"indices": range(3), "seed": 0, "shape": SHAPE}
    once = sample_batch(Zero(), scheduler, **settings)
    twice = sample_batch(Zero(), scheduler, **settings, initial_scale=2.0)
    torch.testing.assert_close(twice, 2 * once)
    assert float(once.abs().max()) > 0


# ---------------------------------------------------------------- noise
def test_every_image_of_every_batch_starts_from_its_own_noise(scheduler):
    """No noise is predicted, so each image is its x_T, scaled: none may repeat another's."""
    scheduler.set_timesteps(timesteps=[700])
    state, _ = sample_shard(
        Zero(), scheduler, start=0, stop=12, batch=4, seed=5, shape=SHAPE, progress=iter
    )
    distance = torch.cdist(state.flatten(1), state.flatten(1)) + 1e3 * torch.eye(12)
    assert float(distance.min()) > 1.0
    expected = ImageNoise(5, range(12), SHAPE).draw() / scheduler.abar(700) ** 0.5
    torch.testing.assert_close(state, expected)


def test_a_shard_alone_and_out_of_order_is_the_same_bit_for_bit(denoiser, scheduler):
    settings = {"batch": 4, "seed": 3, "shape": SHAPE, "eta": 1.0, "guidance": guidance(8)}
    sizes, parts = [], {}
    whole, _ = sample_shard(denoiser, scheduler, start=0, stop=12, sizes=sizes, **settings)
    for start, stop in [(8, 12), (2, 8), (0, 2)]:
        found = []
        parts[start] = sample_shard(
            denoiser, scheduler, start=start, stop=stop, sizes=found, **settings
        )[0]
        assert torch.equal(torch.cat(found), torch.cat(sizes)[start:stop])
    assert torch.equal(torch.cat([parts[start] for start in sorted(parts)]), whole)


# ---------------------------------------------------------------- guidance
def test_the_size_is_the_mean_over_guided_steps(denoiser, scheduler):
    """A guidance that adds 0.1 k times the noise to image k, at two of the four steps."""
    predicted = {}

    class Watching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = denoiser
            self.config = denoiser.config

        def forward(self, x, t, class_labels=None):
            predicted[t] = self.inner(x, t).sample
            return SimpleNamespace(sample=predicted[t])

    class Proportional:
        def start(self, indices, timesteps, label=None):
            self.share = 0.1 * torch.tensor(indices).view(-1, 1, 1, 1)

        def __call__(self, state, timestep):
            factor = {300: 1.0, 50: 3.0}.get(timestep)
            return None if factor is None else factor * self.share * predicted[timestep]

    sizes = []
    settings = {"batch": 4, "seed": 0, "shape": SHAPE, "sizes": sizes}
    sample_shard(Watching(), scheduler, start=1, stop=4, guidance=Proportional(), **settings)
    torch.testing.assert_close(torch.cat(sizes), torch.tensor([0.2, 0.4, 0.6]))
    sizes.clear()
    sample_shard(Watching(), scheduler, start=1, stop=4, **settings)
    assert torch.cat(sizes).tolist() == [0.0, 0.0, 0.0]


def test_guidance_is_added_to_the_noise_of_a_v_prediction(denoiser, scheduler):
    """The same x_0 and e, told as v, are guided to the same images."""
    spoken = SubsequenceScheduler(clip_sample=False, prediction_type="v_prediction")
    spoken.set_timesteps(timesteps=scheduler.timesteps.tolist())

    class AsVelocity(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = denoiser

        def forward(self, x, t, class_labels=None):
            return SimpleNamespace(sample=spoken.output_of(self.inner(x, t).sample, t, x))

    settings = {"indices": range(4), "seed": 0, "shape": SHAPE, "guidance": guidance(0)}
    expected = sample_batch(denoiser, scheduler, **settings)
    got = sample_batch(AsVelocity(), spoken, **settings)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


class Classes(torch.nn.Module):
    """Predicts the label times a constant image, and 0 for the label 10, which is 'no class'."""

    def __init__(self, labels=11):
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(num_class_embeds=labels)

    def forward(self, x, t, class_labels=None):
        level = torch.where(class_labels == 10, 0.0, 0.01 * class_labels).view(-1, 1, 1, 1)
        return SimpleNamespace(sample=level.expand_as(x) + 0.001)


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_classifier_free_guidance_is_the_weighted_difference(scheduler, micro_batch):
    state, label = torch.randn(5, *SHAPE), torch.tensor([0, 3, 9, 1, 2])
    got = predict_noise(Classes(), state, 300, label, micro_batch, 2.5, 10)
    expected = 0.001 + 2.5 * 0.01 * label.view(-1, 1, 1, 1).expand_as(state)
    torch.testing.assert_close(got, expected.float())
    plain = predict_noise(Classes(), state, 300, label, micro_batch)
    torch.testing.assert_close(predict_noise(Classes(), state, 300, label, None, 1.0, 10), plain)


def test_a_shard_never_samples_no_class(scheduler):
    settings = {"start": 0, "stop": 24, "batch": 12, "seed": 0, "shape": SHAPE}
    _, label = sample_shard(Classes(), scheduler, classes=10, guidance_scale=2.0, **settings)
    assert label.tolist() == [i % 10 for i in range(24)]
    _, label = sample_shard(Classes(10), scheduler, classes=10, **settings)
    assert label.tolist() == [i % 10 for i in range(24)]
    with pytest.raises(InputError, match="'no class'"):
        sample_shard(Classes(10), scheduler, classes=10, guidance_scale=2.0, **settings)


# ---------------------------------------------------------------- the least work
@pytest.mark.parametrize("head", [None, 8])
def test_what_is_alive_does_not_grow_with_the_number_of_steps(denoiser, scheduler, head):
    """Bytes of tensors alive inside the denoiser, at its worst, on a short and a long chain."""

    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.worst = denoiser, 0

        def forward(self, x, t, class_labels=None):
            gc.collect(0)
            alive = [o for o in gc.get_objects() if type(o) is torch.Tensor]
            self.worst = max(self.worst, sum(o.nbytes for o in alive))
            return self.inner(x, t)

    found = []
    gc.collect()
    gc.freeze()  # what other tests have left need not be looked at
    for steps in (5, 5, 25):
        scheduler.set_timesteps(timesteps=range(20 * steps, 0, -20))
        counting = Counting()
        guide = None if head is None else guidance(head)
        sample_batch(counting, scheduler, indices=range(8), seed=0, shape=SHAPE, guidance=guide)
        found.append(counting.worst)
    gc.unfreeze()
    one_state = 8 * 64 * 4
    assert abs(found[2] - found[1]) < one_state
    assert found[1] > one_state  # the count sees tensors at all


@pytest.mark.parametrize("guided", [False, True])
def test_bfloat16_images_stay_within_the_stated_tolerance(denoiser, scheduler, guided):
    """The mean difference is below 2% of the images' mean absolute value."""
    settings = {"indices": range(8), "seed": 0, "shape": SHAPE}
    found = [
        sample_batch(
            denoiser, scheduler, **settings, precision=p, guidance=guidance(0) if guided else None
        )
        for p in ("float32", "bfloat16")
    ]
    assert found[1].dtype == torch.float32
    span = float(found[0].abs().mean())
    assert 0 < float((found[1] - found[0]).abs().mean()) < span * 0.02
    with pytest.raises(InputError, match="precision"):
        sample_batch(denoiser, scheduler, **settings, precision="float16")


@pytest.mark.parametrize("speed", [{"channels_last": True}, {"compiled": "aot_eager"}])
def test_arranged_for_speed_the_images_stay_the_same_within_rounding(scheduler, speed):
    torch.manual_seed(0)
    sizes = {"image_size": 8, "channels": 3, "width": 8, "inner": 8, "depth": 1}
    model = build_denoiser("small_denoiser", classes=None, **sizes)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model.eval().requires_grad_(False)
    settings = {"start": 0, "stop": 4, "batch": 4, "seed": 0, "shape": (3, 8, 8)}
    plain, _ = sample_shard(model, scheduler, **settings)
    fast, _ = sample_shard(model, scheduler, **settings, **speed)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    if "channels_last" in speed:
        weight = model.enter.weight
        assert weight.is_contiguous(memory_format=torch.channels_last)
    else:
        assert isinstance(faster(model, **speed), torch._dynamo.OptimizedModule)
