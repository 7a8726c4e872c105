"""Adversarial training on real and synthetic images: batches, schedule, averaging, validation."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from contrastdp.attack.pgd import accuracies
from contrastdp.data.tensors import batches
from contrastdp.errors import InputError, finite
from contrastdp.jobs.parallel import ALONE, Group
from contrastdp.jobs.resume import Resume
from contrastdp.networks.averaging import AveragedNetwork
from contrastdp.networks.batch_norm import BATCH_NORMS, share_batch_norm
from contrastdp.networks.build import build_network
from contrastdp.networks.execution import faster, training_pass
from contrastdp.streams import generator
from contrastdp.training.batches import Images, MixedBatches, augmented
from contrastdp.training.losses import pgd_loss, trades_loss
from contrastdp.training.optimisation import parameter_groups, rates_at

HISTORY = ("step", "loss", "learning_rate", "validation_clean", "validation_robust", "seconds")


@dataclass
class RobustTraining:
    """What training leaves: two averaged networks, one row a validation, and the best row.

    passes: how the training passes were computed.
    """

    best: nn.Module
    last: nn.Module
    history: list[dict[str, Any]] = field(default_factory=list)
    best_row: dict[str, Any] = field(default_factory=dict)
    passes: dict[str, Any] = field(default_factory=dict)


# ---------------------------------------------------------------- passes through the network


def accumulate_gradient(
    loss: Callable[..., torch.Tensor],
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    start: torch.Tensor,
    *,
    micro_batch: int | None,
    group: Group = ALONE,
    **options: Any,
) -> float:
    """Add the gradient of a batch's mean loss to the parameters', and return that loss.

    loss: trades_loss or pgd_loss, with its options; start: as in pgd; micro_batch: images that
    pass through the network at once, all where None. Loss and gradient are the same, up to
    rounding, for a network without BatchNorm; BatchNorm takes its statistics over a micro-batch,
    and updates the running ones once for each. group: of processes that all have the batch and
    divide each micro-batch among them; each ends with the whole gradient and loss.
    """
    total = 0.0
    for piece in batches(len(y), micro_batch or len(y)):
        own = group.part(piece)
        share = len(y[own]) / len(y)
        value = loss(network, x[own], y[own], start=start[own], **options) * share
        value.backward()
        total += value.item()
    if group.size > 1:
        whole = torch.tensor(total, device=x.device)
        group.add_up_gradients(network.parameters(), whole)
        total = whole.item()
    return total


def normalised_over(network: nn.Module, batch: int, micro_batch: int | None) -> int | None:
    """Images that a training pass takes BatchNorm's statistics over; None without BatchNorm."""
    if not any(isinstance(module, BATCH_NORMS) for module in network.modules()):
        return None
    return min(batch, micro_batch or batch)


@contextmanager
def norm_momentum(network: nn.Module, momentum: float | None) -> Iterator[None]:
    """Give every BatchNorm another momentum inside the block; nothing changes where None."""
    norms = [module for module in network.modules() if isinstance(module, BATCH_NORMS)]
    own = [norm.momentum for norm in norms]
    for norm in norms if momentum is not None else []:
        norm.momentum = momentum
    try:
        yield
    finally:
        for norm, value in zip(norms, own, strict=True):
            norm.momentum = value


