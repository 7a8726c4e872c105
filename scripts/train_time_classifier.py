"""Train a time-dependent classifier, robustly or its vanilla twin, on the drawn real images."""

from typing import Any

from contrastdp.attack.early_stopped import EarlyStopped
from contrastdp.data.tensors import read_tensors, shape_of
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.files import write_json
from contrastdp.frames import as_table, given, write_table
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.parallel import ALONE, Group
from contrastdp.jobs.provenance import provenance
from contrastdp.jobs.resume import resuming
from contrastdp.jobs.run import run, track
from contrastdp.networks.checkpoint import save_network
from contrastdp.networks.execution import precision_of
from contrastdp.streams import derive_seed
from contrastdp.training import time_classifier as training


def train_time_classifier(
    *,
    train: str,
    validation: str,
    real: int,
    classes: int,
    settings: dict[str, Any],
    schedule: dict[str, Any],
    seed: int,
    model: str,
    history: str,
    metrics: str,
    device: str = "auto",
    resume_minutes: float | None = None,
    group: Group = ALONE,
) -> None:
    """Train on `real` images of the training split; write the network and what it reaches.

    settings: of train_time_classifier_network, and validation_attack, what accuracy is measured
    under, by default the training's attack; schedule: of the scheduler, whose noise images get;
    resume_minutes: of resuming; group: processes that train together, of which the first writes.
    """
    place = resolve(device)
    x, y = read_tensors(train, classes=classes, device=place, real=real, seed=seed)
    held_out = read_tensors(validation, classes=classes, device=place, image_shape=shape_of(x))
    kept: dict[str, Any] = {"script": __file__, "train": train, "writes": group.first}
    kept["settings"] = [settings, schedule, classes, real, seed, place]
    own = {name: value for name, value in settings.items() if name != "validation_attack"}
    attack = EarlyStopped(**own.pop("attack")) if "attack" in own else None
    tried = settings.get("validation_attack")
    options = {"abar": SubsequenceScheduler(**schedule).alphas_cumprod, "attack": attack, **own}
    options |= {"classes": classes, "seed": derive_seed(seed, "classifier"), "group": group}
    options["progress"] = lambda span: track(span, "training of a time-dependent classifier")
    with resuming(model, resume_minutes, **kept) as resume:
        result = training.train_time_classifier_network(x, y, resume=resume, **options)
        if not group.first:
            return
        tried = EarlyStopped(**tried) if tried else attack
        bands = training.accuracy_by_band(result.network, *held_out, attack=tried, seed=seed)
        counts = {"n_validation": len(held_out[1]), "n_train": real, "passes": result.passes}
        counts["parameters"] = sum(p.numel() for p in result.network.parameters())
        how = {"device": str(place), "precision": precision_of(result.network)}
        used = settings | {"schedule": schedule}
        told = provenance(seed=seed, settings=used, **how) | {"processes": group.size}
        save_network(model, result.network)
        write_table(history, as_table(result.history, given(*training.HISTORY)))
        found = {"bands": bands, "seed": seed, **result.history[-1], **counts}
        write_json(metrics, found | {"provenance": told})


if "snakemake" in globals():
    run(train_time_classifier, snakemake)
