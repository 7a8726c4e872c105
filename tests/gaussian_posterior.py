"""Two Gaussians whose posterior at every t is known, as a time-dependent classifier; chains."""

from types import SimpleNamespace

import torch

from contrastdp.diffusion.sampling import sample_batch
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.guidance.build import build_guidance
from contrastdp.streams import ImageNoise

SHAPE = (1, 2, 2)
CHAIN = [900, 600, 250, 40, 0]
MEANS = torch.tensor([[0.5, -0.2, 0.1, 0.4], [-0.6, 0.3, 0.2, -0.1]], dtype=torch.float64)
SPREAD = 0.3
VARIANCES = ("fixed_small", "fixed_large", "learned_range")


def on_chain(**settings):
    chosen = SubsequenceScheduler(**settings)
    chosen.set_timesteps(timesteps=CHAIN)
    return chosen


def abar(t):
    return float(SubsequenceScheduler().alphas_cumprod[t]) if t >= 0 else 1.0


class Posterior:
    """log p(y | x_t) of the two Gaussians, as a time-dependent classifier gives it."""

    time_dependent = True

    def __call__(self, x, t):
        assert t.shape == (len(x),) and t.dtype == torch.int64
        a = torch.tensor([abar(int(each)) for each in t], dtype=x.dtype).view(-1, 1, 1)
        apart = x.flatten(1)[:, None] - a.sqrt() * MEANS.to(x.dtype)
        return -apart.square().sum(2) / (2 * (a * SPREAD**2 + 1 - a))[:, :, 0]


class Denoiser(torch.nn.Module):
    """Some function of x_t and t, with the variance's channels where it learns one."""

    def __init__(self, learns=False):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.learns = learns

    def forward(self, x, t, class_labels=None):
        noise = self.weight * x + 0.3 * torch.sin(3 * x + t / 300)
        values = torch.cos(2 * x + t)
        return SimpleNamespace(sample=torch.cat([noise, values], 1) if self.learns else noise)


class Doubled(ImageNoise):
    """The noise of the streams (seed, i) in float64."""

    def draw(self, device):
        return super().draw(device).double()


def streams(indices):
    return Doubled(3, indices, SHAPE)


def make(**settings):
    defaults = {"classifier": Posterior(), "lambda": 4.0, "abar": abar}
    return build_guidance(None, loss="classifier", **(defaults | settings))


def sampled(guidance, scheduler, indices=(0, 1, 2), variance="fixed_small", eta=1.0, **options):
    return sample_batch(
        Denoiser(learns=variance == "learned_range"),
        scheduler,
        indices=indices,
        seed=0,
        shape=SHAPE,
        eta=eta,
        guidance=guidance,
        variance_type=variance,
        streams=streams(indices),
        **options,
    )
