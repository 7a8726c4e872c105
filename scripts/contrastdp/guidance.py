"""Guidance: the gradient that is added to the predicted noise at every step (Algorithm 1).

A guidance is called with a coupled batch of states and returns one gradient per image; the sampler
knows nothing else about it. Contrastive guidance is one such; a classifier's gradient is another.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from contrastdp import contrast, noise
from contrastdp.records import InputError

Loss = Callable[[contrast.Pairs], Tensor]
ENCODER_INPUTS = ("unit", "raw")
PAIRS = ("previous", "real_positive", "real_negative", "class_conditional")
SEEN = ("state", "clean")
DIRECTIONS = ("gradient", "random")
PRECISIONS = ("float32", "bfloat16")
EVERY_STEP = (0, 1_000_000)


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
    guidance: Guidance, noise: Tensor, state: Tensor, timestep: int, abar: float
) -> tuple[Tensor, Tensor | None]:
    """e = eps_theta(x_t, t) + what the guidance adds (Algorithm 1), and how much that is.

    noise: eps_theta(x_t, t), and state: x_t, both (m, C, H, W); abar: of `timestep`. The size is
    the norm of what is added over that of the noise, (m,), None at a step without guidance.

    The DDIM step with e takes x_0 = (x_t - sqrt(1 - abar_t) e) / sqrt(abar_t), so adding g moves
    the predicted x_0 by -sqrt((1 - abar_t) / abar_t) g: it descends a loss whose gradient is added.
    A guidance on the predicted x_0 is differentiated with e held fixed, as if
    d x_0 / d x_t = 1 / sqrt(abar_t): no gradient goes through the denoiser.
    """
    at, observe = getattr(guidance, "at", "state"), getattr(guidance, "observe", None)
    clean = None
    if at == "clean" or observe is not None:
        clean = (state - (1 - abar) ** 0.5 * noise) / abar**0.5
    if observe is not None:
        observe(clean)
    added = guidance(clean if at == "clean" else state, timestep)
    if added is None:
        return noise, None
    if at == "clean":
        added = added / abar**0.5
    length = _norms(noise)
    if (clip := getattr(guidance, "clip", None)) is not None:
        added = added * (clip * length / _norms(added)).nan_to_num(1.0, posinf=1.0).clamp_max(1.0)
    return noise + added, (_norms(added) / length).flatten()


class EmbeddingHead(nn.Sequential):
    """The two-layer head on the encoder's features, trained with the same loss during sampling."""

    def __init__(self, features: int, embedding: int):
        super().__init__(nn.Linear(features, embedding), nn.ReLU(), nn.Linear(embedding, embedding))


