"""Training a noise predictor: E || e - e_theta(sqrt(abar_t) x_0 + sqrt(1 - abar_t) e, t) ||^2."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from contrastdp.data import augmentation, tensors
from contrastdp.diffusion.conditioning import UNCONDITIONAL, ClassLabel, Conditioning, part_of
from contrastdp.diffusion.terms import batch_means, build_terms, loss_of, predict
from contrastdp.errors import InputError, finite
from contrastdp.jobs.parallel import ALONE, Group
from contrastdp.jobs.resume import Resume
from contrastdp.networks.averaging import AveragedNetwork
from contrastdp.networks.execution import autocast, check_precision, faster
from contrastdp.networks.learning_rate import warmed_cosine

OPTIMISERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
DECAYS = ("cosine", "constant")


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
    flip: bool = False,
    optimiser: str = "adamw",
    weight_decay: float = 0.0,
    decay: str = "cosine",
    weighting: str = "noise",
    terms: Mapping[str, Mapping[str, Any]] | None = None,
    conditioning: Conditioning | None = None,
    micro_batch: int | None = None,
    precision: str = "float32",
    channels_last: bool = False,
    compiled: str | None = None,
    progress: Callable[[range], Iterable[int]] = iter,
    resume: Resume | None = None,
    group: Group = ALONE,
) -> Iterator[dict[str, float]]:
    """Train `denoiser` in place and leave its averaged weights in it; yields {step, loss} at times.

    image: (N, C, H, W) in [0, 1]; label: (N,) int64 for a class-conditional denoiser, else None;
    abar: (T,). optimiser: 'adamw' or 'adam'; linear warm-up of the learning rate, then, as `decay`
    says, 'cosine' to 0 or 'constant'; gradients clipped to clip_norm. weighting: of
    NoisePrediction; terms: further ones of the loss, each with its settings. conditioning: what the
    denoiser is told, by default the label, if any. averaging: largest decay of the averaged
    weights. shift: pixels of augmentation; flip: mirror half of the images, left to right.
    generator: on the CPU, draws batches, shifts, flips, timesteps and noise; dropout, where a
    denoiser has it, draws from torch's global one.

    micro_batch: images that pass the denoiser at once, with the same gradient within rounding but
    for dropout; precision: 'bfloat16' runs the denoiser under autocast, its weights stay float32;
    channels_last: layout of the convolutions' weights; compiled: a backend of torch.compile, such
    as 'inductor', None for none. resume: where a killed training's state is kept; what it had
    yielded is yielded again. group: the processes that train together, all called alike, with the
    same result within rounding but for dropout and for BatchNorm, of which no denoiser here has
    any. Raises InputError for an unknown choice and a non-finite loss.
    """
    for what, value, known in (("optimiser", optimiser, OPTIMISERS), ("decay", decay, DECAYS)):
        if value not in known:
            raise InputError(f"{what} is '{value}'; choose {' or '.join(known)}")
    loss_terms = build_terms({"noise_prediction": {"weighting": weighting}} | dict(terms or {}))
    if conditioning is None:
        conditioning = UNCONDITIONAL if label is None else ClassLabel()
    check_precision(precision)
    group.check(batch, micro_batch)
    device = image.device
    abar = abar.to(device)
    condition = conditioning.seen(image, label)
    faster(denoiser, channels_last=channels_last)
    stepping = OPTIMISERS[optimiser](
        denoiser.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True
    )
    predictor = faster(denoiser, compiled=compiled)

    def rate(step: int) -> float:
        if decay == "constant" and step >= warmup:
            return 1.0
        return warmed_cosine(step, steps, warmup=warmup)

    schedule = torch.optim.lr_scheduler.LambdaLR(stepping, rate)
    average = AveragedNetwork(denoiser, decay=averaging, warmup=0)
    drawn = tensors.Epochs(len(image), batch, generator)
    denoiser.train()
    total: float | Tensor = 0.0
    since, every = 0, max(steps // 40, 1)
    parts = {"denoiser": denoiser, "optimiser": stepping, "schedule": schedule}
    parts |= {"average": average, "order": drawn, "generator": generator}
    first, kept = resume.restore(parts) if resume else (0, {})
    rows = kept.get("rows", [])
    yield from rows
    if kept:
        total, since = torch.as_tensor(kept["total"]).to(device), kept["since"]
    for step in progress(range(first, steps)):
        index = next(drawn).to(device)
        x0 = augmentation.shift(image[index], shift, generator) * 2 - 1
        if flip:
            x0 = augmentation.flip(x0, generator)
        timestep = torch.randint(0, len(abar), (batch,), generator=generator).to(device)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        chosen = part_of(condition, index)
        stepping.zero_grad()
        group.seed_dropout(generator.initial_seed(), step)
        losses = []
        owns = [group.part(piece) for piece in tensors.batches(batch, micro_batch or batch)]
        given = ((x0[own], noise[own], timestep[own], abar, part_of(chosen, own)) for own in owns)
        passes = [partial(predict, predictor, *arguments) for arguments in given]
        with autocast(device, precision):
            means = batch_means(loss_terms, passes, batch=batch, device=device, group=group)
        for own, predicted in zip(owns, passes, strict=True):
            with autocast(device, precision):
                loss = loss_of(loss_terms, predicted(), means)
            loss = loss * ((own.stop - own.start) / batch)
            loss.backward()
            losses.append(loss.detach())
        group.add_up_gradients(denoiser.parameters(), *losses)
        for loss in losses:
            total = total + loss
        nn.utils.clip_grad_norm_(denoiser.parameters(), clip_norm)
        stepping.step()
        schedule.step()
        average.update(step)
        since += 1
        if (step + 1) % every == 0 or step + 1 == steps:
            mean = finite(float(total) / since, "diffusion loss", step + 1)
            rows.append({"step": step + 1, "loss": mean})
            yield rows[-1]
            total, since = 0.0, 0
        if resume and step + 1 < steps and resume.due():
            resume.save(step + 1, parts, {"rows": rows, "total": total, "since": since})
    denoiser.load_state_dict(average.network().state_dict())
    denoiser.eval()
