"""Training a noise predictor: E || e - e_theta(sqrt(abar_t) x_0 + sqrt(1 - abar_t) e, t) ||^2."""

import math
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastdp import data
from contrastdp.averaging import AveragedNetwork
from contrastdp.records import finite


def noise_prediction_loss(
    denoiser: nn.Module,
    x0: Tensor,
    noise: Tensor,
    timestep: Tensor,
    abar: Tensor,
    label: Tensor | None,
) -> Tensor:
    """Mean squared error of the predicted noise (section 2.2).

    x0, noise: (N, C, H, W) or (N, D), images in [-1, 1]; timestep: (N,) int64; abar: (T,)
    cumulative products.
    """
    a = abar[timestep].view(-1, *[1] * (x0.ndim - 1))
    noisy = a.sqrt() * x0 + (1 - a).sqrt() * noise
    return F.mse_loss(denoiser(noisy, timestep, class_labels=label).sample, noise)


def train_denoiser(
    denoiser: nn.Module,
    image: Tensor,
    label: Tensor | None,
    *,
    abar: Tensor,
    steps: int,
    batch: int,
    learning_rate: float,
    warmup: int,
    clip_norm: float,
    averaging: float,
    shift: int,
    generator: torch.Generator,
    progress: Callable[[range], Iterable[int]] = iter,
) -> Iterator[dict[str, float]]:
    """Train `denoiser` in place and leave its averaged weights in it; yields {step, loss} at times.

    image: (N, C, H, W) in [0, 1]; label: (N,) int64 for a class-conditional denoiser, else None;
    abar: (T,); AdamW without weight decay, linear warm-up then cosine, gradients clipped to
    clip_norm; averaging: decay of the averaged weights; shift: pixels of
    augmentation; generator: on the CPU, draws batches, shifts, timesteps and noise. Raises
    InputError on a non-finite loss.
    """
    device = image.device
    abar = abar.to(device)
    optimiser = torch.optim.AdamW(
        denoiser.parameters(), lr=learning_rate, weight_decay=0.0, fused=True
    )

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    average = AveragedNetwork(denoiser, decay=averaging, warmup=0)
    drawn = data.epochs(len(image), batch, generator)
    denoiser.train()
    total, since, every = 0.0, 0, max(steps // 40, 1)
    for step in progress(range(steps)):
        index = next(drawn).to(device)
        x0 = data.shift(image[index], shift, generator) * 2 - 1
        timestep = torch.randint(0, len(abar), (batch,), generator=generator).to(device)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        chosen = None if label is None else label[index]
        loss = noise_prediction_loss(denoiser, x0, noise, timestep, abar, chosen)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), clip_norm)
        optimiser.step()
        schedule.step()
        average.update(step)
        total, since = total + loss.detach(), since + 1
        if (step + 1) % every == 0 or step + 1 == steps:
            yield {
                "step": step + 1,
                "loss": finite(float(total) / since, "diffusion loss", step + 1),
            }
            total, since = 0.0, 0
    denoiser.load_state_dict(average.network().state_dict())
    denoiser.eval()
