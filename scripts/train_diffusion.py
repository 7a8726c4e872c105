"""Train a diffusion model on the drawn real images alone, or take over one that others trained."""

from typing import Any

from contrastdp.data.tensors import read_tensors
from contrastdp.diffusion.conditioning import conditioning_of
from contrastdp.diffusion.denoisers import load_pretrained, save_denoiser, untrained_denoiser
from contrastdp.diffusion.training import train_denoiser
from contrastdp.files import write_json
from contrastdp.frames import as_table, given, write_table
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.parallel import ALONE, Group
from contrastdp.jobs.provenance import provenance
from contrastdp.jobs.resume import resuming
from contrastdp.jobs.run import run, track
from contrastdp.networks.execution import precision_of
from contrastdp.streams import generator


def train_diffusion(
    *,
    train: str,
    real: int,
    classes: int,
    conditional: bool,
    network: dict[str, Any] | None,
    training: dict[str, Any] | None,
    schedule: dict[str, Any],
    seed: int,
    model: str,
    history: str,
    metrics: str,
    pretrained: str | None = None,
    device: str = "auto",
    resume_minutes: float | None = None,
    group: Group = ALONE,
) -> None:
    """Train on `real` images of the training split and write the averaged model.

    network, training, schedule: of build_denoiser, train_denoiser and the scheduler; model: folder
    to write; pretrained: of load_pretrained; resume_minutes: of resuming; group: the first writes.
    """
    place = resolve(device)
    image, label = read_tensors(train, classes=classes, device=place, real=real, seed=seed)
    sizes = {"image_size": image.shape[-1], "channels": image.shape[1], "schedule": schedule}
    sizes |= {"classes": classes if conditional else None}
    settings = {"network": network, "training": training, "schedule": schedule, "real": real}
    kept = {"script": __file__, "settings": [settings, sizes, seed, place], "train": train}
    origin, rows = None, []
    with resuming(model, resume_minutes, writes=group.first, **kept) as resume:
        if pretrained:
            sizes["learned_variance"] = (network or {}).get("learned_variance", False)
            denoiser, scheduler, origin = load_pretrained(pretrained, **sizes)
        else:
            denoiser, scheduler = untrained_denoiser(network, seed=seed, **sizes)
            options = {"abar": scheduler.alphas_cumprod, "generator": generator(seed, "diffusion")}
            options |= {"progress": lambda span: track(span, "diffusion training")}
            options |= {"label": label if conditional else None, "group": group, **training}
            options["conditioning"] = conditioning_of(denoiser)
            rows = list(train_denoiser(denoiser.to(place), image, resume=resume, **options))
        if not group.first:
            return
        save_denoiser(model, denoiser, scheduler)
        write_table(history, as_table(rows, given("step", "loss")))
        precision = (training or {}).get("precision") or precision_of(denoiser)
        how = {"device": str(place), "precision": precision}
        told = provenance(seed=seed, settings=settings, **how) | {"processes": group.size}
        found = {"loss": rows[-1]["loss"] if rows else None, "pretrained": origin}
        write_json(metrics, found | {"parameters": denoiser.num_parameters(), "provenance": told})


if "snakemake" in globals():
    run(train_diffusion, snakemake)
