"""Guidance: the gradient that is added to the predicted noise at every step (Algorithm 1).

A guidance is called with a coupled batch of states and returns one gradient per image; the sampler
knows nothing else about it. Contrastive guidance is one such; a classifier's gradient is another.
To add one, enter a dataclass in GUIDANCES; its fields are its settings, and some are given to it
(build.py says which).
"""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Protocol

from torch import Tensor

from contrastdp.errors import InputError
from contrastdp.networks.execution import check_precision
from contrastdp.registry import Registry
from contrastdp.streams import ImageNoise, derive_seed

ENCODER_INPUTS = ("unit", "raw")
SEEN = ("state", "clean")
DIRECTIONS = ("gradient", "random")
EVERY_STEP = (0, 1_000_000)

GUIDANCES = Registry("guidance loss")


class Guidance(Protocol):
    """What the sampler asks of a guidance.

    Three attributes are heeded by guided_noise where a guidance has them. `at`: 'state', to be
    called with x_t, or 'clean', with the predicted x_0. `clip`: the largest norm that may be added
    to an image's noise, in norms of that noise. `observe(clean)`, unless None: told the predicted
    x_0 (m, C, H, W) before each call.
    """

    def start(self, indices: list[int], timesteps: list[int], label: Tensor | None = None) -> None:
        """Begin a batch: images `indices`, sampled along `timesteps`; forget earlier batches.

        label: (m,) class of each image of the batch, where it is known.
        """

    def __call__(self, state: Tensor, timestep: int) -> Tensor | None:
        """What to add to the predicted noise of `state` (m, C, H, W) at `timestep`; None: nothing.

        Called once at every step, guided or not, in the order of sampling.
        """


def guided_noise(
    guidance: Guidance,
    noise: Tensor,
    state: Tensor,
    timestep: int,
    abar: float,
    clean_of: Callable[[], Tensor] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """e = eps_theta(x_t, t) + what the guidance adds (Algorithm 1), and how much that is.

    noise: eps_theta(x_t, t), and state: x_t, both (m, C, H, W); abar: of `timestep`; clean_of: the
    predicted x_0, by default that of the noise. The size is the norm of what is added over that of
    the noise, (m,), None at a step without guidance.

    The DDIM step with e takes x_0 = (x_t - sqrt(1 - abar_t) e) / sqrt(abar_t), so adding g moves
    the predicted x_0 by -sqrt((1 - abar_t) / abar_t) g: it descends a loss whose gradient is added.
    A guidance on the predicted x_0 is differentiated with e held fixed, as if
    d x_0 / d x_t = 1 / sqrt(abar_t): no gradient goes through the denoiser. Where abar_t = 0 (zero
    terminal SNR) nothing is added: any g would move x_0 without bound.
    """
    at, observe = getattr(guidance, "at", "state"), getattr(guidance, "observe", None)
    clean = None
    if at == "clean" or observe is not None:
        clean = clean_of() if clean_of else (state - (1 - abar) ** 0.5 * noise) / abar**0.5
    if observe is not None:
        observe(clean)
    added = guidance(state if clean is None or at != "clean" else clean, timestep)
    if added is None or abar == 0:
        return noise, None
    if at == "clean":
        added = added / abar**0.5
    length = _norms(noise)
    if (clip := getattr(guidance, "clip", None)) is not None:
        added = added * (clip * length / _norms(added)).nan_to_num(1.0, posinf=1.0).clamp_max(1.0)
    return noise + added, (_norms(added) / length).flatten()


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
        if (value := getattr(guidance, name)) not in known:
            raise InputError(f"{name} is '{value}'; choose {' or '.join(known)}")
    check_precision(guidance.precision)
    check_number("lambda", guidance.lambda_)
    check_number("clip", guidance.clip, above=0, optional=True)
    check_number("micro_batch", guidance.micro_batch, whole=True, least=1, optional=True)
    low, high = guidance.window
    check_number("window_low", low, whole=True)
    check_number("window_high", high, whole=True, least=low)


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
            self._random = self._random / _norms(self._random)
        return self._random * _norms(gradient)


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


def _norms(states: Tensor) -> Tensor:
    """Norm of each state (m, ...), shaped to multiply states."""
    return states.flatten(1).norm(dim=1).view(-1, *[1] * (states.ndim - 1))
