"""Measure what a robust and a vanilla time-dependent classifier's gradients point at."""

from collections.abc import Mapping
from typing import Any

import torch

from contrastdp.data.images import read_images
from contrastdp.data.tensors import read_tensors, to_tensor
from contrastdp.diffusion.denoisers import load_denoiser
from contrastdp.files import write_json
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.provenance import provenance
from contrastdp.jobs.run import run, track
from contrastdp.networks.execution import precision_of
from contrastdp.synthesis import alignment
from contrastdp.synthesis.quality import choose


def measure_gradients(
    *,
    robust: str,
    vanilla: str,
    conditional: str,
    unconditional: str,
    train: str,
    test: str,
    identity: Mapping[str, Any],
    settings: Mapping[str, Any],
    classes: int,
    measures: str,
    device: str = "auto",
) -> None:
    """Write the means of alignment.MEASURES in each band of t as JSON.

    robust, vanilla: files of the classifiers; conditional, unconditional: folders of the denoisers;
    train: whose images, those that the models were trained on, give the class means; test: whose
    images are noised; identity: dataset, real and seed; settings: the data set's `gradients`.
    """
    place, seed = resolve(device), identity["seed"]
    models = [load_denoiser(folder, place) for folder in (unconditional, conditional)]
    denoisers, schedulers = zip(*models, strict=True)
    files = {"robust": robust, "vanilla": vanilla}
    networks = alignment.load_classifiers(files, place, classes, schedulers[1].alphas_cumprod)
    total = schedulers[1].config.num_train_timesteps
    held_out = read_images(test, classes=classes)
    chosen = choose(settings["images"], len(held_out["label"]))
    clean = 2 * to_tensor(held_out["image"][chosen]).to(place) - 1
    label = torch.from_numpy(held_out["label"][chosen]).to(place)
    x, y = read_tensors(train, classes=classes, device=place, real=identity["real"], seed=seed)
    bands = alignment.bands_of(total, settings["bands"], settings["timesteps"])
    found = alignment.band_measures(
        networks,
        clean=clean,
        label=label,
        abar=schedulers[1].abar,
        means=alignment.class_mean_differences(2 * x - 1, y, classes),
        score=alignment.score_difference(*denoisers, schedulers),
        bands=track(bands, "bands of t"),
        low_frequency=settings["low_frequency"],
        seed=seed,
    )
    how = {"device": str(place), "precision": precision_of(networks["robust"])}
    made = provenance(seed=seed, settings=settings, **how)
    head = {**identity, "images": len(chosen), "low_frequency": settings["low_frequency"]}
    write_json(measures, head | {"bands": found, "provenance": made})


if "snakemake" in globals():
    run(measure_gradients, snakemake)
