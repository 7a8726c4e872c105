"""The optimiser's course: learning rate and momentum at a step, and what weight decay spares."""

import math
from typing import Any

from torch import nn

from contrastdp.errors import InputError
from contrastdp.networks.batch_norm import BATCH_NORMS
from contrastdp.networks.learning_rate import warmed_cosine

SCHEDULES = ("cosine", "one_cycle")
UNDECAYED = ("none", "norm", "norm_and_bias")
# divisors of the peak learning rate at both ends, and the range of momentum, of one_cycle
FIRST, LAST = 25.0, 25.0 * 1e4
MOMENTA = (0.85, 0.95)


def one_cycle_at(
    epoch: int, epochs: int, warmup: float, *, start: float, top: float, end: float
) -> float:
    """Half a cosine from start to top, then half a cosine to end (Smith & Topin 2018).

    epoch: counted from 0; top is reached in epoch warmup * epochs - 1 and end in the last one, as
    in torch's OneCycleLR.
    """
    turn = warmup * epochs - 1
    low, high, begin, finish = (
        (start, top, 0.0, turn) if epoch <= turn else (top, end, turn, epochs - 1)
    )
    # where the turn is the first epoch, the rise has no length
    passed = (epoch - begin) / (finish - begin) if finish > begin else 1.0
    return high + (low - high) * 0.5 * (1 + math.cos(math.pi * passed))


def rates_at(
    step: int,
    *,
    schedule: str,
    steps: int,
    epoch_steps: int,
    learning_rate: float,
    momentum: float,
    warmup: float,
    cycle_momentum: bool,
) -> tuple[float, float]:
    """Learning rate and momentum of optimiser step `step`, counted from 0.

    schedule: 'cosine' (warmed_cosine, a value a step) or 'one_cycle' (one_cycle_at, a value an
    epoch of epoch_steps steps): from learning_rate / 25 to learning_rate to learning_rate / 25e4.
    warmup: share of the steps, or of the epochs, that the rise takes. cycle_momentum: with
    one_cycle, momentum goes 0.95, 0.85, 0.95 in the place of `momentum`. Raises InputError for an
    unknown schedule, too few epochs, or a momentum cycle of another schedule.
    """
    if schedule not in SCHEDULES:
        raise InputError(f"schedule '{schedule}': unknown; use {' or '.join(SCHEDULES)}")
    if schedule == "cosine":
        if cycle_momentum:
            raise InputError("cycle_momentum: needs schedule one_cycle; set one of the two")
        rising = round(warmup * steps)
        return warmed_cosine(step, steps, warmup=rising, peak=learning_rate), momentum
    epochs = math.ceil(steps / epoch_steps)
    if epochs < 2:
        raise InputError(
            f"schedule one_cycle: {steps} steps are {epochs} epoch of {epoch_steps}; "
            "make them 2 epochs or more"
        )
    epoch = step // epoch_steps
    rate = one_cycle_at(
        epoch,
        epochs,
        warmup,
        start=learning_rate / FIRST,
        top=learning_rate,
        end=learning_rate / LAST,
    )
    if cycle_momentum:
        low, high = MOMENTA
        momentum = one_cycle_at(epoch, epochs, warmup, start=high, top=low, end=high)
    return rate, momentum


def parameter_groups(
    network: nn.Module, weight_decay: float, undecayed: str
) -> list[dict[str, Any]]:
    """Parameters with and without weight decay.

    undecayed: 'none', 'norm' (those of BatchNorm, as in the authors' code) or 'norm_and_bias'.
    """
    if undecayed not in UNDECAYED:
        raise InputError(f"undecayed '{undecayed}': unknown; use {', '.join(UNDECAYED)}")
    norms = {p for m in network.modules() if isinstance(m, BATCH_NORMS) for p in m.parameters()}
    free = set() if undecayed == "none" else norms
    if undecayed == "norm_and_bias":
        free = norms | {p for p in network.parameters() if p.ndim <= 1}
    decayed = [p for p in network.parameters() if p not in free]
    rest = [p for p in network.parameters() if p in free]
    groups = [(decayed, weight_decay), (rest, 0.0)]
    return [{"params": group, "weight_decay": decay} for group, decay in groups if group]
