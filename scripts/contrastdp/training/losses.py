"""Losses of adversarial training: TRADES and PGD-AT."""

import torch
from torch import nn
from torch.nn import functional as F

from contrastdp.attack.pgd import cross_entropy_gradient, divergence_gradient, pgd


def trades_loss(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    eps: float,
    step_size: float,
    steps: int,
    beta: float,
    label_smoothing: float = 0.0,
    generator: torch.Generator | None = None,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """TRADES (Zhang et al. 2019): CE(f(x), y) + beta KL(f(x) || f(x_adv)), means over the batch.

    y: labels (N,) or, of mixed images, probabilities (N, classes). x_adv maximises the divergence
    within eps of x, or that of y from f(x_adv) where y is mixed (Rebuffi et al. 2021); both terms
    are differentiated through both passes. The network stays in its mode; the running statistics of
    BatchNorm take in the clean pass and then the adversarial one. label_smoothing: of the cross
    entropy. generator, start: as in pgd. With k attack steps it takes k + 2 forward passes, k
    backward passes to the image and one through both graphs: 26 times a forward pass where k = 10.
    """
    # The clean pass serves the attack's target and the loss: nothing between changes the weights.
    z = network(x)
    log_p = z.log_softmax(dim=1)
    target = y if y.is_floating_point() else log_p.detach().exp()
    x_adv = pgd(
        network,
        x,
        divergence_gradient(target),
        eps=eps,
        step_size=step_size,
        steps=steps,
        generator=generator,
        start=start,
    )
    log_q = network(x_adv).log_softmax(dim=1)
    divergence = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    return F.cross_entropy(z, y, label_smoothing=label_smoothing) + beta * divergence


def pgd_loss(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    eps: float,
    step_size: float,
    steps: int,
    label_smoothing: float = 0.0,
    generator: torch.Generator | None = None,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Adversarial training of Madry et al. (2018): the mean cross entropy of images under PGD.

    The attack sees the network in evaluation mode, the loss in the mode it is in. y, generator,
    start: as in trades_loss.
    """
    training = network.training
    network.eval()
    x_adv = pgd(
        network,
        x,
        cross_entropy_gradient(y),
        eps=eps,
        step_size=step_size,
        steps=steps,
        generator=generator,
        start=start,
    )
    network.train(training)
    return F.cross_entropy(network(x_adv), y, label_smoothing=label_smoothing)
