"""Guidance: the gradient that is added to the predicted noise at every step (Algorithm 1).

A guidance is called with a coupled batch of states and returns one gradient per image; the sampler
knows nothing else about it. Contrastive guidance is one such; a classifier's gradient is another.
"""

from collections.abc import Callable
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


class Guidance(Protocol):
    """What the sampler asks of a guidance."""

    def start(self, indices: list[int], timesteps: list[int], label: Tensor | None = None) -> None:
        """Begin a batch: images `indices`, sampled along `timesteps`; forget earlier batches.

        label: (m,) class of each image of the batch, where it is known.
        """

    def __call__(self, state: Tensor, timestep: int) -> Tensor | None:
        """What to add to the predicted noise of `state` (m, C, H, W) at `timestep`; None: nothing.

        Called once at every step, guided or not, in the order of sampling.
        """


class EmbeddingHead(nn.Sequential):
    """The two-layer head on the encoder's features, trained with the same loss during sampling."""

    def __init__(self, features: int, embedding: int):
        super().__init__(nn.Linear(features, embedding), nn.ReLU(), nn.Linear(embedding, embedding))


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
    """

    features: Callable[[Tensor], Tensor]
    loss: Loss
    lambda_: float
    seed: int
    window: tuple[int, int] = (0, 1_000_000)
    encoder_input: str = "unit"
    head: int = 0
    head_learning_rate: float = 1e-2
    direction: str = "gradient"
    micro_batch: int | None = None
    pairs: str = "previous"
    real: Tensor | None = None
    normalise: bool = True

    def __post_init__(self) -> None:
        if self.encoder_input not in ENCODER_INPUTS:
            raise InputError(
                f"encoder_input is '{self.encoder_input}'; choose {' or '.join(ENCODER_INPUTS)}"
            )
        if self.direction not in ("gradient", "random"):
            raise InputError(f"direction is '{self.direction}'; choose gradient or random")
        if self.pairs not in PAIRS:
            raise InputError(f"pairs is '{self.pairs}'; choose one of {', '.join(PAIRS)}")
        if self.pairs.startswith("real") and self.real is None:
            raise InputError(f"pairs '{self.pairs}' need features of real images; give real")

    def start(self, indices: list[int], timesteps: list[int], label: Tensor | None = None) -> None:
        if len(indices) < 2:
            raise InputError(f"a guidance batch of {len(indices)} has no negatives; use 2 or more")
        if self.pairs == "class_conditional" and label is None:
            raise InputError("class-conditional pairs need labels; sample a conditional generator")
        low, high = self.window
        self._indices, self._label = indices, label
        self._guided = {t for t in timesteps[1:] if low <= t <= high}
        self._read_next = {a for a, b in pairwise(timesteps) if b in self._guided}
        self._before: Tensor | None = None  # features of the previous state
        self._head: EmbeddingHead | None = None
        self._random: Tensor | None = None

    def __call__(self, state: Tensor, timestep: int) -> Tensor | None:
        if timestep not in self._guided:
            self._before = self._encode(state) if timestep in self._read_next else None
            return None
        self._before, gradient = self._gradient(state, self._before)
        self._check(gradient, timestep)
        if self.direction == "random":
            gradient = self._redirected(gradient)
        return self.lambda_ * gradient

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
        with torch.set_grad_enabled(with_graph):
            # ASSUME: the encoder sees the range it was trained on; the official code feeds [-1, 1]
            return self.features((state + 1) / 2 if self.encoder_input == "unit" else state)

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

    def _redirected(self, gradient: Tensor) -> Tensor:
        if self._random is None:
            drawn = noise.ImageNoise(
                noise.derive_seed(self.seed, "direction"), self._indices, gradient.shape[1:]
            ).draw(gradient.device)
            self._random = drawn / _norms(drawn)
        return self._random * _norms(gradient)

    def _check(self, gradient: Tensor, timestep: int) -> None:
        bad = (~gradient.flatten(1).isfinite().all(1)).nonzero()
        if len(bad):
            raise InputError(
                f"guidance gradient of image {self._indices[int(bad[0])]} is not finite at "
                f"t = {timestep}; lower lambda or raise tau"
            )


def _norms(states: Tensor) -> Tensor:
    """Norm of each state (m, ...), shaped to multiply states."""
    return states.flatten(1).norm(dim=1).view(-1, *[1] * (states.ndim - 1))


LOSSES = ("infonce", "hnm")


def build_guidance(
    features: Callable[[Tensor], Tensor],
    *,
    loss: str,
    seed: int,
    tau: float,
    tau_plus: float = 0.1,
    beta: float = 1.0,
    clamp: bool = False,
    window_low: int = 0,
    window_high: int = 1_000_000,
    **rest: Any,
) -> ContrastiveGuidance:
    """Contrastive guidance from a row's settings; rest: lambda_, head, direction, encoder_input.

    `lambda` may stand for lambda_. Raises InputError for an unknown loss or setting.
    """
    if loss == "infonce":
        value: Loss = partial(contrast.info_nce, tau=tau)
    elif loss == "hnm":
        value = partial(
            contrast.hard_negative_mining, tau=tau, tau_plus=tau_plus, beta=beta, clamp=clamp
        )
    else:
        raise InputError(f"guidance loss is '{loss}'; choose one of {', '.join(LOSSES)}")
    if "lambda" in rest:
        rest["lambda_"] = rest.pop("lambda")
    try:
        return ContrastiveGuidance(
            features, value, seed=seed, window=(window_low, window_high), **rest
        )
    except TypeError as error:
        raise InputError(f"guidance '{loss}': {error}; correct its settings") from None
