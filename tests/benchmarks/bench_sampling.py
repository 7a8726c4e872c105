"""Sampling one guidance batch of 8 x 8 digits in 20 steps, plain and guided."""

import pytest
import torch

from contrastdp.diffusion.denoisers import build_denoiser
from contrastdp.diffusion.sampling import sample_batch
from contrastdp.diffusion.schedulers import SubsequenceScheduler, subsequence
from contrastdp.guidance.build import build_guidance
from contrastdp.jobs.device import device
from contrastdp.networks.build import build_network

GUIDANCES = {
    "plain": None,
    "infonce": {"tau": 0.1, "lambda": 1000.0, "head": 0},
    "hnm": {"tau": 10.0, "lambda": 50000.0, "head": 64},
}
IMAGES = 250


@pytest.mark.parametrize("loss", GUIDANCES)
def bench_sampling(loss, measure):
    torch.set_num_threads(1)
    place = device()
    denoiser = build_denoiser("small_denoiser", image_size=8, channels=1, classes=None)
    denoiser = denoiser.to(place).eval().requires_grad_(False)
    scheduler = SubsequenceScheduler(num_train_timesteps=1000, clip_sample=False)
    scheduler.set_timesteps(timesteps=subsequence(1000, 20, "quadratic"))
    guidance = None
    if GUIDANCES[loss]:
        encoder = build_network(
            "small_cnn", channels=1, classes=10, image_size=8, width=16, features=64
        ).to(place)
        encoder.eval().requires_grad_(False)
        guidance = build_guidance(encoder.features, loss=loss, seed=0, **GUIDANCES[loss])

    def sample():
        sample_batch(
            denoiser,
            scheduler,
            indices=range(IMAGES),
            seed=0,
            shape=(1, 8, 8),
            guidance=guidance,
        )

    measure(f"sampling, {loss}, {IMAGES} images on {place}", sample, IMAGES)
