"""Sampling images from a denoiser, plain or guided (Algorithm 1), one guidance batch at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from contrastdp.guidance import Guidance
from contrastdp.noise import ImageNoise
from contrastdp.records import InputError
from contrastdp.schedulers import SubsequenceScheduler


@torch.no_grad()
def sample_batch(
    denoiser: torch.nn.Module,
    scheduler: SubsequenceScheduler,
    *,
    indices: Sequence[int],
    seed: int,
    shape: Sequence[int],
    eta: float = 0.0,
    guidance: Guidance | None = None,
    class_labels: Tensor | None = None,
    micro_batch: int | None = None,
    initial_scale: float = 1.0,
    streams: ImageNoise | None = None,
) -> Tensor:
    """Sample the images `indices`, coupled by the guidance: (m, C, H, W) in [-1, 1] roughly.

    denoiser(x_t, t[, class_labels]) gives the predicted noise as `.sample` (diffusers' form);
    scheduler: its timesteps set; seed: image i starts from, and draws, the stream (seed, i);
    shape: (C, H, W); class_labels: (m,) for a conditional denoiser; micro_batch: how many images
    pass the denoiser at once, with the same result within rounding. initial_scale: standard
    deviation of x_T (2 for the paper's N(0, 4I)). streams: draws x_T and the noise in
    the place of (seed, i), by a method draw(device). e += guidance(x_t, t).
    """
    device = next(denoiser.parameters()).device
    timesteps = scheduler.timesteps.tolist()
    streams = streams or ImageNoise(seed, indices, shape)
    state = initial_scale * streams.draw(device)  # x_T (m, C, H, W)
    if guidance is not None:
        guidance.start(list(indices), timesteps, class_labels)
    for timestep in timesteps:
        noise = predict_noise(denoiser, state, timestep, class_labels, micro_batch)
        if guidance is not None:
            added = guidance(state, timestep)
            noise = noise if added is None else noise + added
        fresh = streams.draw(device) if eta > 0 else None
        state = scheduler.step(noise, timestep, state, eta, variance_noise=fresh).prev_sample
    if not bool(state.isfinite().all()):
        raise InputError(
            f"samples {indices[0]} to {indices[-1]} are not finite; lower lambda or retrain"
        )
    return state


def predict_noise(
    denoiser: torch.nn.Module,
    state: Tensor,
    timestep: int,
    class_labels: Tensor | None = None,
    micro_batch: int | None = None,
) -> Tensor:
    """eps_theta(x_t, t) for states (m, C, H, W), in pieces of `micro_batch`."""
    pieces = state.split(micro_batch or len(state))
    labels = [None] * len(pieces)
    if class_labels is not None:
        labels = class_labels.split(micro_batch or len(state))
    return torch.cat(
        [
            denoiser(piece, timestep, class_labels=label).sample
            for piece, label in zip(pieces, labels, strict=True)
        ]
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
    denoiser: torch.nn.Module,
    scheduler: SubsequenceScheduler,
    *,
    start: int,
    stop: int,
    batch: int,
    progress: Callable[[list], Iterable] = iter,
    **settings: Any,
) -> tuple[Tensor, Tensor]:
    """Sample the images [start, stop): states (N, C, H, W), and labels (N,), -1 if unconditional.

    batch: images of a guidance batch; progress: wraps the list of batches; settings: of
    sample_batch. Any shard gives the same images, bit for bit on the CPU.
    """
    device = next(denoiser.parameters()).device
    states, labels = [], []
    for indices, keep in progress(list(batches_of_shard(start, stop, batch))):
        label = class_labels(indices, denoiser.config.num_class_embeds)
        given = None if label is None else label.to(device)
        state = sample_batch(denoiser, scheduler, indices=indices, class_labels=given, **settings)
        states.append(state[keep])
        labels.append((torch.full((batch,), -1) if label is None else label)[keep])
    return torch.cat(states), torch.cat(labels)


def class_labels(indices: Sequence[int], classes: int | None) -> Tensor | None:
    """The label that image i of a class-conditional generator is sampled for: i mod classes."""
    return None if not classes else torch.tensor(list(indices)) % classes
