"""Audit an arm's robust network for signs of masked gradients, on validation images."""

from collections.abc import Mapping
from typing import Any

import torch

from contrastdp.attack.audit import audit as look_for_signs
from contrastdp.attack.gate import exact_arithmetic
from contrastdp.attack.threat import parse_fraction
from contrastdp.data.images import read_images
from contrastdp.data.tensors import to_tensor
from contrastdp.files import write_json
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.provenance import provenance
from contrastdp.jobs.run import run
from contrastdp.networks.checkpoint import load_network
from contrastdp.networks.execution import precision_of


@exact_arithmetic()
def audit_network(
    *,
    model: str,
    validation: str,
    identity: Mapping[str, Any],
    attack: Mapping[str, Any],
    settings: Mapping[str, Any],
    classes: int,
    audit: str,
    other: str | None = None,
    device: str = "auto",
) -> None:
    """Write what became of the first images of the validation split under each attack, as JSON.

    identity: dataset, arm, seed and other, the arm whose network `other` is, or None; attack: the
    arm's, of which eps, seed and batch are taken; settings: images, factors, steps and queries, as
    audit.audit says. The test split is not read, so these settings may be chosen by what comes out.
    """
    data = read_images(validation, classes=classes)
    place = resolve(device)
    x = to_tensor(data["image"][: settings["images"]]).to(place)
    y = torch.from_numpy(data["label"][: settings["images"]]).to(place)
    network = load_network(model, place)
    found = look_for_signs(
        network,
        x,
        y,
        other=load_network(other, place) if other else None,
        eps=parse_fraction(attack["eps"]),
        seed=attack["seed"],
        batch=attack["batch"],
        **{name: settings[name] for name in ("factors", "steps", "queries")},
    )
    spent = {name: attack[name] for name in ("norm", "eps", "seed", "batch")} | dict(settings)
    how = {"device": str(place), "precision": precision_of(network)}
    made = provenance(seed=attack["seed"], settings=spent, **how)
    content = {"attack": spent, "n": len(y), "images": found, "provenance": made}
    write_json(audit, dict(identity) | content)


if "snakemake" in globals():
    run(audit_network, snakemake)
