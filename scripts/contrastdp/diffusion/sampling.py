"""Sampling images from a denoiser, plain or guided (Algorithm 1), one guidance batch at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from contrastdp.data.tensors import batches
from contrastdp.diffusion.conditioning import (
    UNCONDITIONAL,
    Condition,
    Conditioning,
    conditioning_of,
    part_of,
)
from contrastdp.diffusion.initialisation import GAUSSIAN, Initialisation
from contrastdp.diffusion.schedulers import LEARNED, SubsequenceScheduler
from contrastdp.errors import InputError
from contrastdp.guidance.protocol import Guidance, StepMean, Sum, check_moves, guided_noise
from contrastdp.jobs.resume import Finished, Resume
from contrastdp.networks.execution import autocast, check_precision, faster
from contrastdp.streams import ImageNoise, Noise


@torch.no_grad()
def sample_batch(
    denoiser: torch.nn.Module,
    scheduler: SubsequenceScheduler,
    *,
    indices: Sequence[int],
    seed: int,
    shape: Sequence[int],
    eta: float = 0.0,
    guidance: Guidance | Sum | None = None,
    conditioning: Conditioning = UNCONDITIONAL,
    initialisation: Initialisation = GAUSSIAN,
    micro_batch: int | None = None,
    streams: Noise | None = None,
    guidance_scale: float = 1.0,
    variance_type: str = "fixed_small",
    precision: str = "float32",
    sizes: list[Tensor] | None = None,
) -> Tensor:
    """Sample the images `indices`, coupled by the guidance: (m, C, H, W) in [-1, 1] roughly.

    denoiser(x_t, t, ...) gives the predicted noise as `.sample` (diffusers' form), and as many
    channels again where it learned its variance; scheduler: its timesteps set; seed: image i starts
    from, and draws, the stream (seed, i); shape: (C, H, W); conditioning: what the denoiser is told
    beside x_t and t; initialisation: where the chains start; micro_batch: how many images pass the
    denoiser at once, with the same result within rounding. streams: draws all noise in the place of
    (seed, i). guidance: e += guidance(x_t, t), or, where it moves the mean, x_t' += d mean / d e
    guidance(x_t, t), after x_0 is clipped.

    guidance_scale: w of classifier-free guidance, e = e_null + w (e_label - e_null), where e_null
    is predicted under the null condition; 1 is none. variance_type: of the noise drawn where
    eta > 0, as SubsequenceScheduler.step says; 'learned_range' and a denoiser that learned its
    variance need each other there, else InputError. precision: 'bfloat16' runs the denoiser under
    autocast. sizes: a list that receives how large the guidance was, (m,) float32 on the CPU: the
    mean over guided steps of its norm over that of the predicted noise, 0 where none was guided.
    Nothing but the present state is kept, whatever the number of steps.
    """
    check_precision(precision)
    device = next(denoiser.parameters()).device
    streams = streams or ImageNoise(seed, indices, shape)
    state, timesteps = initialisation(indices, streams, scheduler, device)  # (m, C, H, W)
    condition = _on(device, conditioning.drawn(indices))
    null = _on(device, conditioning.null(indices)) if guidance_scale != 1.0 else None
    if guidance is not None:
        check_moves(guidance, eta)
        label = conditioning.label(indices)
        guidance.start(list(indices), timesteps, None if label is None else label.to(device))
    total, guided_steps = torch.zeros(len(indices), device=device), 0
    for timestep in timesteps:
        with autocast(device, precision):
            output = predict_noise(
                denoiser, state, timestep, condition, micro_batch, guidance_scale, null
            )
        if precision != "float32":
            output = output.to(state.dtype)
        output, learned = _parted(output, state.shape[1], variance_type if eta > 0 else None)
        slope, mean = 0.0, None
        if guidance is not None:
            if eta > 0:
                slope = scheduler.slope(timestep, eta)
                variance = scheduler.variance(timestep, eta, variance_type, learned)
                mean = StepMean(variance / slope if slope else 0.0)
            predicted = scheduler.noise_of(output, timestep, state)
            noise, size = guided_noise(
                guidance,
                predicted,
                state,
                timestep,
                scheduler.abar(timestep),
                partial(scheduler.clean_of, output, timestep, state),
                mean,
            )
            if noise is not predicted:
                output = scheduler.output_of(noise, timestep, state)
            if size is not None:
                total, guided_steps = total + size, guided_steps + 1
        fresh = streams.draw(device) if eta > 0 else None
        drawn: dict[str, Any] = {"variance_noise": fresh, "variance_type": variance_type}
        drawn["learned"] = learned
        state = scheduler.step(output, timestep, state, eta, **drawn).prev_sample
        if mean is not None and mean.moved is not None:
            state = state + slope * mean.moved
    if not bool(state.isfinite().all()):
        cure = "check the denoiser" if guidance is None else "lower lambda, or check the denoiser"
        raise InputError(f"samples {indices[0]} to {indices[-1]} are not finite; {cure}")
    if sizes is not None:
        sizes.append((total / max(guided_steps, 1)).float().cpu())
    return state


def _parted(
    output: Tensor, channels: int, variance_type: str | None
) -> tuple[Tensor, Tensor | None]:
    """A denoiser's output (m, C or 2C, ...): what it predicts, and what it says of its variance.

    variance_type: of the noise that is drawn, None where none is. Raises InputError where that asks
    for a learned variance and there is none, or the other way round.
    """
    learns = output.shape[1] == 2 * channels
    if variance_type is not None and learns != (variance_type == LEARNED):
        raise InputError(
            f"the denoiser predicts {output.shape[1]} channels of {channels} and variance_type is "
            f"'{variance_type}'; {LEARNED} goes with a learned variance, twice the channels, and "
            "only with one"
        )
    if not learns and output.shape[1] != channels:
        raise InputError(
            f"the denoiser predicts {output.shape[1]} channels of {channels}; give one that "
            "predicts as many, or twice as many with a learned variance"
        )
    return output[:, :channels], output[:, channels:] if learns else None


def _on(device: torch.device, condition: Condition | None) -> Condition | None:
    return condition and {name: value.to(device) for name, value in condition.items()}


def predict_noise(
    denoiser: torch.nn.Module,
    state: Tensor,
    timestep: int,
    condition: Condition | None = None,
    micro_batch: int | None = None,
    guidance_scale: float = 1.0,
    null: Condition | None = None,
) -> Tensor:
    """eps_theta(x_t, t) for states (m, C, H, W), in pieces of `micro_batch`.

    condition: what the denoiser is told of them; null: what tells it nothing. guidance_scale other
    than 1: e_null + guidance_scale (e_condition - e_null), classifier-free guidance (Ho & Salimans
    2022), with one more pass of the denoiser; raises InputError without null.
    """
    if guidance_scale != 1.0:
        if null is None:
            raise InputError(
                f"guidance_scale {guidance_scale} needs a class-conditional denoiser with a label "
                "for 'no class'; train one, or use guidance_scale 1"
            )
        untold = predict_noise(denoiser, state, timestep, null, micro_batch)
        told = predict_noise(denoiser, state, timestep, condition, micro_batch)
        # a learned variance, further channels, is that of the condition, as in GLIDE's code
        noise, *learned = told.split(state.shape[1], dim=1)
        untold = untold[:, : state.shape[1]]
        return torch.cat([untold + guidance_scale * (noise - untold), *learned], dim=1)
    pieces = batches(len(state), micro_batch or len(state))
    return torch.cat(
        [denoiser(state[p], timestep, **part_of(condition or {}, p)).sample for p in pieces]
    )


def batches_of_shard(start: int, stop: int, batch: int) -> Iterator[tuple[list[int], slice]]:
    """The guidance batches that hold images [start, stop): their indices, and which to keep.

    Batch b holds images b * batch to (b + 1) * batch - 1, whatever the shard: a shard that cuts a
    batch samples all of it and keeps its part, so every shard gives the same images.
    """
    if not 0 <= start < stop or batch < 1:
        raise InputError(f"shard [{start}, {stop}) with batch {batch} is empty; check the counts")
    for first in range(start // batch * batch, stop, batch):
        indices = list(range(first, first + batch))
        yield indices, slice(max(start - first, 0), min(stop - first, batch))


def sample_shard(
    denoiser: Any,
    scheduler: SubsequenceScheduler,
    *,
    start: int,
    stop: int,
    batch: int,
    progress: Callable[[list], Iterable] = iter,
    classes: int | None = None,
    sizes: list[Tensor] | None = None,
    channels_last: bool = False,
    compiled: str | None = None,
    resume: Resume | None = None,
    **settings: Any,
) -> tuple[Tensor, Tensor]:
    """Sample the images [start, stop): states (N, C, H, W), and labels (N,), -1 if unconditional.

    batch: images of a guidance batch; progress: wraps the list of batches; classes: how many of the
    denoiser's labels are sampled, by default all; one label more than them is 'no class'. sizes: as
    for sample_batch, of the images kept. channels_last, compiled: as `faster` says; resume: where
    a killed shard's finished batches are kept; settings: of sample_batch. Any shard gives the same
    images, bit for bit on the CPU.
    """
    conditioning = conditioning_of(denoiser, classes)
    denoiser = faster(denoiser, channels_last=channels_last, compiled=compiled)
    states, labels, finished = [], [], Finished(resume)

    def sampled(indices: list[int], keep: slice) -> tuple[Tensor, Tensor]:
        size: list[Tensor] = []
        state = sample_batch(
            denoiser,
            scheduler,
            indices=indices,
            conditioning=conditioning,
            sizes=size,
            **settings,
        )
        return state[keep].cpu(), size[0][keep]

    for indices, keep in progress(list(batches_of_shard(start, stop, batch))):
        state, size = finished("guidance batch", sampled, indices, keep)
        label = conditioning.label(indices)
        states.append(state)
        labels.append((torch.full((batch,), -1) if label is None else label)[keep])
        if sizes is not None:
            sizes.append(size)
    return torch.cat(states), torch.cat(labels)
