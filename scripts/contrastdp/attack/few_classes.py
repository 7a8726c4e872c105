"""AutoPGD where the difference of logits ratio (DLR, Croce & Hein 2020) is not defined.

Its denominator needs three classes, that of the targeted one needs four. With fewer the numerator
alone is climbed: the margin max_{j != y} z_j - z_y, or z_t - z_y of a target t. AutoPGD steps along
the gradient's sign, which a positive factor does not change.
"""

from typing import Any

import torch

LEAST = {"apgd-t": 4, "apgd-dlr-restarts": 3}  # classes that an attack's DLR needs
MARGIN = "margin"


def losses(classes: int) -> dict[str, str]:
    """Attacks whose loss is another with so many classes, and that loss."""
    return {name: MARGIN for name, least in LEAST.items() if classes < least}


def margin(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """max_{j != y} z_j - z_y of logits z (N, classes) and labels y (N,): (N,)."""
    own = y[:, None]
    others = z.scatter(1, own, -torch.inf)
    return others.amax(dim=1) - z.gather(1, own).squeeze(1)


def fit(attack: Any, classes: int) -> Any:
    """An AutoPGD attack of pyautoattack, in place, with a loss that is defined for `classes`."""
    if classes < LEAST["apgd-dlr-restarts"]:
        attack.dlr_loss = margin
    if classes < LEAST["apgd-t"] and hasattr(attack, "dlr_loss_targeted"):

        def towards_target(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            both = torch.stack([attack.y_target, y], dim=1)
            target, own = z.gather(1, both).unbind(dim=1)
            return target - own

        attack.dlr_loss_targeted = towards_target
    return attack


def is_told(message: str) -> bool:
    """Whether AutoAttack warns of the loss that `fit` has replaced."""
    return message.startswith("with only") and "DLR loss" in message
