"""Sample one shard of a generator's images, plain or guided."""

from functools import partial
from typing import Any

import numpy as np
import torch

from contrastdp.data import to_uint8
from contrastdp.denoisers import load_denoiser
from contrastdp.device import device as resolve
from contrastdp.generation import load_guidance
from contrastdp.job import run, track
from contrastdp.noise import derive_seed
from contrastdp.records import write_images
from contrastdp.sampling import sample_shard
from contrastdp.schedulers import set_chain


def sample_images(
    *,
    denoiser: str,
    encoder: str | None,
    sampler: dict[str, Any],
    guidance: dict[str, Any] | None,
    shape: list[int],
    classes: int,
    real: int,
    start: int,
    stop: int,
    batch: int,
    seed: int,
    images: str,
    labeler: str | None = None,
    train: str | None = None,
    execution: dict[str, Any] | None = None,
    device: str = "auto",
) -> None:
    """Write the images [start, stop) of a generator, with label -1 where it is unconditional.

    denoiser: folder of the diffusion model; encoder, labeler, train: files, as its guidance needs;
    sampler: of set_chain and sample_batch (steps, spacing, eta, ...); guidance: of build_guidance,
    None for none; shape: (C, H, W); classes, real: of the data, as load_guidance says; batch:
    images coupled by the guidance, whose members their indices fix; execution: micro_batch,
    precision, channels_last, compiled; images: the npz, with each image's guidance_size.
    """
    place = resolve(device)
    model, scheduler = load_denoiser(denoiser, place)
    both = {"classes": classes, "batch": batch} | (execution or {})
    known = {"real": real, "seed": seed, "abar": scheduler.abar, "device": place}
    files = {"encoder": encoder, "labeler": labeler, "train": train}
    guide = load_guidance(guidance, **files, **known, **both)
    part = {"start": start, "stop": stop, "shape": shape, "seed": derive_seed(seed, "sample")}
    part |= {"progress": partial(track, what="guidance batches"), "sizes": []}
    part |= set_chain(scheduler, **sampler)
    state, label = sample_shard(model, scheduler, guidance=guide, **part, **both)
    record = {"index": np.arange(start, stop), "guidance_size": torch.cat(part["sizes"]).numpy()}
    write_images(images, image=to_uint8((state + 1) / 2), label=label.numpy(), **record)


if "snakemake" in globals():
    run(
        sample_images,
        log=snakemake.log[0],
        threads=snakemake.threads,
        denoiser=snakemake.input.denoiser,
        encoder=snakemake.input.get("encoder"),
        labeler=snakemake.input.get("labeler"),
        train=snakemake.input.get("train"),
        images=snakemake.output.images,
        **snakemake.params,
    )