# ---------------------------------------------------------------- training
def validation_subset(validation: Images, count: int | None) -> Images:
    """`count` validation images at random, the same ones at every call; all where None.

    Raises InputError where there are fewer.
    """
    x, y = validation
    if count is None:
        return validation
    if not 1 <= count <= len(y):
        raise InputError(
            f"validation_images {count}: the validation split has {len(y)}; ask for 1 to {len(y)}"
        )
    # PAPER: the official code takes the first images, of which a sorted data set has few classes.
    order = torch.randperm(len(y), generator=generator(0, "validation images"))
    chosen = order[:count].sort().values.to(y.device)
    return x[chosen], y[chosen]


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
    epoch_steps: int = 1,
    batch: int,
    micro_batch: int | None = None,
    synthetic_share: float | str,
    schedule: str = "cosine",
    learning_rate: float,
    momentum: float,
    cycle_momentum: bool = False,
    weight_decay: float,
    undecayed: str = "norm",
    warmup: float,
    averaging: float,
    averaging_warmup: float = 0.025,
    averaged_statistics: str = "live",
    statistics_batches: int = 20,
    first_norm_momentum: float | None = None,
    shift: int,
    flip: bool = False,
    cutmix: float = 0.0,
    precision: str = "float32",
    channels_last: bool = False,
    compiled: str | None = None,
    validate_every: int,
    validation_steps: int = 20,
    validation_images: int | None = None,
    seed: int,
    progress: Callable[[range], Iterable[int]] = iter,
    resume: Resume | None = None,
    group: Group = ALONE,
) -> RobustTraining:
    """Build a network, train it for a fixed number of steps, and keep its averaged weights.

    architecture: its name and sizes, for build_network. real, synthetic, validation: (images
    (N, C, H, W) in [0, 1], labels (N,) int64), on one device; either of the first two may be None.
    loss: 'trades' or 'pgd' (beta counts for TRADES alone). eps, step_size: of the attack, in units
    of [0, 1].

    Optimiser: SGD with Nesterov momentum; schedule, epoch_steps, cycle_momentum and warmup as in
    rates_at; warmup, averaging_warmup: as shares of the steps. micro_batch: as in
    accumulate_gradient; the random draws do not depend on it. averaged_statistics: as in
    AveragedNetwork; 'recomputed' takes them from statistics_batches augmented training batches,
    the same before every validation. first_norm_momentum: of BatchNorm in the first step, 1 in the
    official code, where that step's statistics replace the initial ones (its own where None).

    Images: synthetic_share as in MixedBatches; shift: largest random move, in pixels; flip:
    mirrored half the time; cutmix: alpha of CutMix, 0 for none. precision, compiled: of the
    training passes, as in TrainingPass; the losses and every validation are float32.
    channels_last: memory layout of weights and images.

    Every validate_every steps, and at the end, the averaged network is validated clean and under
    PGD on the margin (validation_steps steps, always from the same start) on validation_images
    images, the same ones for every arm and seed (all where None); 'best' is the latest with the
    highest robust accuracy. progress: wraps the range of steps; resume: where a killed training's
    state is kept.
    group: the processes that train together, all called alike; what comes of it is the same within
    rounding, of BatchNorm too, whose statistics are over the images of all. In those but the first
    nothing is validated and the result holds no averaged network.
    Raises InputError for a loss that is not finite and for settings that do not fit.
    """
    if loss not in ("trades", "pgd"):
        raise InputError(f"loss '{loss}': unknown; use trades or pgd")
    if cutmix and not averaging:
        raise InputError("cutmix: helps averaged weights alone; set averaging above 0, or cutmix 0")
    attack: dict[str, Any] = {"eps": eps, "step_size": step_size}
    options = {"steps": attack_steps, "label_smoothing": label_smoothing, **attack}
    if loss == "trades":
        options["beta"] = beta
    loss_of = trades_loss if loss == "trades" else pgd_loss
    group.check(batch, micro_batch)

    # network, optimiser, averaging and batches
    x = validation[0]
    network = build_network(
        **architecture, channels=x.shape[1], classes=classes, image_size=x.shape[-1], seed=seed
    ).to(x.device)
    network = faster(network, channels_last=channels_last)
    trained = training_pass(network, precision=precision, compiled=compiled)
    stream = generator(seed, "batches")
    optimizer = torch.optim.SGD(
        parameter_groups(network, weight_decay, undecayed),
        lr=learning_rate,
        momentum=momentum,
        nesterov=momentum > 0,
        foreach=True,
    )
    averaged = AveragedNetwork(
        network,
        decay=averaging,
        warmup=round(averaging_warmup * steps),
        statistics=averaged_statistics,
    )

    def draw(stream: torch.Generator) -> tuple[MixedBatches, Iterator[Images]]:
        mixed = MixedBatches(
            real, synthetic, batch=batch, synthetic_share=synthetic_share, generator=stream
        )
        return mixed, augmented(
            mixed, shift=shift, flip=flip, cutmix=cutmix, classes=classes, generator=stream
        )

    share_batch_norm(network, group, compiled=compiled is not None)  # the average's stay its own
    order, draws = draw(stream)
    held_out = validation_subset(validation, validation_images)

    result = RobustTraining(best=network, last=network)
    result.passes = {
        "precision": precision,
        "compiled": compiled,
        "channels_last": channels_last,
        "normalised_over": normalised_over(network, batch, micro_batch),
        "processes": group.size,
    }
    parts = {"network": network, "optimizer": optimizer, "averaged": averaged}
    parts |= {"stream": stream, "order": order}
    first, kept = resume.restore(parts) if resume else (0, {})
    result.history, losses = kept.get("history", []), kept.get("losses", [])
    started = time.monotonic() - kept.get("seconds", 0.0)
    if kept and kept["best"] is not None:
        result.best_row, result.best = kept["best_row"], copy.deepcopy(averaged.network())
        result.best.load_state_dict(kept["best"], strict=True)
    trained.train()
    for step in progress(range(first, steps)):
        # one step
        x, y = next(draws)
        start = torch.rand(x.shape, generator=stream)
        if channels_last:
            x, start = (v.contiguous(memory_format=torch.channels_last) for v in (x, start))
        rate, speed = rates_at(
            step,
            schedule=schedule,
            steps=steps,
            epoch_steps=epoch_steps,
            learning_rate=learning_rate,
            momentum=momentum,
            warmup=warmup,
            cycle_momentum=cycle_momentum,
        )
        for tuned in optimizer.param_groups:
            tuned["lr"], tuned["momentum"] = rate, speed
        optimizer.zero_grad(set_to_none=True)
        with norm_momentum(network, first_norm_momentum if step == 0 else None):
            value = accumulate_gradient(
                loss_of, trained, x, y, start, micro_batch=micro_batch, group=group, **options
            )
        losses.append(finite(value, "training loss", step))
        optimizer.step()
        averaged.update(step)

        # validation of the averaged weights
        if group.first and ((step + 1) % validate_every == 0 or step + 1 == steps):
            result.last = averaged.network()
            if averaged_statistics == "recomputed":
                fixed = islice(draw(generator(seed, "statistics"))[1], statistics_batches)
                update_bn((v for x, _ in fixed for v in x.split(micro_batch or batch)), result.last)
            clean, robust = accuracies(
                result.last,
                *held_out,
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
                result.best_row, result.best = row, copy.deepcopy(result.last)

        # what a run after a kill needs
        if resume and step + 1 < steps and resume.due():
            values = {"history": result.history, "best_row": result.best_row, "losses": losses}
            values["best"] = result.best.state_dict() if result.best_row else None
            values["seconds"] = time.monotonic() - started
            resume.save(step + 1, parts, values)
    return result


def summary(result: RobustTraining) -> dict[str, Any]:
    """training.json: the best and the last validation, steps and parameters."""
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
