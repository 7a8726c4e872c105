"""Make the pictures of two time-dependent classifiers' gradients, for figures (paper: Fig. 3-5)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from contrastdp.data.images import read_images
from contrastdp.data.tensors import to_tensor
from contrastdp.diffusion.denoisers import load_denoiser
from contrastdp.files import replacing
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.run import run
from contrastdp.synthesis import alignment, gradient_pictures


def picture_gradients(
    *,
    robust: str,
    vanilla: str,
    conditional: str,
    test: str,
    sampling: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
    classes: int,
    seed: int,
    pictures: str,
    device: str = "auto",
) -> None:
    """Write an npz of the first test images and generated ones, `settings.pictures` (k) of each.

    image (k, H, W, C), label, target; what pictured_gradients gives at the middle of each band of
    t, and `timesteps`; of either classifier {name}_attacked, the images after the targeted attack,
    and {name}_predicted and {name}_step, as predicted_images gives them, of the generator that it
    guides. sampling: 'robust' and 'vanilla' -> settings of shard_images; the rest as
    measure_gradients has it.
    """
    place, count = resolve(device), settings["pictures"]
    files = {"vanilla": vanilla, "robust": robust}
    scheduler = load_denoiser(conditional, place)[1]
    networks = alignment.load_classifiers(files, place, classes, scheduler.alphas_cumprod)
    data = {name: x[:count] for name, x in read_images(test, classes=classes).items()}
    clean = 2 * to_tensor(data["image"]).to(place) - 1
    label = torch.from_numpy(data["label"]).to(place)
    target = (label + 1) % classes
    bands = alignment.bands_of(scheduler.config.num_train_timesteps, settings["bands"], 1)
    when = [band.timesteps[0] for band in bands]
    found: dict[str, Any] = {name: data[name] for name in ("image", "label")}
    found |= {"target": target.cpu().numpy(), "timesteps": np.array(when)}
    at: dict[str, Any] = {"abar": scheduler.abar, "timesteps": when, "seed": seed}
    found |= gradient_pictures.pictured_gradients(networks, clean=clean, label=label, **at)
    attack = {"steps": settings["attack_steps"], "radius": settings["radius"]}
    rest: dict[str, Any] = {"labeler": None, "train": None, "seed": seed, "device": device}
    for name, network in networks.items():
        moved = gradient_pictures.targeted_attack(network, clean, target, **attack)
        found[f"{name}_attacked"] = gradient_pictures.pixels(moved)
        own = {"denoiser": conditional, "encoder": files[name], "sampling": sampling[name]}
        seen = gradient_pictures.predicted_images(steps=len(when) + 1, count=count, **own, **rest)
        found |= {f"{name}_{key}": value for key, value in seen.items()}
    with replacing(pictures) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, **found)


if "snakemake" in globals():
    run(picture_gradients, snakemake)
