"""Sampling: the loop against a written-out one, and images that do not depend on the shard."""

from types import SimpleNamespace

import pytest
import torch

from contrastdp.denoisers import build_denoiser
from contrastdp.guidance import build_guidance
from contrastdp.networks import build_network
from contrastdp.noise import ImageNoise
from contrastdp.records import InputError
from contrastdp.sampling import batches_of_shard, class_labels, sample_batch
from contrastdp.schedulers import SubsequenceScheduler

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


def test_initial_scale_multiplies_the_starting_noise_alone(denoiser, scheduler):
    """Where no noise is predicted, a chain of one step gives x_T / sqrt(abar)."""

    class Zero(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.place = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, t, class_labels=None):
            return SimpleNamespace(sample=torch.zeros_like(x))

    scheduler.set_timesteps(timesteps=[700])
    settings = {"indices": range(3), "seed": 0, "shape": SHAPE}
    once = sample_batch(Zero(), scheduler, **settings)
    twice = sample_batch(Zero(), scheduler, **settings, initial_scale=2.0)
    torch.testing.assert_close(twice, 2 * once)
    assert float(once.abs().max()) > 0
