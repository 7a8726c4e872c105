"""Signs that a robust accuracy is false: what a network does under attacks that must agree.

The checks of Athalye et al. (2018, section 3.1) and Carlini et al. (2019, section 5), image by
image, on a few images and at small budgets: a diagnosis, not an evaluation. docs/audit.md says what
each sign means, contrastdp.report.audit_table names the verdict.
"""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from contrastdp.attack import few_classes
from contrastdp.attack.autoattack import Remembered
from contrastdp.errors import InputError
from contrastdp.networks.build import frozen

# Smallest size that float32 keeps all its digits at; below it a gradient counts as zero.
ZERO = 2.0**-126
# Half of float32's step below 1: a probability that near to 1 is rounded to it.
ROUNDED = 2.0**-24


def gradient_norms(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, *, batch: int
) -> torch.Tensor:
    """L1 norm (N,) of the gradient of the cross entropy at the images x (N, C, H, W), labels y.

    eps times it is what the best step within eps adds to the loss, to first order. Raises
    InputError where the network passes no gradient to its images.
    """
    found = []
    for images, labels in zip(x.split(batch), y.split(batch), strict=True):
        images = images.detach().clone().requires_grad_()
        with torch.enable_grad():
            loss = F.cross_entropy(network(images), labels, reduction="sum")
        if not loss.requires_grad:
            raise InputError(
                "audit: the network passes no gradient to its images, so white-box attacks cannot "
                "run; remove what detaches them"
            )
        (gradient,) = torch.autograd.grad(loss, images)
        found.append(gradient.flatten(1).abs().sum(dim=1))
    return torch.cat(found)


def apgd(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    eps: float,
    loss: str,
    steps: int,
    seed: int,
    batch: int,
    best_loss: bool = False,
) -> torch.Tensor:
    """Images (N, C, H, W) that one run of AutoPGD (Croce & Hein 2020) made of x within eps.

    loss: 'ce', or 'dlr', which is the margin for two classes. An image that was not broken is
    returned as it was, with best_loss where its loss was largest.
    """
    from pyautoattack.autopgd_base import APGDAttack

    attack = APGDAttack(
        frozen(network), norm="Linf", eps=eps, loss=loss, n_iter=steps, seed=seed, device=x.device
    )
    with torch.no_grad():
        few_classes.fit(attack, network(x[:1]).shape[1])
    with warnings.catch_warnings():
        # It tells of images without gradient at its random start, of which the audit has a measure.
        warnings.filterwarnings("ignore", message=".*zero gradient.*")
        parts = zip(x.split(batch), y.split(batch), strict=True)
        return torch.cat([attack.perturb(*part, best_loss=best_loss) for part in parts])


def square(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    eps: float,
    queries: int,
    seed: int,
    batch: int,
) -> torch.Tensor:
    """Images (N, C, H, W) that one run of Square (Andriushchenko et al. 2020) made of x."""
    from pyautoattack.square import SquareAttack

    function = frozen(network)
    if not x.is_cuda and x[0].numel() <= Remembered.LARGEST:
        function = Remembered(function)
    attack = SquareAttack(
        function,
        norm="Linf",
        eps=eps,
        n_queries=queries,
        seed=seed,
        device=x.device,
        resc_schedule=False,
    )
    parts = zip(x.split(batch), y.split(batch), strict=True)
    return torch.cat([attack.perturb(*part) for part in parts])


def ladder(eps: float, factors: Sequence[float]) -> list[float]:
    """Rising sizes at which accuracy must fall: eps, its multiples up to 1, and 1 itself."""
    return sorted({eps, 1.0, *(min(1.0, factor * eps) for factor in factors)})


def audit(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    other: nn.Module | None,
    eps: float,
    factors: Sequence[float],
    steps: int,
    queries: int,
    seed: int,
    batch: int,
) -> dict[str, Any]:
    """What became of each image: flags (N,) bool by name, and `eps` with flags a size.

    x: (N, C, H, W) in [0, 1]; y: (N,) int64. other: another arm's network, from which images are
    transferred, or None. factors: multiples of eps, as ladder says. steps: of AutoPGD; queries: of
    Square, one run each.

    clean: right unattacked; at_zero: right in the images that AutoPGD made within 0 of them;
    zero_gradient: gradient_norms is below ZERO; saturated: eps times it is below ROUNDED, so that
    no step within eps moves the label's probability in float32, though its sign may still lead an
    attack; apgd_ce, apgd_dlr, square, transfer: right unattacked and in the images of that attack
    within eps, each alone (transfer is None without other); by_eps: a list of {eps, right} for
    APGD-CE at each size of the ladder. An image is right where the network itself
    is, in the batches of the clean images.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    shared: dict[str, Any] = {"seed": seed, "batch": batch}
    white = shared | {"steps": steps}

    def right(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            answers = [network(part).argmax(dim=1) for part in images.split(batch)]
        return torch.cat(answers) == y

    clean, norms = right(x), gradient_norms(network, x, y, batch=batch)
    by_eps = {
        size: clean & right(apgd(network, x, y, eps=size, loss="ce", **white))
        for size in ladder(eps, factors)
    }
    found = {
        "clean": clean,
        "at_zero": right(apgd(network, x, y, eps=0.0, loss="ce", **white)),
        "zero_gradient": norms < ZERO,
        "saturated": eps * norms < ROUNDED,
        "apgd_ce": by_eps[eps],
        "apgd_dlr": clean & right(apgd(network, x, y, eps=eps, loss="dlr", **white)),
        "square": clean & right(square(network, x, y, eps=eps, queries=queries, **shared)),
    }
    flags: dict[str, Any] = {name: values.tolist() for name, values in found.items()}
    flags["transfer"] = None
    if other is not None:
        source = copy.deepcopy(other).eval().requires_grad_(False)
        carried = apgd(source, x, y, eps=eps, loss="ce", best_loss=True, **white)
        flags["transfer"] = (clean & right(carried)).tolist()
    steps_of = [{"eps": size, "right": values.tolist()} for size, values in by_eps.items()]
    return flags | {"by_eps": steps_of}
