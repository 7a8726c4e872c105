"""Adversarial training on real and synthetic images: batches, schedule, averaging, validation."""

import copy
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from contrastdp.adversarial import BATCH_NORMS, accuracies, pgd_loss, trades_loss
from contrastdp.averaging import AveragedNetwork
from contrastdp.data import epochs
from contrastdp.data import shift as shifted
from contrastdp.networks import build_network
from contrastdp.noise import generator
from contrastdp.records import InputError, finite

Images = tuple[torch.Tensor, torch.Tensor]
HISTORY = ("step", "loss", "learning_rate", "validation_clean", "validation_robust", "seconds")


@dataclass
class RobustTraining:
    """What training leaves: two averaged networks, one row a validation, and the best row."""

    best: nn.Module
    last: nn.Module
    history: list[dict[str, Any]] = field(default_factory=list)
    best_row: dict[str, Any] = field(default_factory=dict)


def learning_rate_at(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear over the first `warmup` share of the steps, then half a cosine down to 0."""
    rising = round(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))


def mixed_batches(
    real: Images | None,
    synthetic: Images | None,
    *,
    batch: int,
    synthetic_share: float,
    generator: torch.Generator,
) -> Iterator[Images]:
    """Endless batches: real images without replacement within an epoch, synthetic ones with.

    Of each batch, floor(batch * synthetic_share) images are synthetic; without synthetic images all
    are real, without real ones all are synthetic. Raises InputError where neither is given, or a
    share leaves out a set that is given.
    """
    if real is None and synthetic is None:
        raise InputError("no images to train on: give real images, synthetic images or both")
    alone = real is None or synthetic is None
    share = float(real is None) if alone else synthetic_share
    # one part in ten thousand of an image: 10 * 0.3 must not become 2 by rounding
    n_synthetic = math.floor(batch * share + 1e-4)
    if not alone and not 0 < n_synthetic < batch:
        raise InputError(
            f"synthetic_share {synthetic_share} gives {n_synthetic} synthetic images in a batch of "
            f"{batch}; choose a share that leaves room for both"
        )
    if real is not None:
        stream = epochs(len(real[1]), batch - n_synthetic, generator)
    while True:
        parts = []
        if real is not None:
            chosen = next(stream).to(real[1].device)
            parts.append((real[0][chosen], real[1][chosen]))
        if n_synthetic:
            chosen = torch.randint(len(synthetic[1]), (n_synthetic,), generator=generator)
            chosen = chosen.to(synthetic[1].device)
            parts.append((synthetic[0][chosen], synthetic[1][chosen]))
        yield tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))


def parameter_groups(
    network: nn.Module, weight_decay: float, undecayed: str
) -> list[dict[str, Any]]:
    """Parameters with and without weight decay.

    undecayed: 'none', 'norm' (those of BatchNorm, as in the authors' code) or 'norm_and_bias'.
    """
    if undecayed not in ("none", "norm", "norm_and_bias"):
        raise InputError(f"undecayed '{undecayed}': unknown; use none, norm or norm_and_bias")
    norms = {p for m in network.modules() if isinstance(m, BATCH_NORMS) for p in m.parameters()}
    free = set() if undecayed == "none" else norms
    if undecayed == "norm_and_bias":
        free = norms | {p for p in network.parameters() if p.ndim <= 1}
    decayed = [p for p in network.parameters() if p not in free]
    rest = [p for p in network.parameters() if p in free]
    groups = [(decayed, weight_decay), (rest, 0.0)]
    return [{"params": group, "weight_decay": decay} for group, decay in groups if group]


def train_robust_network(
    architecture: Mapping[str, Any],
    *,
    real: Images | None,
    synthetic: Images | None,
    validation: Images,
    classes: int,
    loss: str,
    eps: float,
    step_size: float,
    attack_steps: int,
    beta: float,
    label_smoothing: float,
    steps: int,
    batch: int,
    synthetic_share: float,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    undecayed: str = "norm",
    warmup: float,
    averaging: float,
    averaging_warmup: float = 0.025,
    shift: int,
    validate_every: int,
    validation_steps: int = 20,
    seed: int,
    progress: Iterable[int] | None = None,
) -> RobustTraining:
    """Build a network, train it for a fixed number of steps, and keep its averaged weights.

    architecture: its name and sizes, for build_network. real, synthetic, validation: (images
    (N, C, H, W) in [0, 1], labels (N,) int64), on one device; either of the first two may be None.
    loss: 'trades' or 'pgd' (beta counts for TRADES alone). eps, step_size: of the attack, in units
    of [0, 1]. warmup, averaging_warmup: as shares of the steps. SGD with Nesterov momentum.
    shift: largest random move of an image, in pixels.
    Every validate_every steps, and at the end, the averaged network is validated clean and under
    PGD on the margin (validation_steps steps, always from the same start); 'best' is the latest
    with the highest robust accuracy.
    Raises InputError for a loss that is not finite.
    """
    if loss not in ("trades", "pgd"):
        raise InputError(f"loss '{loss}': unknown; use trades or pgd")
    attack = {"eps": eps, "step_size": step_size}
    options = {"steps": attack_steps, "label_smoothing": label_smoothing, **attack}
    if loss == "trades":
        options["beta"] = beta
    loss_of = trades_loss if loss == "trades" else pgd_loss

    # network, optimiser, averaging and batches
    x = validation[0]
    network = build_network(
        **architecture, channels=x.shape[1], classes=classes, image_size=x.shape[-1], seed=seed
    ).to(x.device)
    stream = generator(seed, "batches")
    optimizer = torch.optim.SGD(
        parameter_groups(network, weight_decay, undecayed),
        lr=learning_rate,
        momentum=momentum,
        nesterov=momentum > 0,
        foreach=True,
    )
    averaged = AveragedNetwork(network, decay=averaging, warmup=round(averaging_warmup * steps))
    draws = mixed_batches(
        real, synthetic, batch=batch, synthetic_share=synthetic_share, generator=stream
    )

    result = RobustTraining(best=network, last=network)
    started, losses = time.monotonic(), []
    network.train()
    for step in progress if progress is not None else range(steps):
        # one step
        x, y = next(draws)
        x = shifted(x, shift, stream)
        rate = learning_rate_at(step, steps, learning_rate, warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        value = loss_of(network, x, y, generator=stream, **options)
        losses.append(finite(value.item(), "training loss", step))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        averaged.update(step)

        # validation of the averaged weights
        if (step + 1) % validate_every == 0 or step + 1 == steps:
            clean, robust = accuracies(
                averaged.network(),
                *validation,
                **attack,
                steps=validation_steps,
                generator=generator(seed, "validation"),
            )
            row = {
                "step": step + 1,
                "loss": sum(losses) / len(losses),
                "learning_rate": rate,
                "validation_clean": clean,
                "validation_robust": robust,
                "seconds": round(time.monotonic() - started, 2),
            }
            losses = []
            result.history.append(row)
            if robust >= result.best_row.get("validation_robust", -1.0):
                result.best_row, result.best = row, copy.deepcopy(averaged.network())
    result.last = averaged.network()
    return result


def summary(result: RobustTraining) -> dict[str, Any]:
    """The numbers of training.json: the best and the last validation, steps and parameters."""
    best, last = result.best_row, result.history[-1]
    return {
        "best_step": best["step"],
        "best_validation_robust": best["validation_robust"],
        "best_validation_clean": best["validation_clean"],
        "last_validation_robust": last["validation_robust"],
        "last_validation_clean": last["validation_clean"],
        "steps": last["step"],
        "parameters": sum(p.numel() for p in result.last.parameters()),
    }
