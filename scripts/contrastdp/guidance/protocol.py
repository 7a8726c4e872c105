"""Guidance: the gradient that is added to the predicted noise at every step (Algorithm 1).

A guidance is called with a coupled batch of states and returns one gradient per image; the sampler
knows nothing else about it. Contrastive guidance is one such; a classifier's gradient is another;
several may be added up (Sum).
To add one, enter a dataclass in GUIDANCES; its fields are its settings, and some are given to it
(build.py says which).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from numbers import Integral, Real
from typing import Any, Protocol

import torch
from torch import Tensor

from contrastdp.errors import InputError
from contrastdp.networks.execution import check_precision
from contrastdp.registry import Registry
from contrastdp.streams import ImageNoise, derive_seed

ENCODER_INPUTS = ("unit", "raw")
SEEN = ("state", "clean")
DIRECTIONS = ("gradient", "random")
MOVES = ("noise", "mean")
EVERY_STEP = (0, 1_000_000)

GUIDANCES = Registry("guidance loss")


class Guidance(Protocol):
    """What the sampler asks of a guidance.

    Four attributes are heeded by guided_noise where a guidance has them. `at`: 'state', to be
    called with x_t, or 'clean', with the predicted x_0. `clip`: the largest norm that may be added
    to an image's noise, in norms of that noise. `observe(clean)`, unless None: told the predicted
    x_0 (m, C, H, W) before each call. `moves`: 'noise', or 'mean', to be called with StepMean's
    unit, too: what it returns is not added to the noise, but moves the step's mean as far.
    """

    def start(self, indices: list[int], timesteps: list[int], label: Tensor | None = None) -> None:
        """Begin a batch: images `indices`, sampled along `timesteps`; forget earlier batches.

        label: (m,) class of each image of the batch, where it is known.
        """

    def __call__(self, state: Tensor, timestep: int) -> Tensor | None:
        """What to add to the predicted noise of `state` (m, C, H, W) at `timestep`; None: nothing.

        Called once at every step, guided or not, in the order of sampling.
        """


class Sum(Protocol):
    """Guidances that are added up: guided_noise calls each of the parts as if it stood alone."""

    parts: Sequence[Guidance]

    def start(self, indices: list[int], timesteps: list[int], label: Tensor | None = None) -> None:
        """Begin a batch in all parts, as Guidance says."""

    def directed(self, added: dict[str, Tensor]) -> dict[str, Tensor]:
        """What all parts add, by what it moves, as they do or in another direction."""


@dataclass
class StepMean:
    """The mean of the step that is taken, for guidances that move it.

    unit: the step's variance over d mean / d e where nothing is clipped, a number or (m, C, H, W).
    Times a gradient it is what would move the mean by the variance times the gradient, were it
    added to e: so a guidance has one size, whatever it moves. moved: what the mean is to move by,
    in this measure, (m, C, H, W); None where nothing moves it.
    """

    unit: Tensor | float
    moved: Tensor | None = None


def check_moves(guidance: Guidance | Sum, eta: float) -> None:
    """Raise InputError where a guidance moves the mean by the variance of steps that have none."""
    if not eta and any(_moves(part) == "mean" for part in _parts(guidance)):
        raise InputError(
            "the guidance moves the mean by the step's variance, which is 0 with eta 0; use eta "
            "above 0, or moves 'noise'"
        )


def guided_noise(
    guidance: Guidance | Sum,
    noise: Tensor,
    state: Tensor,
    timestep: int,
    abar: float,
    clean_of: Callable[[], Tensor] | None = None,
    mean: StepMean | None = None,
) -> tuple[Tensor, Tensor | None]:
    """e = eps_theta(x_t, t) + what the guidance adds (Algorithm 1), and how much that is.

    noise: eps_theta(x_t, t), and state: x_t, both (m, C, H, W); abar: of `timestep`; clean_of: the
    predicted x_0, by default that of the noise; mean: of the step, which receives what moves it.
    The size is the norm of all that is added, to noise or mean, over that of the noise, (m,), None
    at a step without guidance.

    The DDIM step with e takes x_0 = (x_t - sqrt(1 - abar_t) e) / sqrt(abar_t), so adding g moves
    the predicted x_0 by -sqrt((1 - abar_t) / abar_t) g: it descends a loss whose gradient is added.
    A guidance on the predicted x_0 is differentiated with e held fixed, as if
    d x_0 / d x_t = 1 / sqrt(abar_t): no gradient goes through the denoiser. Where abar_t = 0 (zero
    terminal SNR) nothing is added: any g would move x_0 without bound.
    """
    found: dict[str, list[Tensor]] = {}
    for part in _parts(guidance):
        added = _added(part, noise, state, timestep, abar, clean_of, mean)
        if added is not None:
            found.setdefault(_moves(part), []).append(added)
    if not found:
        return noise, None
    sums = {moves: reduce(torch.add, added) for moves, added in found.items()}
    if directed := getattr(guidance, "directed", None):
        sums = directed(sums)
    size = (norms(reduce(torch.add, sums.values())) / norms(noise)).flatten()
    if mean is not None:
        mean.moved = sums.get("mean")
    return noise + sums["noise"] if "noise" in sums else noise, size


def _added(
    guidance: Any,
    noise: Tensor,
    state: Tensor,
    timestep: int,
    abar: float,
    clean_of: Callable[[], Tensor] | None,
    mean: StepMean | None,
) -> Tensor | None:
    """What one guidance adds, clipped; None at a step that it does not guide."""
    at, observe = getattr(guidance, "at", "state"), getattr(guidance, "observe", None)
    clean = None
    if at == "clean" or observe is not None:
        clean = clean_of() if clean_of else (state - (1 - abar) ** 0.5 * noise) / abar**0.5
    if observe is not None:
        observe(clean)
    given = [state if clean is None or at != "clean" else clean, timestep]
    if _moves(guidance) == "mean":
        if mean is None:
            raise InputError("the guidance moves the step's mean, and none is given; give mean")
        given.append(mean.unit)
    added = guidance(*given)
    if added is None or abar == 0:
        return None
    if at == "clean":
        added = added / abar**0.5
    if (clip := getattr(guidance, "clip", None)) is not None:
        most = clip * norms(noise) / norms(added)
        added = added * most.nan_to_num(1.0, posinf=1.0).clamp_max(1.0)
    return added


def _parts(guidance: Any) -> Sequence[Any]:
    return getattr(guidance, "parts", (guidance,))


def _moves(guidance: Any) -> str:
    return getattr(guidance, "moves", "noise")


# ---------------------------------------------------------------- what every guidance shares
def encoder_view(state: Tensor, encoder_input: str) -> Tensor:
    """A state in [-1, 1] as a network sees it: 'unit' maps it to [0, 1], 'raw' leaves it."""
    # ASSUME: the encoder sees the range it was trained on; the official code feeds [-1, 1]
    return (state + 1) / 2 if encoder_input == "unit" else state


def check_settings(guidance: Any) -> None:
    """Raise InputError where a setting that every guidance has is unknown or out of range."""
    for name, known in (
        ("encoder_input", ENCODER_INPUTS),
        ("at", SEEN),
        ("direction", DIRECTIONS),
    ):
        check_choice(name, getattr(guidance, name), known)
    check_precision(guidance.precision)
    check_number("lambda", guidance.lambda_)
    check_number("clip", guidance.clip, above=0, optional=True)
    check_number("micro_batch", guidance.micro_batch, whole=True, least=1, optional=True)
    low, high = guidance.window
    check_number("window_low", low, whole=True)
    check_number("window_high", high, whole=True, least=low)


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """Raise InputError where a setting is none of the known words."""
    if value not in known:
        raise InputError(f"{name} is '{value}'; choose {' or '.join(known)}")


def check_timeless(network: Any, what: str) -> None:
    """Raise InputError where a network, or the one whose method is given, must be told t."""
    if getattr(getattr(network, "__self__", network), "time_dependent", False):
        raise InputError(
            f"the {what} is a time-dependent classifier, which reads x_t and t; name a classifier "
            "of images"
        )


def check_classifier(network: Any, path: str, classes: int, schedule: Tensor | None) -> None:
    """Raise InputError where a classifier has other classes, or was trained under other noise."""
    if (own := network.settings["classes"]) != classes:
        raise InputError(
            f"{path}: has {own} classes, the images {classes}; name another classifier"
        )
    if not getattr(network, "time_dependent", False) or schedule is None:
        return
    abar: Any = network.abar
    if len(abar) != len(schedule):
        raise InputError(
            f"{path}: was trained for {len(abar)} timesteps, the denoiser for {len(schedule)}; "
            "train it under the denoiser's noise schedule"
        )
    abar = abar.double().cpu()
    if not torch.allclose(abar, schedule.double().cpu(), rtol=1e-4, atol=1e-7):
        raise InputError(
            f"{path}: was trained under another noise schedule than the denoiser (abar differs); "
            "train it under the denoiser's"
        )


def check_number(
    name: str,
    value: Any,
    *,
    whole: bool = False,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
    optional: bool = False,
) -> None:
    """Raise InputError where a setting is not a finite number (`whole`: an integer) in its range.

    least, most: bounds that belong to the range; above, below: bounds that do not; optional: None
    is right as well.
    """
    if optional and value is None:
        return
    if isinstance(value, Integral if whole else Real) and not isinstance(value, bool):
        number: Any = value if whole else float(value)
        if math.isfinite(number) and least <= number <= most and above < number < below:
            return
    bounds = {"from": least, "above": above, "below": below, "up to": most}
    range_ = " ".join(f"{word} {bound}" for word, bound in bounds.items() if math.isfinite(bound))
    kind = "a whole number" if whole else "a finite number"
    raise InputError(f"{name} is {value!r}; it must be {' '.join(filter(None, (kind, range_)))}")


class Directions:
    """Gradients of a batch as they are, or, for 'random', their norms in other directions.

    The direction of an image follows from the seed and the image's index, and stays for all steps.
    """

    def __init__(self, direction: str, seed: int, indices: list[int]):
        self._random: Tensor | None = None
        self._wanted = direction == "random"
        self._seed, self._indices = derive_seed(seed, "direction"), indices

    def __call__(self, gradient: Tensor) -> Tensor:
        if not self._wanted:
            return gradient
        if self._random is None:
            drawn = ImageNoise(self._seed, self._indices, gradient.shape[1:])
            self._random = drawn.draw(gradient.device)
            self._random = self._random / norms(self._random)
        return self._random * norms(gradient)


def check_finite(
    gradient: Tensor, state: Tensor, timestep: int, timesteps: list[int], indices: list[int]
) -> None:
    """Raise InputError, naming the image, where the gradient (m, C, H, W) at `state` is not finite.

    Where the state is not, the denoiser or earlier guidance is to blame, else the loss.
    """
    bad = (~gradient.flatten(1).isfinite().all(1)).nonzero()
    if not len(bad):
        return
    first = int(bad[0])
    broken = not bool(state[first].isfinite().all())
    raise InputError(
        f"{'what the guidance sees' if broken else 'guidance gradient'} of image {indices[first]} "
        f"is not finite at step {timesteps.index(timestep) + 1} of {len(timesteps)}, "
        f"t = {timestep}; "
        + ("check the denoiser, or lower lambda" if broken else "raise tau, or check the network")
    )


def guided_timesteps(timesteps: list[int], window: tuple[int, int], *, first: bool) -> set[int]:
    """The timesteps that are guided: those in the window; first: the chain's first among them.

    Raises InputError where there is none.
    """
    low, high = window
    guided = {t for t in timesteps[0 if first else 1 :] if low <= t <= high}
    if not guided:
        before = "" if first else " after the first, which has no earlier state,"
        raise InputError(
            f"no timestep of the chain{before} lies in the window from {low} to {high}, so none is "
            "guided; widen window_low and window_high, or take more steps"
        )
    return guided


def norms(states: Tensor) -> Tensor:
    """Norm of each state (m, ...), shaped to multiply states."""
    return states.flatten(1).norm(dim=1).view(-1, *[1] * (states.ndim - 1))
