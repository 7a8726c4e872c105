"""Train a diffusion model on the drawn real images alone."""

from functools import partial
from typing import Any

import torch

from contrastdp.data import draw_subset, to_tensor
from contrastdp.denoisers import build_denoiser, save_denoiser
from contrastdp.device import device as resolve
from contrastdp.diffusion import train_denoiser
from contrastdp.job import run, track
from contrastdp.noise import derive_seed, generator
from contrastdp.records import provenance, read_images, write_csv, write_json
from contrastdp.schedulers import SubsequenceScheduler


def train_diffusion(
    *,
    train: str,
    real: int,
    classes: int,
    conditional: bool,
    network: dict[str, Any],
    training: dict[str, Any],
    schedule: dict[str, Any],
    seed: int,
    model: str,
    history: str,
    metrics: str,
    device: str = "auto",
) -> None:
    """Train on `real` images of the training split and write the averaged model.

    network: settings of build_denoiser; training: of train_denoiser; schedule: of the diffusers
    scheduler; model: folder to write, in diffusers' layout.
    """
    data = read_images(train, classes=classes)
    chosen = draw_subset(data["label"], real, derive_seed(seed, "subset"))
    place = resolve(device)
    image = to_tensor(data["image"][chosen]).to(place)
    label = torch.from_numpy(data["label"][chosen]).to(place) if conditional else None
    labels = classes if conditional else None
    torch.manual_seed(derive_seed(seed, "denoiser"))
    sizes = {"image_size": image.shape[-1], "channels": image.shape[1], "classes": labels}
    denoiser = build_denoiser(**sizes, **network).to(place)
    scheduler = SubsequenceScheduler(**schedule)
    steps = train_denoiser(
        denoiser,
        image,
        label,
        abar=scheduler.alphas_cumprod,
        generator=generator(seed, "diffusion"),
        progress=partial(track, what="diffusion training"),
        **training,
    )
    rows = list(steps)
    save_denoiser(model, denoiser, scheduler)
    write_csv(history, rows, ["step", "loss"])
    settings = {"network": network, "training": training, "schedule": schedule, "real": real}
    told = provenance(seed=seed, settings=settings, device=str(place))
    write_json(metrics, {"loss": rows[-1]["loss"], "provenance": told})


if "snakemake" in globals():
    run(
        train_diffusion,
        log=snakemake.log[0],
        threads=snakemake.threads,
        train=snakemake.input.train,
        model=snakemake.output.model,
        history=snakemake.output.history,
        metrics=snakemake.output.metrics,
        **snakemake.params,
    )
