"""Sample one shard of a generator's images, plain or guided."""

from typing import Any

import numpy as np
import torch
from contrastdp.checkpoint import load_network
from contrastdp.data import to_uint8
from contrastdp.denoisers import load_denoiser
from contrastdp.device import device as resolve
from contrastdp.guidance import build_guidance
from contrastdp.job import run, track
from contrastdp.noise import derive_seed
from contrastdp.records import write_images
from contrastdp.sampling import batches_of_shard, class_labels, sample_batch
from contrastdp.schedulers import subsequence


def sample_images(
    *,
    denoiser: str,
    encoder: str | None,
    sampler: dict[str, Any],
    guidance: dict[str, Any] | None,
    shape: list[int],
    start: int,
    stop: int,
    batch: int,
    seed: int,
    images: str,
    device: str = "auto",
) -> None:
    """Write the images [start, stop) of a generator, with label -1 where it is unconditional.

    denoiser: folder of the diffusion model; encoder: file of the feature extractor, for guidance;
    sampler: steps, spacing and eta; guidance: settings of build_guidance, None for none; shape:
    (C, H, W); batch: images coupled by the guidance, whose members their indices fix; images:
    the npz to write.
    """
    place = resolve(device)
    model, scheduler = load_denoiser(denoiser, place)
    steps = subsequence(scheduler.config.num_train_timesteps, sampler["steps"], sampler["spacing"])
    scheduler.set_timesteps(timesteps=steps)
    stream = derive_seed(seed, "sample")
    guide = None
    if guidance is not None:
        guide = build_guidance(load_network(encoder, place).features, seed=stream, **guidance)
    kept, labels = [], []
    for indices, keep in track(list(batches_of_shard(start, stop, batch)), "guidance batches"):
        label = class_labels(indices, model.config.num_class_embeds)
        state = sample_batch(
            model,
            scheduler,
            indices=indices,
            seed=stream,
            shape=shape,
            eta=sampler["eta"],
            guidance=guide,
            class_labels=None if label is None else label.to(place),
        )
        kept.append(to_uint8((state[keep] + 1) / 2))
        labels.append(torch.full((len(indices),), -1)[keep] if label is None else label[keep])
    write_images(
        images,
        image=np.concatenate(kept),
        label=torch.cat(labels).numpy(),
        index=np.arange(start, stop),
    )


if "snakemake" in globals():
    run(
        sample_images,
        log=snakemake.log[0],
        threads=snakemake.threads,
        denoiser=snakemake.input.denoiser,
        encoder=snakemake.input.get("encoder"),
        images=snakemake.output.images,
        **snakemake.params,
    )
