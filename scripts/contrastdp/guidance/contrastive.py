"""Contrastive guidance (Algorithm 1): the gradient of a contrastive loss at x_t."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from contrastdp.errors import InputError
from contrastdp.guidance import contrast
from contrastdp.guidance.protocol import (
    EVERY_STEP,
    GUIDANCES,
    Directions,
    check_finite,
    check_number,
    check_settings,
    check_timeless,
    encoder_view,
    guided_timesteps,
)
from contrastdp.networks.execution import autocast
from contrastdp.streams import derive_seed

Loss = Callable[[contrast.Pairs], Tensor]


class EmbeddingHead(nn.Sequential):
    """The two-layer head on the encoder's features, trained with the same loss during sampling."""

    def __init__(self, features: int, embedding: int):
        # said, so that torch's default type and device do not change the draws
        kind: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
        super().__init__(
            nn.Linear(features, embedding, **kind),
            nn.ReLU(),
            nn.Linear(embedding, embedding, **kind),
        )


@GUIDANCES.enter("contrastive")
@dataclass
class ContrastiveGuidance:
    """lambda grad_{x_t} loss over a guidance batch of m images; the loss is a mean over the batch.

    Pairs that compare with `others` (contrast.PAIRS) hold the other images fixed, so that each
    image takes the gradient of its own loss alone, as in Algorithm 1.

    features: (m, C, H, W) in the encoder's range -> (m, D), frozen; loss: of Pairs; lambda_:
    the factor lambda.
    window: guided where window[0] <= t <= window[1], the first step aside, which has no earlier
    state. encoder_input: 'unit' maps the state from [-1, 1] to the encoder's [0, 1], 'raw' not.
    head: size of the embedding head, 0 for none; it starts each guidance batch from the state
    that (seed, first index) fixes and takes one Adam step per guided step, after the gradient.
    direction: 'gradient', or 'random' for the control that keeps each image's gradient norm and
    puts a random direction, fixed per image, in the gradient's place. micro_batch: how many images
    pass the encoder at once; the loss couples all m whatever it is. pairs: which entries attract
    and repel, an entry of contrast.PAIRS; real: (R, D) features of real images for pairs that
    use them; normalise: features to unit length. labeler: (m, C, H, W) in [0, 1] -> logits, gives
    pairs that use classes theirs where the batch has no labels. at, clip: as Guidance says.
    precision: 'bfloat16' runs the encoder in it where that is safe (autocast); the loss stays in
    float32.
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
        check_settings(self)
        check_timeless(self.features, "encoder of contrastive guidance")
        check_timeless(self.labeler, "labeler")
        check_number("head", self.head, whole=True, least=0)
        check_number("head_learning_rate", self.head_learning_rate, least=0)
        self._compared = contrast.PAIRS.takes(self.pairs)
        if "real" in self._compared and self.real is None:
            raise InputError(f"pairs '{self.pairs}' need features of real images; give real")

    def start(self, indices: list[int], timesteps: list[int], label: Tensor | None = None) -> None:
        if len(indices) < 2:
            raise InputError(f"a guidance batch of {len(indices)} has no negatives; use 2 or more")
        self._indices, self._timesteps = indices, timesteps
        self._guided = guided_timesteps(timesteps, self.window, first=False)
        # PAPER: real positives need no earlier state, so nothing is read ahead of a guided step
        before = "before" in self._compared
        self._read_next = {a for a, b in pairwise(timesteps) if before and b in self._guided}
        self._before: Tensor | None = None  # features of the previous state
        self._head: EmbeddingHead | None = None
        self._directions = Directions(self.direction, self.seed, indices)
        self._start_classes(label)

    def __call__(self, state: Tensor, timestep: int) -> Tensor | None:
        if timestep not in self._guided:
            self._before = self._encode(state) if timestep in self._read_next else None
            return None
        if self.observe is not None:
            self._check_classes(timestep)
        self._before, gradient = self._gradient(state, self._before)
        check_finite(gradient, state, timestep, self._timesteps, self._indices)
        return self.lambda_ * self._directions(gradient)

    # ---------------------------------------------------------------- classes
    def _start_classes(self, label: Tensor | None) -> None:
        self._label, self.observe, self._classes_seen = label, None, 0
        if "label" not in self._compared:
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
        assert self.labeler is not None
        # ASSUME: the paper does not say whence the classes come. The predicted x_0, clipped to
        # [0, 1], is what a labeler knows to read; x_t is mostly noise over half of the chain.
        pieces = ((clean + 1) / 2).clamp(0, 1).split(self.micro_batch or len(clean))
        self._label = torch.cat([self.labeler(piece).argmax(1) for piece in pieces])

    def _check_classes(self, timestep: int) -> None:
        """Raise at the last guided step if no step has seen two classes."""
        assert self._label is not None
        self._classes_seen = max(self._classes_seen, len(self._label.unique()))
        if self._classes_seen < 2 and timestep == min(self._guided):
            raise InputError(
                "class-conditional pairs: the labeler sees one class alone in images "
                f"{self._indices[0]} to {self._indices[-1]}, at every step, so there are no "
                "negatives; use a larger batch or a better labeler"
            )

    # ---------------------------------------------------------------- the gradient
    def _gradient(self, state: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
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

    def _pairs(
        self, now: Tensor, before: Tensor | None, head: EmbeddingHead | None
    ) -> contrast.Pairs:
        def embed(features: Tensor | None) -> Tensor:
            assert features is not None
            features = features.to(now)
            embedded = features if head is None else head(features)
            return contrast.normalise(embedded) if self.normalise else embedded

        # PAPER: real images enter clean, at every t; the paper does not say whether they are noised
        known = {"now": now, "before": before, "others": now.detach(), "real": self.real}
        given: dict[str, Tensor | None] = {
            name: embed(known[name]) for name in self._compared if name in known
        }
        if "label" in self._compared:
            given["label"] = self._label
        return contrast.PAIRS[self.pairs](**given)

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
            stream = derive_seed(self.seed, "head", self._indices[0])
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(stream)
                head = EmbeddingHead(features.shape[1], self.head)
            self._head = head.to(features)
            self._optimiser = torch.optim.Adam(self._head.parameters(), lr=self.head_learning_rate)
        return self._head
