"""Train a non-robust classifier (the labeler or the feature extractor) on the drawn real images."""

from typing import Any

from contrastdp.data.tensors import read_tensors, shape_of
from contrastdp.files import write_json
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.provenance import provenance
from contrastdp.jobs.resume import resuming
from contrastdp.jobs.run import run, track
from contrastdp.networks.checkpoint import save_network
from contrastdp.networks.execution import precision_of
from contrastdp.networks.predict import accuracy
from contrastdp.streams import derive_seed
from contrastdp.training.classifier import train_classifier_network


def train_classifier(
    *,
    train: str,
    validation: str,
    real: int,
    classes: int,
    settings: dict[str, Any],
    seed: int,
    model: str,
    metrics: str,
    device: str = "auto",
    resume_minutes: float | None = None,
) -> None:
    """Train on `real` images of the training split; write the network and its accuracy.

    settings: network (architecture and its sizes), steps, batch, learning_rate, weight_decay,
    shift, flip; resume_minutes: least time between two states of the training.
    """
    place = resolve(device)
    x, y = read_tensors(train, classes=classes, device=place, real=real, seed=seed)
    held_out = read_tensors(validation, classes=classes, device=place, image_shape=shape_of(x))
    kept = {"settings": [settings, classes, real, seed, place], "script": __file__, "train": train}
    with resuming(model, resume_minutes, **kept) as resume:
        network, loss = train_classifier_network(
            x,
            y,
            classes=classes,
            seed=derive_seed(seed, "classifier"),
            progress=lambda span: track(span, "classifier training"),
            resume=resume,
            **settings,
        )
        how = {"device": str(place), "precision": precision_of(network)}
        result = {
            "validation_accuracy": accuracy(network, *held_out),
            "n_validation": len(held_out[1]),
            "n_train": real,
            "loss": loss,
            "seed": seed,
            "parameters": sum(p.numel() for p in network.parameters()),
            "provenance": provenance(seed=seed, settings=settings, **how),
        }
        save_network(model, network)
        write_json(metrics, result)


if "snakemake" in globals():
    run(train_classifier, snakemake)
