"""Untargeted PGD on noisy images that stops for each image once it is misclassified.

Kawar, Ganz & Elad (2023, section 4 and appendix E) train time-dependent classifiers against it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from contrastdp.attack.pgd import attacking, cross_entropy_gradient
from contrastdp.errors import InputError

NORMS = ("L2", "Linf")
# of ImageNet (section 5.1) and of CIFAR-10 (appendix E): eps and steps -> the length of a step
STEP_SIZES: dict[str, Callable[[float, int], float]] = {
    "eps/6": lambda eps, steps: eps / 6,
    "2.5 eps/steps": lambda eps, steps: 2.5 * eps / steps,
}
TINY = 1e-10  # beside the norm that a gradient is divided by


@dataclass(frozen=True, kw_only=True)
class EarlyStopped:
    """How noisy images are attacked; eps or steps of 0: not at all.

    norm: L2 or Linf; eps: largest norm of what is added, in units of x_t, whose clean images span
    [-1, 1]; steps: at most; step_size: a key of STEP_SIZES. Raises InputError for an unknown name
    and for an eps or steps that is negative or not finite.
    """

    norm: str
    eps: float
    steps: int
    step_size: str

    def __post_init__(self) -> None:
        for name, known in (("norm", NORMS), ("step_size", STEP_SIZES)):
            if (value := getattr(self, name)) not in known:
                raise InputError(f"attack.{name} is '{value}'; choose {' or '.join(known)}")
        for name in ("eps", "steps"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise InputError(f"attack.{name} is {value}; it must be finite, and 0 or more")

    @property
    def attacks(self) -> bool:
        """Whether it moves any image."""
        return self.eps > 0 and self.steps > 0


@dataclass(frozen=True)
class Attacked:
    """Attacked images x (N, C, H, W), which of them moved (N,), and forward passes of an image."""

    x: torch.Tensor
    moved: torch.Tensor
    passes: int = 0


def early_stopped_pgd(
    network: nn.Module,
    x: torch.Tensor,
    t: torch.Tensor,
    y: torch.Tensor,
    attack: EarlyStopped | None,
) -> Attacked:
    """Climb the cross entropy of network(x, t) with labels y (N,) at images that are still right.

    x: noisy images x_t (N, C, H, W), where the attack starts; t: (N,), fixed; attack: None for
    none. An image stays where it is misclassified, and is not looked at again; nothing is clamped
    to pixels. After the last step nobody looks whether an image is right. Raises InputError for a
    gradient that is not finite.
    """
    x = x.detach()
    found, moved = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    if attack is None or not attack.attacks:
        return Attacked(found, moved)
    step_size = STEP_SIZES[attack.step_size](attack.eps, attack.steps)
    left, passes = torch.arange(len(x), device=x.device), 0
    with attacking(network) as function:
        for _ in range(attack.steps):
            if not len(left):
                break
            passes += len(left)
            source = found[left].requires_grad_()
            with torch.enable_grad():
                z = function(source, t[left])
            right = z.detach().argmax(dim=1) == y[left]
            if not right.any():
                break
            slope = cross_entropy_gradient(y[left])(z.detach())
            (gradient,) = torch.autograd.grad(z, source, slope)
            if not gradient.isfinite().all():
                raise InputError(
                    "the gradient of the attack on noisy images is not finite; lower the learning "
                    "rate or check the input images"
                )
            left = left[right]
            added = found[left] - x[left]
            found[left] = x[left] + _stepped(added, gradient[right], attack, step_size)
            moved[left] = True
    return Attacked(found, moved, passes)


def _stepped(
    added: torch.Tensor, gradient: torch.Tensor, attack: EarlyStopped, step_size: float
) -> torch.Tensor:
    """What is added to each image after a step along the gradient, inside the ball."""
    if attack.norm == "Linf":
        return (added + step_size * gradient.sign()).clamp(-attack.eps, attack.eps)
    length = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    added = added + step_size * gradient / (length + TINY)
    return torch.renorm(added, 2, 0, attack.eps)