# ---------------------------------------------------------------- contrastive guidance
@dataclass
class ContrastiveGuidance:
    """lambda grad_{x_t} loss over a guidance batch of m images; the loss is a mean over the batch.

    features: (m, C, H, W) in the encoder's range -> (m, D), frozen; loss: of Pairs; lambda_:
    the factor lambda.
    window: guided where window[0] <= t <= window[1], the first step aside, which has no earlier
    state. encoder_input: 'unit' maps the state from [-1, 1] to the encoder's [0, 1], 'raw' not.
    head: size of the embedding head, 0 for none; it starts each guidance batch from the state
    that (seed, first index) fixes and takes one Adam step per guided step, after the gradient.
    direction: 'gradient', or 'random' for the control that keeps each image's gradient norm and
    puts a random direction, fixed per image, in the gradient's place. micro_batch: how many images
    pass the encoder at once; the loss couples all m whatever it is. pairs: which entries attract
    and repel (C.1): 'previous', 'real_positive', 'real_negative', 'class_conditional'; real: (R, D)
    features of real images for the two that use them; normalise: features to unit length.
    labeler: (m, C, H, W) in [0, 1] -> logits, gives class-conditional pairs their classes where the
    batch has no labels. at, clip: as Guidance says. precision: 'bfloat16' runs the encoder in it
    where that is safe (autocast); the loss stays in float32.
    """

    features: Callable[[Tensor], Tensor]
    loss: Loss
    lambda_: float
    seed: int
    window: tuple[int, int] = EVERY_STEP
    encoder_input: str = "unit"
    head: int = 0
    head_learning_rate: float = 1e-2
    direction: str = "gradient"
    micro_batch: int | None = None
    pairs: str = "previous"
    real: Tensor | None = None
    normalise: bool = True
    at: str = "state"
    clip: float | None = None
    labeler: Callable[[Tensor], Tensor] | None = None
    precision: str = "float32"
    observe = None  # told the predicted x_0, while the labeler gives the classes

    def __post_init__(self) -> None:
        _check_settings(self)
        if self.pairs not in PAIRS:
            raise InputError(f"pairs is '{self.pairs}'; choose one of {', '.join(PAIRS)}")
        if self.pairs.startswith("real") and self.real is None:
            raise InputError(f"pairs '{self.pairs}' need features of real images; give real")

    def start(self, indices: list[int], timesteps: list[int], label: Tensor | None = None) -> None:
        if len(indices) < 2:
            raise InputError(f"a guidance batch of {len(indices)} has no negatives; use 2 or more")
        low, high = self.window
        self._indices, self._timesteps = indices, timesteps
        self._guided = {t for t in timesteps[1:] if low <= t <= high}
        # PAPER: real positives need no earlier state, so nothing is read ahead of a guided step
        needs_before = self.pairs != "real_positive"
        self._read_next = {a for a, b in pairwise(timesteps) if needs_before and b in self._guided}
        self._before: Tensor | None = None  # features of the previous state
        self._head: EmbeddingHead | None = None
        self._directions = _Directions(self.direction, self.seed, indices)
        self._start_classes(label)

    def __call__(self, state: Tensor, timestep: int) -> Tensor | None:
        if timestep not in self._guided:
            self._before = self._encode(state) if timestep in self._read_next else None
            return None
        if self.observe is not None:
            self._check_classes(timestep)
        self._before, gradient = self._gradient(state, self._before)
        _check_finite(gradient, timestep, self._timesteps, self._indices)
        return self.lambda_ * self._directions(gradient)

    # ---------------------------------------------------------------- classes
    def _start_classes(self, label: Tensor | None) -> None:
        self._label, self.observe, self._classes_seen = label, None, 0
        if self.pairs != "class_conditional":
            return
        if label is not None:
            if len(label.unique()) < 2:
                raise InputError(
                    f"class-conditional pairs: images {self._indices[0]} to {self._indices[-1]} "
                    f"are all of class {int(label[0])}, so there are no negatives; use a larger "
                    "batch or other pairs"
                )
        elif self.labeler is None:
            raise InputError(
                "class-conditional pairs need labels; sample a conditional generator or give a "
                "labeler"
            )
        else:
            self.observe = self._classify

    @torch.no_grad()
    def _classify(self, clean: Tensor) -> None:
        """Classes of an unconditional batch: the labeler's, of the predicted x_0.

        A step whose predictions are all of one class has no negatives and adds nothing.
        """
        # ASSUME: the paper does not say whence the classes come. The predicted x_0, clipped to
        # [0, 1], is what a labeler knows to read; x_t is mostly noise over half of the chain.
        pieces = ((clean + 1) / 2).clamp(0, 1).split(self.micro_batch or len(clean))
        self._label = torch.cat([self.labeler(piece).argmax(1) for piece in pieces])

    def _check_classes(self, timestep: int) -> None:
        """Raise at the last guided step if no step has seen two classes."""
        self._classes_seen = max(self._classes_seen, len(self._label.unique()))
        if self._classes_seen < 2 and timestep == min(self._guided):
            raise InputError(
                "class-conditional pairs: the labeler sees one class alone in images "
                f"{self._indices[0]} to {self._indices[-1]}, at every step, so there are no "
                "negatives; use a larger batch or a better labeler"
            )

    # ---------------------------------------------------------------- the gradient
    def _gradient(self, state: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Features (m, D) of `state` and grad_{x_t} loss (m, C, H, W).

        One forward and one backward of the encoder, on data alone: the features of the previous
        state were computed one step earlier. With micro-batches the loss is taken on all features
        first and a second forward carries its gradient back, piece by piece.
        """
        pieces = state.split(self.micro_batch or len(state))
        whole = len(pieces) == 1
        with torch.enable_grad():
            if whole:
                source = state.detach().requires_grad_()
                encoded = self._encode(source, with_graph=True)
            else:
                encoded = torch.cat([self._encode(piece) for piece in pieces])
            now = encoded.detach().requires_grad_()
            head = self._batch_head(now)
            parameters = [] if head is None else list(head.parameters())
            value = self.loss(self._pairs(now, before, head))
            on_features, *on_head = torch.autograd.grad(value, [now, *parameters])
            if whole:
                (gradient,) = torch.autograd.grad(encoded, source, on_features)
            else:
                gradient = torch.cat(
                    [
                        self._pull_back(piece, part)
                        for piece, part in zip(
                            pieces, on_features.split(self.micro_batch), strict=True
                        )
                    ]
                )
        if head is not None:
            for parameter, slope in zip(parameters, on_head, strict=True):
                parameter.grad = slope
            self._optimiser.step()
        return now.detach(), gradient

    def _pairs(self, now: Tensor, before: Tensor, head: EmbeddingHead | None) -> contrast.Pairs:
        def embed(features: Tensor) -> Tensor:
            embedded = features if head is None else head(features)
            return contrast.normalise(embedded) if self.normalise else embedded

        # PAPER: real images enter clean, at every t; the paper does not say whether they are noised
        if self.pairs == "real_positive":
            return contrast.real_positive_pairs(embed(now), embed(self.real))
        if self.pairs == "real_negative":
            return contrast.real_negative_pairs(embed(now), embed(before), embed(self.real))
        label = self._label if self.pairs == "class_conditional" else None
        return contrast.previous_state_pairs(embed(now), embed(before), label)

    def _pull_back(self, piece: Tensor, on_features: Tensor) -> Tensor:
        source = piece.detach().requires_grad_()
        return torch.autograd.grad(self._encode(source, with_graph=True), source, on_features)[0]

    def _encode(self, state: Tensor, with_graph: bool = False) -> Tensor:
        with torch.set_grad_enabled(with_graph), autocast(state.device, self.precision):
            found = self.features(encoder_view(state, self.encoder_input))
        return found if self.precision == "float32" else found.float()

    def _batch_head(self, features: Tensor) -> EmbeddingHead | None:
        """The head of this guidance batch, made on its first guided step."""
        if self.head and self._head is None:
            stream = noise.derive_seed(self.seed, "head", self._indices[0])
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(stream)
                head = EmbeddingHead(features.shape[1], self.head)
            self._head = head.to(features.device)
            self._optimiser = torch.optim.Adam(self._head.parameters(), lr=self.head_learning_rate)
        return self._head


# ---------------------------------------------------------------- classifier guidance
@dataclass
class ClassifierGuidance:
    """-s sqrt(1 - abar_t) grad_{x_t} log p(y | x_t): the probability of y rises.

    e - sqrt(1 - abar_t) s grad log p is the guided noise of DDIM in Dhariwal & Nichol (2021,
    Algorithm 2); with eta = 1 it moves the mean by s times the step's variance times the gradient,
    as in their Algorithm 1. Images are not coupled.

    classifier: (m, C, H, W) -> logits (m, classes), or of (x, t) with t (m,) int64 where
    time_dependent; lambda_: the scale s; abar: timestep -> abar_t, as scheduler.abar. y is the
    batch's label, or `target` for all, or, where there is neither, index mod classes. noise_factor:
    without it the factor sqrt(1 - abar_t) is left out, as the official code does. seed: of random
    directions. window, encoder_input, direction, micro_batch, at, clip, precision: as for
    ContrastiveGuidance; a first step is guided, too.
    """

    classifier: Callable[..., Tensor]
    lambda_: float
    abar: Callable[[int], float]
    seed: int = 0
    window: tuple[int, int] = EVERY_STEP
    encoder_input: str = "unit"
    direction: str = "gradient"
    time_dependent: bool = False
    target: int | None = None
    noise_factor: bool = True
    micro_batch: int | None = None
    at: str = "state"
    clip: float | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        _check_settings(self)

    def start(self, indices: list[int], timesteps: list[int], label: Tensor | None = None) -> None:
        self._indices, self._timesteps, self._label = indices, timesteps, label
        self._directions = _Directions(self.direction, self.seed, indices)

    def __call__(self, state: Tensor, timestep: int) -> Tensor | None:
        if not self.window[0] <= timestep <= self.window[1]:
            return None
        pieces = state.split(self.micro_batch or len(state))
        firsts = [sum(len(piece) for piece in pieces[:k]) for k in range(len(pieces))]
        slopes = [self._slope(*part, timestep) for part in zip(pieces, firsts, strict=True)]
        gradient = torch.cat(slopes)
        _check_finite(gradient, timestep, self._timesteps, self._indices)
        factor = (1 - self.abar(timestep)) ** 0.5 if self.noise_factor else 1.0
        return -self.lambda_ * factor * self._directions(gradient)

    def _slope(self, piece: Tensor, first: int, timestep: int) -> Tensor:
        """grad log p(y | x) of images first, first + 1, ... of the batch."""
        with torch.enable_grad(), autocast(piece.device, self.precision):
            source = piece.detach().requires_grad_()
            seen = encoder_view(source, self.encoder_input)
            when = torch.full((len(piece),), timestep, device=piece.device)
            logits = self.classifier(seen, when) if self.time_dependent else self.classifier(seen)
            label = self._targets(first, logits)
            log_p = logits.float().log_softmax(1).gather(1, label[:, None])
            return torch.autograd.grad(log_p.sum(), source)[0]

    def _targets(self, first: int, logits: Tensor) -> Tensor:
        stop = first + len(logits)
        if self.target is not None:
            return torch.full((len(logits),), self.target, device=logits.device)
        if self._label is not None:
            return self._label[first:stop].to(logits.device)
        return torch.tensor(self._indices[first:stop], device=logits.device) % logits.shape[1]


# ---------------------------------------------------------------- shared by both
def encoder_view(state: Tensor, encoder_input: str) -> Tensor:
    """A state in [-1, 1] as a network sees it: 'unit' maps it to [0, 1], 'raw' leaves it."""
    # ASSUME: the encoder sees the range it was trained on; the official code feeds [-1, 1]
    return (state + 1) / 2 if encoder_input == "unit" else state


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Run a network in `precision`: 'float32' as it is, 'bfloat16' under autocast."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def _check_settings(guidance: Any) -> None:
    for name, known in (
        ("encoder_input", ENCODER_INPUTS),
        ("at", SEEN),
        ("direction", DIRECTIONS),
        ("precision", PRECISIONS),
    ):
        if (value := getattr(guidance, name)) not in known:
            raise InputError(f"{name} is '{value}'; choose {' or '.join(known)}")
    if guidance.clip is not None and guidance.clip <= 0:
        raise InputError(f"clip is {guidance.clip}; it must be above 0, or left out")


class _Directions:
    """Gradients of a batch as they are, or, for 'random', their norms in other directions.

    The direction of an image follows from the seed and the image's index, and stays for all steps.
    """

    def __init__(self, direction: str, seed: int, indices: list[int]):
        self._random: Tensor | None = None
        self._wanted = direction == "random"
        self._seed, self._indices = noise.derive_seed(seed, "direction"), indices

    def __call__(self, gradient: Tensor) -> Tensor:
        if not self._wanted:
            return gradient
        if self._random is None:
            drawn = noise.ImageNoise(self._seed, self._indices, gradient.shape[1:])
            self._random = drawn.draw(gradient.device)
            self._random = self._random / _norms(self._random)
        return self._random * _norms(gradient)


def _check_finite(
    gradient: Tensor, timestep: int, timesteps: list[int], indices: list[int]
) -> None:
    bad = (~gradient.flatten(1).isfinite().all(1)).nonzero()
    if len(bad):
        raise InputError(
            f"guidance gradient of image {indices[int(bad[0])]} is not finite at step "
            f"{timesteps.index(timestep) + 1} of {len(timesteps)}, t = {timestep}; lower lambda or "
            "raise tau"
        )


def _norms(states: Tensor) -> Tensor:
    """Norm of each state (m, ...), shaped to multiply states."""
    return states.flatten(1).norm(dim=1).view(-1, *[1] * (states.ndim - 1))


# ---------------------------------------------------------------- from settings
LOSSES = ("infonce", "hnm", "classifier")


def build_guidance(
    features: Callable[[Tensor], Tensor] | None,
    *,
    loss: str,
    seed: int = 0,
    tau: float | None = None,
    tau_plus: float = 0.1,
    beta: float = 1.0,
    clamp: bool = False,
    window_low: int = EVERY_STEP[0],
    window_high: int = EVERY_STEP[1],
    **rest: Any,
) -> ContrastiveGuidance | ClassifierGuidance:
    """Guidance from a row's settings.

    loss: 'infonce' or 'hnm', contrastive, of `features`, with tau (and, for HNM, tau_plus, beta,
    clamp); or 'classifier', which reads `classifier` and `abar` of rest and no features. rest:
    further arguments of ContrastiveGuidance or ClassifierGuidance; `lambda` may stand for lambda_.
    Raises InputError for an unknown loss or setting.
    """
    if loss not in LOSSES:
        raise InputError(f"guidance loss is '{loss}'; choose one of {', '.join(LOSSES)}")
    if "lambda" in rest:
        rest["lambda_"] = rest.pop("lambda")
    rest["window"] = (window_low, window_high)
    try:
        if loss == "classifier":
            return ClassifierGuidance(seed=seed, **rest)
        if tau is None:
            raise InputError(f"guidance '{loss}' needs a temperature; give tau")
        value: Loss = partial(contrast.info_nce, tau=tau)
        if loss == "hnm":
            value = partial(
                contrast.hard_negative_mining, tau=tau, tau_plus=tau_plus, beta=beta, clamp=clamp
            )
        return ContrastiveGuidance(features, value, seed=seed, **rest)
    except TypeError as error:
        raise InputError(f"guidance '{loss}': {error}; correct its settings") from None
