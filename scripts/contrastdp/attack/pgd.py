"""Projected gradient descent (PGD, Madry et al. 2018) and the objectives that it climbs.

An attack needs the gradient of its objective with respect to the image alone. Each objective here
is a function of the logits with a gradient known in closed form, so a step costs one forward pass
and one backward pass to the input, with the network's weights frozen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from contrastdp.networks.batch_norm import BATCH_NORMS
from contrastdp.networks.build import frozen

LogitGradient = Callable[[torch.Tensor], torch.Tensor]


# ---------------------------------------------------------------- objectives of the attack
def cross_entropy_gradient(y: torch.Tensor) -> LogitGradient:
    """d/dz of the summed cross entropy of logits z (N, classes) with labels y: softmax(z) - 1_y.

    y: labels (N,), or probabilities (N, classes) in the place of 1_y.
    """
    if y.is_floating_point():
        return divergence_gradient(y)
    rows = torch.arange(len(y), device=y.device)

    def gradient(z: torch.Tensor) -> torch.Tensor:
        g = z.softmax(dim=1)
        g[rows, y] -= 1
        return g

    return gradient


def divergence_gradient(p: torch.Tensor) -> LogitGradient:
    """d/dz of the summed KL(p || softmax(z)), p (N, classes) fixed: softmax(z) - p."""
    return lambda z: z.softmax(dim=1).sub_(p)


def margin_gradient(y: torch.Tensor) -> LogitGradient:
    """d/dz of the summed margin max_{j != y} z_j - z_y (Carlini & Wagner): 1_j - 1_y."""
    rows = torch.arange(len(y), device=y.device)

    def gradient(z: torch.Tensor) -> torch.Tensor:
        others = z.clone()
        others[rows, y] = -torch.inf
        g = torch.zeros_like(z)
        g[rows, others.argmax(dim=1)] = 1
        g[rows, y] = -1
        return g

    return gradient


# ---------------------------------------------------------------- the attack
@contextmanager
def attacking(network: nn.Module) -> Iterator[Callable[..., torch.Tensor]]:
    """Yield the network as a function of images (and t), its weights and statistics out of reach.

    Parameters need no gradient and BatchNorm tracks no running statistics inside the block; the
    training or evaluation mode is left as it is, and everything is restored after it.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    norms = [m for m in network.modules() if isinstance(m, BATCH_NORMS) and m.track_running_stats]
    for parameter in trained:
        parameter.requires_grad_(False)
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield frozen(network)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for norm in norms:
            norm.track_running_stats = True


def pgd(
    network: nn.Module,
    x: torch.Tensor,
    logit_gradient: LogitGradient,
    *,
    eps: float,
    step_size: float,
    steps: int,
    generator: torch.Generator | None = None,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Projected gradient ascent with sign steps from a uniform start in the l-infinity ball.

    x: (N, C, H, W) in [0, 1]; logit_gradient: the objective's gradient with respect to the logits;
    eps, step_size: in units of [0, 1]. start: uniform draws from [0, 1] of the shape of x, where
    the caller made them; else the generator, which lives on the CPU, so that a seed gives the same
    start on every device. Returns images within eps of x and within [0, 1], without a graph.
    """
    x = x.detach()
    low, high = (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)
    if start is None:
        start = torch.rand(x.shape, generator=generator)
    x_adv = (start.to(x.device) * (2 * eps)).sub_(eps).add_(x).clamp_(low, high)
    with attacking(network) as function:
        for _ in range(steps):
            x_adv.requires_grad_()
            with torch.enable_grad():
                z = function(x_adv)
            (gradient,) = torch.autograd.grad(z, x_adv, logit_gradient(z.detach()))
            x_adv = x_adv.detach().add_(gradient.sign_(), alpha=step_size).clamp_(low, high)
    return x_adv


# ---------------------------------------------------------------- accuracy
def accuracies(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    eps: float,
    step_size: float,
    steps: int,
    generator: torch.Generator | None,
    batch: int = 1000,
) -> tuple[float, float]:
    """Clean and robust accuracy (fractions) under PGD on the Carlini-Wagner margin.

    An image counts as robust when it is right both clean and attacked. The network is taken in its
    present mode, which should be evaluation.
    """
    clean, robust = 0, 0
    for start in range(0, len(x), batch):
        images, labels = x[start : start + batch], y[start : start + batch]
        with torch.no_grad():
            right = network(images).argmax(dim=1) == labels
        x_adv = pgd(
            network,
            images,
            margin_gradient(labels),
            eps=eps,
            step_size=step_size,
            steps=steps,
            generator=generator,
        )
        with torch.no_grad():
            kept = network(x_adv).argmax(dim=1) == labels
        clean += int(right.sum())
        robust += int((right & kept).sum())
    return clean / len(x), robust / len(x)
