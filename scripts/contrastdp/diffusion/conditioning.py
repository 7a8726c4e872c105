"""What a denoiser is told of an image beside x_t and t, a registry: nothing, or its class.

A new conditioning is one class here under @CONDITIONINGS.enter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from contrastdp.registry import Registry

# arguments of the denoiser, a row an image
Condition = Mapping[str, Tensor]
CONDITIONINGS = Registry("conditioning")


class Conditioning(Protocol):
    """A way of conditioning a denoiser."""

    @classmethod
    def fitting(cls, config: Any, classes: int | None) -> Self | None:
        """The one that a denoiser of this config has; None where it has another.

        classes: how many of its labels are sampled, None for all.
        """

    def seen(self, image: Tensor, label: Tensor | None) -> Condition:
        """Of training images (N, C, H, W) in [0, 1] of the classes `label` (N,)."""

    def drawn(self, indices: Sequence[int]) -> Condition:
        """Of the images `indices` that are sampled."""

    def null(self, indices: Sequence[int]) -> Condition | None:
        """What tells the denoiser nothing of them; None where nothing does."""

    def label(self, indices: Sequence[int]) -> Tensor | None:
        """The classes (m,) that they are sampled for; None where they are of no known class."""


@CONDITIONINGS.enter("none")
class Unconditional:
    """A denoiser that is told nothing."""

    @classmethod
    def fitting(cls, config: Any, classes: int | None) -> Self | None:
        """Any denoiser's, unless another fits."""
        return cls()

    def seen(self, image: Tensor, label: Tensor | None) -> Condition:
        """Nothing."""
        return {}

    def drawn(self, indices: Sequence[int]) -> Condition:
        """Nothing."""
        return {}

    def null(self, indices: Sequence[int]) -> Condition | None:
        """There is no difference to take."""
        return None

    def label(self, indices: Sequence[int]) -> Tensor | None:
        """Unknown."""
        return None


@CONDITIONINGS.enter("class_label")
@dataclass(frozen=True, eq=False)
class ClassLabel:
    """A denoiser that is told the class, as class_labels (m,) int64.

    Image i is sampled for the class labels[i], or i mod `classes` where labels is None; a training
    needs neither. null_label: the denoiser's label for 'no class', None where it has none.
    """

    classes: int = 0
    null_label: int | None = None
    labels: Tensor | None = None

    @classmethod
    def fitting(cls, config: Any, classes: int | None) -> Self | None:
        """By num_class_embeds of diffusers; one label more than `classes` is 'no class'."""
        known = config.num_class_embeds
        if not known:
            return None
        null = classes if classes and known == classes + 1 else None
        return cls(min(classes or known, known), null_label=null)

    def seen(self, image: Tensor, label: Tensor | None) -> Condition:
        """Their classes."""
        return {} if label is None else {"class_labels": label}

    def drawn(self, indices: Sequence[int]) -> Condition:
        """Their classes."""
        return {"class_labels": self.label(indices)}

    def null(self, indices: Sequence[int]) -> Condition | None:
        """The label for 'no class'."""
        if self.null_label is None:
            return None
        return {"class_labels": torch.full((len(indices),), self.null_label)}

    def label(self, indices: Sequence[int]) -> Tensor:
        """labels[i], or i mod classes."""
        if self.labels is None:
            return torch.tensor(list(indices)) % self.classes
        return self.labels[list(indices)]


UNCONDITIONAL = Unconditional()


def conditioning_of(denoiser: nn.Module, classes: int | None = None) -> Conditioning:
    """The conditioning of a denoiser, by its config: of those that fit, the last in the registry.

    classes: how many of its labels are sampled, by default all.
    """
    config: Any = denoiser.config
    kinds: Any = reversed(CONDITIONINGS.values())
    fits = (kind.fitting(config, classes) for kind in kinds)
    return next(found for found in fits if found is not None)


def part_of(condition: Condition, chosen: slice | Tensor) -> Condition:
    """The condition of some of the images."""
    return {name: value[chosen] for name, value in condition.items()}
