"""Several guidances at once: what they add is added up."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from contrastdp.errors import InputError
from contrastdp.guidance.protocol import (
    DIRECTIONS,
    GUIDANCES,
    Directions,
    Guidance,
    check_choice,
    norms,
)


@GUIDANCES.enter("sum")
@dataclass
class SumGuidance:
    """The sum of its parts, each with its own lambda, window, place, clip, direction and moves.

    parts: guidances of other kinds. direction: 'gradient' adds up what the parts do; 'random' is
    the control that keeps the norm of their sum and puts a random direction, fixed per image, in
    the sum's place. seed: of that direction. What moves the noise and what moves the mean keep
    their shares of it.
    """

    parts: Sequence[Guidance]
    direction: str = "gradient"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("direction", self.direction, DIRECTIONS)
        if not self.parts or any(hasattr(part, "parts") for part in self.parts):
            raise InputError(
                "a sum of guidances needs one part or more, none of which is a sum; correct parts"
            )

    def start(self, indices: list[int], timesteps: list[int], label: Tensor | None = None) -> None:
        for part in self.parts:
            part.start(indices, timesteps, label)
        self._directions = Directions(self.direction, self.seed, indices)

    def directed(self, added: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.direction == "gradient":
            return added
        whole = norms(reduce(torch.add, added.values()))
        apart = sum(norms(one) for one in added.values())
        share = (whole / apart).nan_to_num(0.0)
        return {moves: share * self._directions(one) for moves, one in added.items()}
