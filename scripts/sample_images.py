"""Sample one shard of a generator's images, plain or guided."""

from functools import partial
from typing import Any

from contrastdp.data.images import write_images
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.resume import resuming
from contrastdp.jobs.run import run, track
from contrastdp.synthesis.shard import shard_images


def sample_images(
    *,
    denoiser: str,
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
    encoder: str | list[str] | None = None,
    labeler: str | list[str] | None = None,
    train: str | None = None,
    execution: dict[str, Any] | None = None,
    device: str = "auto",
    resume_minutes: float | None = None,
) -> None:
    """Write the images [start, stop) of a generator, with label -1 where it is unconditional.

    images: the npz, with each image's guidance_size; resume_minutes: of resuming; the rest: of
    shard_images.
    """
    files = {"denoiser": denoiser, "encoder": encoder, "labeler": labeler, "train": train}
    settings = {"sampler": sampler, "guidance": guidance, "shape": shape, "classes": classes}
    settings |= {"real": real, "start": start, "stop": stop, "batch": batch, "seed": seed}
    settings |= {"execution": execution}
    kept = {"script": __file__, "settings": [settings, resolve(device)]}
    with resuming(images, resume_minutes, **kept, **files) as resume:
        shown = partial(track, what="guidance batches")
        made = shard_images(**files, **settings, device=device, progress=shown, resume=resume)
        write_images(images, **made)


if "snakemake" in globals():
    run(sample_images, snakemake)
