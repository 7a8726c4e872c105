"""Attack one shard of the test split with AutoAttack or AA+MT and keep each image's outcome."""

from typing import Any

import torch

from contrastdp.attack import autoattack as attacks
from contrastdp.attack.adversarial_images import write_adversarial_images
from contrastdp.attack.gate import check_network, exact_arithmetic
from contrastdp.attack.threat import parse_fraction
from contrastdp.data.images import read_images
from contrastdp.data.tensors import to_tensor
from contrastdp.errors import InputError
from contrastdp.files import write_json
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.provenance import provenance
from contrastdp.jobs.resume import resuming
from contrastdp.jobs.run import run
from contrastdp.networks.checkpoint import load_network
from contrastdp.networks.execution import precision_of


@exact_arithmetic()
def attack_shard(
    *,
    model: str,
    test: str,
    attack: dict[str, Any],
    classes: int,
    start: int,
    stop: int,
    shard: str,
    adversarial: str,
    device: str = "auto",
    resume_minutes: float | None = None,
) -> None:
    """Attack test images start to stop - 1 (or the split's end) and write their outcomes as JSON.

    attack: norm, eps (such as '8/255'), version, seed, shard (images of a job), batch, budget where
    a version other than standard is not to run with its own, and micro_batch where fewer images
    than a batch are to pass the network at once. adversarial: npz of the images that were broken.
    resume_minutes: of resuming. The gate of contrastdp.attack.gate runs first: it raises GateError,
    or its warnings are kept.
    """
    data = read_images(test, classes=classes)
    total = len(data["label"])
    if not 0 <= start < min(stop, total):
        raise InputError(f"shard {start} to {stop}: holds none of the {total} images of {test}")
    stop, place = min(stop, total), resolve(device)
    network = load_network(model, place)
    x = to_tensor(data["image"][start:stop]).to(place)
    y = torch.from_numpy(data["label"][start:stop]).to(place)
    gate = check_network(network, x, y, batch=attack["batch"], seed=attack["seed"])
    named = {key: attack.get(key) for key in ("norm", "version", "seed", "batch", "budget")}
    fixed = {"eps": attack["eps"], "shard": attack["shard"], "classes": classes}
    identity = attacks.identity(**fixed, **named)
    named |= {"eps": parse_fraction(attack["eps"]), "micro_batch": attack.get("micro_batch")}
    kept = {"settings": [attack, classes, start, stop, place], "model": model, "test": test}
    with resuming(shard, resume_minutes, script=__file__, **kept) as resume:
        outcome = attacks.autoattack(network, x, y, resume=resume, **named)
        images = {"index": list(range(start, stop)), "label": y.tolist()}
        images |= {key: getattr(outcome, key) for key in ("clean_prediction", "broken_by")}
        content = {"start": start, "stop": stop, "n_test": total, "images": images, "gate": gate}
        content |= {"seconds": outcome.seconds, "warnings": outcome.warnings, "attack": identity}
        content |= write_adversarial_images(
            adversarial, images, outcome.x_adv, model, identity, total
        )
        how = {"device": str(place), "precision": precision_of(network)}
        made = provenance(seed=attack["seed"], settings=attack, **how)
        write_json(shard, content | {"provenance": made})


if "snakemake" in globals():
    run(attack_shard, snakemake)
