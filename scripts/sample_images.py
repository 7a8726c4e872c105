"""Sample one shard of a generator's images, plain or guided."""

from functools import partial
from typing import Any

import numpy as np

from contrastdp.checkpoint import load_network
from contrastdp.data import to_uint8
from contrastdp.denoisers import load_denoiser
from contrastdp.device import device as resolve
from contrastdp.guidance import build_guidance
from contrastdp.job import run, track
from contrastdp.noise import derive_seed
from contrastdp.records import write_images
from contrastdp.sampling import sample_shard
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
    state, label = sample_shard(
        model,
        scheduler,
        start=start,
        stop=stop,
        batch=batch,
        progress=partial(track, what="guidance batches"),
        seed=stream,
        shape=shape,
        eta=sampler["eta"],
        guidance=guide,
    )
    image = to_uint8((state + 1) / 2)
    write_images(images, image=image, label=label.numpy(), index=np.arange(start, stop))


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
