"""Train a robust classifier on real and synthetic images (TRADES, PGD-AT, MART)."""

from typing import Any

from contrastdp.attack.threat import parse_fraction
from contrastdp.data.tensors import read_tensors, shape_of
from contrastdp.files import write_json
from contrastdp.frames import as_table, given, write_table
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.parallel import ALONE, Group
from contrastdp.jobs.provenance import provenance
from contrastdp.jobs.resume import resuming
from contrastdp.jobs.run import run, track
from contrastdp.networks.checkpoint import save_network
from contrastdp.streams import derive_seed
from contrastdp.training.recipe import recipe_of
from contrastdp.training.robust import HISTORY, summary, train_robust_network


def train_robust(
    *,
    train: str,
    validation: str,
    synthetic: str | None = None,
    real: int,
    classes: int,
    trainer: dict[str, Any],
    settings: dict[str, Any],
    eps: str,
    step_size: str,
    seed: int,
    best: str,
    last: str,
    history: str,
    training: str,
    device: str = "auto",
    resume_minutes: float | None = None,
    group: Group = ALONE,
) -> None:
    """Train on `real` images of the training split, all of `synthetic`, or both.

    settings, trainer: of recipe_of, the latter's first, and network; eps: such as 8/255;
    resume_minutes: of resuming; group: processes that train together, of which the first writes.
    """
    place = resolve(device)
    held_out = read_tensors(validation, classes=classes, device=place)
    common = {"classes": classes, "device": place, "image_shape": shape_of(held_out[0])}
    used = settings | trainer
    flat = {name: value for name, value in used.items() if name != "network"}
    flat |= {"eps": parse_fraction(eps), "step_size": parse_fraction(step_size, "step_size")}
    recipe = recipe_of(flat)
    options = {"validation": held_out, "classes": classes, "seed": derive_seed(seed, "robust")}
    options |= {"group": group, "progress": lambda span: track(span, "robust training")}
    options["real"] = read_tensors(train, **common, real=real, seed=seed) if real else None
    options["synthetic"] = read_tensors(synthetic, **common) if synthetic else None
    used |= {"eps": eps, "step_size": step_size, "real": real}
    kept = {"train": train, "validation": validation, "synthetic": synthetic, "script": __file__}
    kept |= {"settings": [used, classes, seed, place], "writes": group.first}
    with resuming(best, resume_minutes, **kept) as resume:
        result = train_robust_network(settings["network"], recipe, resume=resume, **options)
        if group.first:
            save_network(best, result.best)
            save_network(last, result.last)
            write_table(history, as_table(result.history, given(*HISTORY)))
            made = provenance(
                seed=seed, settings=used, device=str(place), precision=result.passes["precision"]
            )
            made |= result.passes
            write_json(training, summary(result) | {"provenance": made})


if "snakemake" in globals():
    run(train_robust, snakemake)
