"""Adversarial training on real and synthetic images: batches, schedule, averaging, validation."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from contrastdp.attack.pgd import PGD, accuracies
from contrastdp.data.tensors import batches
from contrastdp.errors import InputError, finite
from contrastdp.jobs.parallel import ALONE, Group
from contrastdp.jobs.resume import Resume
from contrastdp.networks.averaging import AveragedNetwork
from contrastdp.networks.batch_norm import BATCH_NORMS, share_batch_norm
from contrastdp.networks.build import build_network
from contrastdp.networks.execution import faster, having, training_pass
from contrastdp.streams import generator
from contrastdp.training.batches import Images, MixedBatches, augmented
from contrastdp.training.optimisation import parameter_groups, rates_at
from contrastdp.training.recipe import Recipe

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
    attack: PGD,
    start: torch.Tensor,
    *,
    micro_batch: int | None,
    group: Group = ALONE,
    **options: Any,
) -> float:
    """Add the gradient of a batch's mean loss to the parameters', and return that loss.

    loss: the function of a TrainingLoss, with its options; start: of the attack. micro_batch:
    images that pass through the network at once, all where None; loss and gradient are the same, up
    to rounding, for a network without BatchNorm; BatchNorm takes its statistics over a micro-batch,
    and updates the running ones once for each. group: of processes that all have the batch and
    divide each micro-batch among them; each ends with the whole gradient and loss.
    """
    total = 0.0
    for piece in batches(len(y), micro_batch or len(y)):
        own = group.part(piece)
        share = len(y[own]) / len(y)
        value = loss(network, x[own], y[own], replace(attack, start=start[own]), **options) * share
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
    recipe: Recipe,
    *,
    real: Images | None,
    synthetic: Images | None,
    validation: Images,
    classes: int,
    seed: int,
    progress: Callable[[range], Iterable[int]] = iter,
    resume: Resume | None = None,
    group: Group = ALONE,
) -> RobustTraining:
    """Build a network, train it for a fixed number of steps, and keep its averaged weights.

    architecture: its name and sizes, for build_network; recipe: how it is trained. real, synthetic,
    validation: (images (N, C, H, W) in [0, 1], labels (N,) int64), on one device; either of the
    first two may be None. 'best' is the latest validated network with the highest robust accuracy.
    progress: wraps the range of steps; resume: where a killed training's state is kept.
    group: the processes that train together, all called alike; what comes of it is the same within
    rounding, of BatchNorm too, whose statistics are over the images of all. In those but the first
    nothing is validated and the result holds no averaged network.
    Raises InputError for a loss that is not finite and for settings that do not fit.
    """
    optimisation, batch, passes = recipe.optimiser, recipe.batches.batch, recipe.passes
    averaging, validated = recipe.averaging, recipe.validation
    threat, steps = recipe.attack, optimisation.steps
    attack = PGD(eps=threat.eps, step_size=threat.step_size, steps=threat.attack_steps)
    group.check(batch, passes.micro_batch)

    # network, optimiser, averaging and batches
    x = validation[0]
    network = build_network(
        **architecture, channels=x.shape[1], classes=classes, image_size=x.shape[-1], seed=seed
    ).to(x.device)
    # On a processor torch 2 corrupts its memory where preact_resnet is trained in that layout.
    channels_last = passes.channels_last and x.device.type != "cpu"
    network = faster(network, channels_last=channels_last)
    trained = training_pass(network, precision=passes.precision, compiled=passes.compiled)
    stream = generator(seed, "batches")
    optimizer = torch.optim.SGD(
        parameter_groups(network, optimisation.weight_decay, optimisation.undecayed),
        lr=optimisation.learning_rate,
        momentum=optimisation.momentum,
        nesterov=optimisation.momentum > 0,
        foreach=True,
    )
    averaged = AveragedNetwork(
        network,
        decay=averaging.averaging,
        warmup=round(averaging.averaging_warmup * steps),
        statistics=averaging.averaged_statistics,
    )

    def draw(stream: torch.Generator) -> tuple[MixedBatches, Iterator[Images]]:
        own = recipe.batches
        mixed = MixedBatches(
            real, synthetic, batch=batch, synthetic_share=own.synthetic_share, generator=stream
        )
        return mixed, augmented(
            mixed,
            shift=own.shift,
            flip=own.flip,
            cutmix=own.cutmix,
            classes=classes,
            generator=stream,
        )

    # the average's stay its own
    share_batch_norm(network, group, compiled=passes.compiled is not None)
    norms = [module for module in network.modules() if isinstance(module, BATCH_NORMS)]
    at_first = optimisation.first_norm_momentum
    order, draws = draw(stream)
    held_out = validation_subset(validation, validated.validation_images)

    result = RobustTraining(best=network, last=network)
    result.passes = {
        "precision": passes.precision,
        "compiled": passes.compiled,
        "channels_last": passes.channels_last,
        "normalised_over": normalised_over(network, batch, passes.micro_batch),
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
            schedule=optimisation.schedule,
            steps=steps,
            epoch_steps=optimisation.epoch_steps,
            learning_rate=optimisation.learning_rate,
            momentum=optimisation.momentum,
            warmup=optimisation.warmup,
            cycle_momentum=optimisation.cycle_momentum,
        )
        for tuned in optimizer.param_groups:
            tuned["lr"], tuned["momentum"] = rate, speed
        optimizer.zero_grad(set_to_none=True)
        own = {} if step or at_first is None else {"momentum": at_first}
        with having(norms, **own):
            value = accumulate_gradient(
                recipe.loss.function,
                trained,
                x,
                y,
                attack,
                start,
                micro_batch=passes.micro_batch,
                group=group,
                **recipe.loss_settings,
            )
        losses.append(finite(value, "training loss", step))
        optimizer.step()
        averaged.update(step)

        # validation of the averaged weights
        if group.first and ((step + 1) % validated.validate_every == 0 or step + 1 == steps):
            result.last = averaged.network()
            if averaging.averaged_statistics == "recomputed":
                fixed = draw(generator(seed, "statistics"))[1]
                fixed = islice(fixed, averaging.statistics_batches)
                piece = passes.micro_batch or batch
                update_bn((v for x, _ in fixed for v in x.split(piece)), result.last)
            fresh = generator(seed, "validation")
            against = replace(attack, steps=validated.validation_steps, generator=fresh)
            clean, robust = accuracies(result.last, *held_out, against)
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
