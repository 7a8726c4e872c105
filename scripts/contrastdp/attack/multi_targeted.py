"""MultiTargeted PGD (Gowal et al. 2019, arXiv 1910.09338): every wrong class is a target in turn.

AA+MT of Gowal et al. (2020, arXiv 2010.03593) runs it last, on the margin loss. The optimiser is
that of the attack in the code released with that paper (deepmind-research,
adversarial_robustness/jax/experiment.py, 40 steps): Adam at a rate of 0.1, 0.01 from half of the
steps on and 0.0001 from three quarters on, from a uniform start in the ball.
"""

from collections.abc import Callable
from functools import partial

import torch

from contrastdp.attack.pgd import LogitGradient
from contrastdp.jobs.resume import Finished
from contrastdp.streams import generator

RATES = ((0.0, 1e-1), (0.5, 1e-2), (0.75, 1e-4))  # share of the steps done -> learning rate
BETAS, TINY = (0.9, 0.999), 1e-8  # Adam


def target_gradient(y: torch.Tensor, target: torch.Tensor) -> LogitGradient:
    """d/dz of the summed margin z_t - z_y of logits z (N, classes): 1_t - 1_y; y, t: (N,)."""
    rows = torch.arange(len(y), device=y.device)

    def gradient(z: torch.Tensor) -> torch.Tensor:
        g = torch.zeros_like(z)
        g[rows, target] = 1
        g[rows, y] = -1
        return g

    return gradient


def multi_targeted(
    function: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    eps: float,
    restarts: int,
    steps: int,
    batch: int,
    seed: int,
    finished: Finished | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attack images x (N, C, H, W) in [0, 1] of classes y (N,) within eps in the l-infinity norm.

    function: images to logits, with frozen weights, in evaluation mode. Every restart aims at all
    wrong classes, the likeliest first; an image that any iterate broke is attacked no further.
    Start points are drawn on the CPU under `seed` for all N images, so what happens to one image
    does not depend on which others are broken, nor on `batch`, but for rounding. finished: batches
    of a killed attack. Returns x_adv (x where not broken) and broken (N,) bool.
    """
    # ASSUME: restarts count for each target, as in the multi-targeted attack of DeepMind's
    # interval-bound-propagation; the paper's '10 restarts' could mean all targets together.
    with torch.no_grad():
        z = torch.cat([function(part) for part in x.split(batch)])
    z[torch.arange(len(y), device=y.device), y] = -torch.inf
    targets = z.argsort(dim=1, descending=True, stable=True)[:, :-1]  # (N, classes - 1)
    x_adv, broken = x.clone(), torch.zeros_like(y, dtype=torch.bool)
    finished = finished or Finished()
    aimed = partial(_broken_by, function, eps=eps, steps=steps)
    for restart in range(restarts):
        for rank in range(targets.shape[1]):
            if broken.all():
                return x_adv, broken
            stream = generator(seed, "multi-targeted", restart, rank)
            noise = torch.rand(x.shape, generator=stream).mul_(2 * eps).sub_(eps).to(x.device)

            for part in (~broken).nonzero().squeeze(1).split(batch):
                given = x[part], y[part], x[part] + noise[part], targets[part, rank]
                fooled, found = finished(f"mt {restart} {rank}", aimed, *given)
                hit = part[fooled.to(part.device)]
                x_adv[hit] = found.to(x.device)
                broken[hit] = True
    return x_adv, broken


def _broken_by(
    function: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
    start: torch.Tensor,
    target: torch.Tensor,
    *,
    eps: float,
    steps: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One ascent towards `target` (N,): which images it broke, (N,) bool, and those images."""
    found = ascend(function, x, y, start, target_gradient(y, target), eps=eps, steps=steps)
    with torch.no_grad():
        fooled = function(found).argmax(dim=1) != y
    return fooled, found[fooled]


def ascend(
    function: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
    start: torch.Tensor,
    logit_gradient: LogitGradient,
    *,
    eps: float,
    steps: int,
) -> torch.Tensor:
    """Projected ascent by Adam: of each image the first misclassified iterate, or the last one.

    start: (N, C, H, W), projected to within eps of x and [0, 1]; logit_gradient: of the objective.
    """
    low, high = (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)
    x_adv = start.detach().clamp(low, high)
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    found, fooled = torch.empty_like(x_adv), torch.zeros_like(y, dtype=torch.bool)
    for step in range(steps + 1):
        x_adv.requires_grad_(step < steps)
        with torch.set_grad_enabled(step < steps):
            z = function(x_adv)
        new = (z.detach().argmax(dim=1) != y) & ~fooled
        if new.any():
            found[new] = x_adv.detach()[new]
            fooled |= new
        if step == steps or fooled.all():
            break
        (g,) = torch.autograd.grad(z, x_adv, logit_gradient(z.detach()))

        # Adam, of which a constant factor of the gradient changes nothing
        first.mul_(BETAS[0]).add_(g, alpha=1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
        scale = (second / (1 - BETAS[1] ** (step + 1))).sqrt_().add_(TINY)
        rate = [value for share, value in RATES if step >= share * steps][-1]
        rate /= 1 - BETAS[0] ** (step + 1)
        x_adv = x_adv.detach().addcdiv_(first, scale, value=rate).clamp_(low, high)
    found[~fooled] = x_adv.detach()[~fooled]
    return found
