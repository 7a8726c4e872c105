"""Losses of adversarial training, a registry: TRADES, PGD-AT and MART.

A new loss is one function here under @LOSSES.enter, which is told what TrainingLoss asks for.
Nothing else in the project asks for its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature

import torch
from torch import nn
from torch.nn import functional as F

from contrastdp.attack.pgd import PGD, cross_entropy_gradient, divergence_gradient
from contrastdp.registry import Registry

Loss = Callable[..., torch.Tensor]
LOSSES = Registry("training loss")


@dataclass(frozen=True)
class TrainingLoss:
    """A loss and what it needs.

    function(network, x, y, attack, ...): its further arguments are its settings; attack(network, x,
    logit_gradient) gives images attacked. It returns a mean over images, so that the values and
    gradients of a batch's parts, weighted with their shares, add up to those of the batch.
    weight_passes: passes forward and back to the weights, beside the attack's `steps` passes to the
    image. mixed_labels: whether y may be probabilities (N, classes), as CutMix makes them.
    """

    function: Loss
    weight_passes: int
    mixed_labels: bool = True

    @property
    def settings(self) -> dict[str, bool]:
        """Names of its settings, and whether each must be given."""
        found = signature(self.function).parameters.values()
        own = (p for p in found if p.kind is Parameter.KEYWORD_ONLY)
        return {p.name: p.default is Parameter.empty for p in own}


def loss_named(name: str) -> TrainingLoss:
    """The entry of LOSSES and what it needs; InputError for an unknown name."""
    return TrainingLoss(LOSSES.find(name), **LOSSES.about[name])


@LOSSES.enter("trades", weight_passes=2)
def trades_loss(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    attack: PGD,
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """TRADES (Zhang et al. 2019): CE(f(x), y) + beta KL(f(x) || f(x_adv)), means over the batch.

    y: labels (N,) or, of mixed images, probabilities (N, classes). x_adv maximises the divergence
    within eps of x, or that of y from f(x_adv) where y is mixed (Rebuffi et al. 2021); both terms
    are differentiated through both passes. The network stays in its mode; the running statistics of
    BatchNorm take in the clean pass and then the adversarial one. label_smoothing: of the cross
    entropy. With k attack steps it takes k + 2 forward passes, k backward passes to the image and
    one through both graphs: 26 times a forward pass where k = 10.
    """
    # The clean pass serves the attack's target and the loss: nothing between changes the weights.
    z = network(x)
    log_p = z.log_softmax(dim=1)
    target = y if y.is_floating_point() else log_p.detach().exp()
    x_adv = attack(network, x, divergence_gradient(target))
    log_q = network(x_adv).log_softmax(dim=1)
    divergence = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    return F.cross_entropy(z, y, label_smoothing=label_smoothing) + beta * divergence


def _attacked_in_evaluation(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, attack: PGD
) -> torch.Tensor:
    """An attack on the cross entropy with y against the network in evaluation mode."""
    training = network.training
    network.eval()
    x_adv = attack(network, x, cross_entropy_gradient(y))
    network.train(training)
    return x_adv


@LOSSES.enter("pgd", weight_passes=1)
def pgd_loss(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    attack: PGD,
    *,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Adversarial training of Madry et al. (2018): the mean cross entropy of images under PGD.

    The attack sees the network in evaluation mode, the loss in the mode it is in. y: as in
    trades_loss.
    """
    x_adv = _attacked_in_evaluation(network, x, y, attack)
    return F.cross_entropy(network(x_adv), y, label_smoothing=label_smoothing)


@LOSSES.enter("mart", weight_passes=2, mixed_labels=False)
def mart_loss(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    attack: PGD,
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """MART (Wang et al. 2020): BCE(p(x'), y) + beta KL(p(x) || p(x')) (1 - p_y(x)), a batch's mean.

    BCE = -log p_y(x') - log(1 - max_{k != y} p_k(x')), and x' is x under PGD on the cross entropy.
    All of it is differentiated, the weight 1 - p_y(x) too. The attack sees the network in
    evaluation mode; BatchNorm's running statistics take in the clean pass, then the adversarial
    one. y: labels (N,). label_smoothing: of the term -log p_y(x'), 0 in the paper.

    The official code starts the attack from x + 0.001 N(0, 1) and not from a uniform draw in the
    ball, and keeps its logarithms finite by additions (1.0001 - max p_k + 1e-12, p(x') + 1e-12,
    1.0000001 - p_y(x)); here the logarithms of softmax are exact.
    """
    # PAPER: the attack's start and the additions, as said above
    x_adv = _attacked_in_evaluation(network, x, y, attack)
    log_p = network(x).log_softmax(dim=1)
    z_adv = network(x_adv)
    log_q, own = z_adv.log_softmax(dim=1), y[:, None]
    # 1 - max_{k != y} q_k is the sum of q over all classes but that one
    rival = log_q.detach().scatter(1, own, -torch.inf).argmax(dim=1, keepdim=True)
    margin = log_q.scatter(1, rival, -torch.inf).logsumexp(dim=1)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)
    doubt = -log_p.gather(1, own).squeeze(1).expm1()  # 1 - p_y(x)
    entropy = F.cross_entropy(z_adv, y, label_smoothing=label_smoothing)
    return entropy + (beta * divergence * doubt - margin).mean()
