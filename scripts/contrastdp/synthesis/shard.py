"""A shard of a generator's images from its files: networks, and real images if it reads them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from contrastdp.data.tensors import to_uint8
from contrastdp.diffusion.denoisers import load_denoiser
from contrastdp.diffusion.initialisation import build_initialisation
from contrastdp.diffusion.sampling import sample_shard
from contrastdp.diffusion.schedulers import set_chain
from contrastdp.guidance.from_files import Files, load_guidance
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.resume import Resume
from contrastdp.streams import derive_seed

STEP = ("eta", "variance_type", "guidance_scale")  # settings of a sampler's steps


def shard_images(
    *,
    denoiser: str,
    encoder: Files,
    labeler: Files,
    train: str | None,
    sampler: Mapping[str, Any],
    guidance: Mapping[str, Any] | None,
    shape: Sequence[int],
    classes: int,
    real: int,
    start: int,
    stop: int,
    batch: int,
    seed: int,
    execution: Mapping[str, Any] | None = None,
    device: str = "auto",
    progress: Callable[[list], Iterable] = iter,
    resume: Resume | None = None,
    observe: Callable[[torch.Tensor], None] | None = None,
) -> dict[str, np.ndarray]:
    """The images [start, stop) of a generator, as write_images takes them.

    denoiser: folder of the diffusion model; encoder, labeler, train: files, as its guidance needs,
    and as load_guidance says;
    sampler: of set_chain, sample_batch and build_initialisation (steps, spacing, eta, ...);
    guidance: of build_guidance, None for none; shape: (C, H, W); classes, real: of the data, as
    load_guidance says; batch: images coupled by the guidance, whose members their indices fix;
    execution: micro_batch, precision, channels_last, compiled; progress: wraps the list of guidance
    batches; resume: of sample_shard; observe: told the predicted x_0 (m, C, H, W) of each guidance
    batch before each step, where there is a guidance. Returns image (N, H, W, C) uint8, label (N,),
    -1 where the generator is unconditional, index and guidance_size. Every image is the same, bit
    for bit on the CPU, whatever shard it is part of.
    """
    place = resolve(device)
    model, scheduler = load_denoiser(denoiser, place)
    both: dict[str, Any] = {"classes": classes, "batch": batch} | dict(execution or {})
    known: dict[str, Any] = {"real": real, "seed": seed, "abar": scheduler.abar, "device": place}
    known["schedule"] = scheduler.alphas_cumprod
    files: dict[str, Any] = {"encoder": encoder, "labeler": labeler, "train": train}
    guide: Any = load_guidance(guidance, **files, **known, **both)
    if guide is not None and observe is not None:
        guide.observe = observe
    part: dict[str, Any] = {"start": start, "stop": stop, "shape": shape, "sizes": []}
    part |= {"seed": derive_seed(seed, "sample"), "progress": progress, "resume": resume}
    rest = set_chain(scheduler, **sampler)
    part |= {name: rest.pop(name) for name in STEP if name in rest}
    part["initialisation"] = build_initialisation(**rest)
    state, label = sample_shard(model, scheduler, guidance=guide, **part, **both)
    return {
        "image": to_uint8((state + 1) / 2),
        "label": label.numpy(),
        "index": np.arange(start, stop),
        "guidance_size": torch.cat(part["sizes"]).numpy(),
    }
