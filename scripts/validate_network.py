"""Measure a robust network on training images that nothing of its seed was trained on."""

from collections.abc import Mapping
from typing import Any

from contrastdp.attack.gate import check_network, exact_arithmetic
from contrastdp.attack.pgd import PGD, accuracies
from contrastdp.attack.threat import parse_fraction
from contrastdp.data.tensors import read_held_out
from contrastdp.files import write_json
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.provenance import provenance
from contrastdp.jobs.run import run
from contrastdp.networks.checkpoint import load_network
from contrastdp.networks.execution import precision_of
from contrastdp.streams import derive_seed, generator


@exact_arithmetic()
def validate_network(
    *,
    model: str,
    train: str,
    classes: int,
    attack: Mapping[str, Any],
    step_size: str,
    steps: int,
    images: int,
    identity: Mapping[str, Any],
    evaluation: str,
    device: str = "auto",
) -> None:
    """Write clean and robust accuracy (fractions) under PGD on the margin, as gather_attacks does.

    images: how many of the training images that identity's seed left out, at most; attack: norm,
    eps as a fraction, batch; step_size: a fraction; identity: the arm's row and the seed. What is
    chosen by these numbers may be tested on the test split, of which they know nothing.
    """
    place = resolve(device)
    seed, real = identity["seed"], identity["real"]
    common = {"classes": classes, "device": place, "real": real, "seed": seed}
    x, y = read_held_out(train, **common, count=images)
    network = load_network(model, place)
    gate = check_network(network, x, y, batch=attack["batch"], seed=attack["seed"])
    pgd = PGD(
        eps=parse_fraction(attack["eps"]),
        step_size=parse_fraction(step_size, "step_size"),
        steps=steps,
        generator=generator(derive_seed(attack["seed"], "held out"), "attack"),
    )
    clean, robust = accuracies(network, x, y, pgd, attack["batch"])
    said = {"method": "PGD", "version": "on the margin", "attacks": ["pgd"]}
    precision = precision_of(network)
    said |= {"iterations": {"pgd": steps}, "precision": precision}
    said |= {name: attack[name] for name in ("norm", "eps", "seed", "batch")}
    said["step_size"] = step_size
    made = provenance(seed=seed, settings=said, device=str(place), precision=precision)
    measured = {"n_test": len(y), "images": "held-out training images", "gate": gate}
    measured |= {"clean_accuracy": clean, "robust_accuracy": robust, "attack": said}
    write_json(evaluation, {**identity, **measured, "provenance": made})


if "snakemake" in globals():
    run(validate_network, snakemake)
