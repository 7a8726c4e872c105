"""Classifier guidance (Dhariwal & Nichol 2021)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from contrastdp.errors import InputError
from contrastdp.guidance.protocol import (
    EVERY_STEP,
    GUIDANCES,
    MOVES,
    Directions,
    check_choice,
    check_finite,
    check_number,
    check_settings,
    encoder_view,
    guided_timesteps,
)
from contrastdp.networks.execution import autocast


@GUIDANCES.enter("classifier")
@dataclass
class ClassifierGuidance:
    """-s sqrt(1 - abar_t) grad_{x_t} log p(y | x_t): the probability of y rises.

    moves 'noise': e - sqrt(1 - abar_t) s grad log p is the guided noise of DDIM in Dhariwal &
    Nichol (2021, Algorithm 2). With eta = 1 it moves the mean by s beta / sqrt(alpha) times the
    gradient, alpha = abar_t / abar_s of the step from t to s and beta = 1 - alpha, whatever the
    variance. moves 'mean' is their Algorithm 1, mu + s Sigma_t grad log p with the step's variance
    Sigma_t: about as much with fixed_large, which is beta, and less with fixed_small, which is beta
    (1 - abar_s) / (1 - abar_t). Images are not coupled.

    classifier: (m, C, H, W) -> logits (m, classes); one whose attribute time_dependent is true is
    called with (x_t, t), x_t as it is and t (m,) int64, the timestep of the whole chain. lambda_:
    the scale s; abar: timestep -> abar_t, as scheduler.abar. y is the batch's label, or `target`
    for all, or, where there is neither, index mod classes. encoder_input: by default 'unit', 'raw'
    where the classifier is time-dependent. noise_factor: without it the factor sqrt(1 - abar_t) of
    moves 'noise' is left out, as the official code does. seed: of random directions. window,
    direction, micro_batch, at, clip, precision: as for ContrastiveGuidance; a first step is
    guided, too.
    """

    classifier: Callable[..., Tensor]
    lambda_: float
    abar: Callable[[int], float]
    seed: int = 0
    window: tuple[int, int] = EVERY_STEP
    encoder_input: str | None = None
    direction: str = "gradient"
    moves: str = "noise"
    target: int | None = None
    noise_factor: bool = True
    micro_batch: int | None = None
    at: str = "state"
    clip: float | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        self._time_dependent = getattr(self.classifier, "time_dependent", False)
        self._view: str = self.encoder_input or ("raw" if self._time_dependent else "unit")
        self.encoder_input = self._view
        check_settings(self)
        check_choice("moves", self.moves, MOVES)
        if self.moves == "mean" and not self.noise_factor:
            raise InputError("noise_factor is of moves 'noise'; leave it out where the mean moves")
        if self._time_dependent and (self._view, self.at) != ("raw", "state"):
            raise InputError(
                f"encoder_input is '{self._view}' and at is '{self.at}'; a time-dependent "
                "classifier sees x_t as it is, so choose raw and state"
            )
        check_number("target", self.target, whole=True, least=0, optional=True)

    def start(self, indices: list[int], timesteps: list[int], label: Tensor | None = None) -> None:
        self._indices, self._timesteps, self._label = indices, timesteps, label
        self._guided = guided_timesteps(timesteps, self.window, first=True)
        known = (
            [self.target] if self.target is not None else [] if label is None else label.tolist()
        )
        self._largest = max(known, default=0)
        self._directions = Directions(self.direction, self.seed, indices)

    def __call__(
        self, state: Tensor, timestep: int, unit: Tensor | float | None = None
    ) -> Tensor | None:
        if timestep not in self._guided:
            return None
        pieces = state.split(self.micro_batch or len(state))
        firsts = [sum(len(piece) for piece in pieces[:k]) for k in range(len(pieces))]
        slopes = [self._slope(*part, timestep) for part in zip(pieces, firsts, strict=True)]
        gradient = torch.cat(slopes)
        check_finite(gradient, state, timestep, self._timesteps, self._indices)
        if self.moves == "mean":
            assert unit is not None
            return self.lambda_ * self._directions(unit * gradient)
        factor = (1 - self.abar(timestep)) ** 0.5 if self.noise_factor else 1.0
        return -self.lambda_ * factor * self._directions(gradient)

    def _slope(self, piece: Tensor, first: int, timestep: int) -> Tensor:
        """grad log p(y | x) of images first, first + 1, ... of the batch."""
        with torch.enable_grad(), autocast(piece.device, self.precision):
            source = piece.detach().requires_grad_()
            given = [encoder_view(source, self._view)]
            if self._time_dependent:
                given.append(torch.full((len(piece),), timestep, device=piece.device))
            logits = self.classifier(*given)
            label = self._targets(first, logits)
            log_p = logits.float().log_softmax(1).gather(1, label[:, None])
            return torch.autograd.grad(log_p.sum(), source)[0]

    def _targets(self, first: int, logits: Tensor) -> Tensor:
        stop, classes = first + len(logits), logits.shape[1]
        if self._largest >= classes:
            raise InputError(
                f"images are guided to class {self._largest} and the classifier has {classes} "
                "classes; give one that knows the class"
            )
        if self.target is not None:
            return torch.full((len(logits),), self.target, device=logits.device)
        if self._label is not None:
            return self._label[first:stop].to(logits.device)
        return torch.tensor(self._indices[first:stop], device=logits.device) % classes
