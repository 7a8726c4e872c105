"""Terms of a denoiser's training loss, a registry: the error of the predicted noise.

A new term is one class here under @TERMS.enter; its keyword-only arguments are its settings.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastdp.errors import InputError
from contrastdp.guidance.protocol import check_number
from contrastdp.jobs.parallel import ALONE, Group
from contrastdp.registry import Registry

TERMS = Registry("diffusion loss term")
WEIGHTINGS = ("noise", "velocity")


@dataclass(frozen=True)
class Prediction:
    """What the denoiser made of images x_0: `predicted` for the noise e that they were given.

    predicted, noise, x0: (N, C, H, W) or (N, D); abar: abar_t of each image, (N, 1, ...); timestep:
    (N,) int64; schedule: abar (T,); learned: what it says of its variance, as `predicted`, None
    where it learns none.
    """

    predicted: Tensor
    noise: Tensor
    abar: Tensor
    x0: Tensor
    timestep: Tensor
    schedule: Tensor
    learned: Tensor | None


def predict(
    denoiser: nn.Module,
    x0: Tensor,
    noise: Tensor,
    timestep: Tensor,
    abar: Tensor,
    condition: Mapping[str, Tensor],
) -> Prediction:
    """What the denoiser predicts of e from x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e.

    x0, noise: (N, C, H, W) or (N, D), images in [-1, 1]; timestep: (N,) int64; abar: (T,)
    cumulative products; condition: further arguments of the denoiser, a row an image.
    """
    a = abar[timestep].view(-1, *[1] * (x0.ndim - 1))
    noisy = a.sqrt() * x0 + (1 - a).sqrt() * noise
    predicted, *rest = denoiser(noisy, timestep, **condition).sample.split(x0.shape[1], dim=1)
    learned = rest[0] if rest else None
    return Prediction(predicted, noise, a, x0, timestep, abar, learned)


class Term(ABC):
    """A term of the loss of a batch, which passes in parts: micro-batches, of several processes.

    It is a mean over images: the parts' values, weighted with their shares of the batch, add up to
    the batch's. A TermOfMean is another kind. learns_variance: whether it trains the denoiser's
    variance, which no other term does.
    """

    learns_variance = False

    @abstractmethod
    def __call__(self, part: Prediction, mean: Tensor | None = None) -> Tensor:
        """The part's value, a scalar; mean: m of a TermOfMean, else None."""


class TermOfMean(Term):
    """A term f(m) of the mean m of a statistic s over the whole batch.

    m is taken in a first pass, without gradient, and given to every part. A part's value is f(m) +
    f'(m) (mean of s over the part - m), with m a constant: so weighted, the values add up to f(m),
    and their gradients to its gradient.
    """

    @abstractmethod
    def statistic(self, part: Prediction) -> Tensor:
        """The sum of s over a part's images."""


@TERMS.enter("noise_prediction")
class NoisePrediction(Term):
    """Mean squared error of the predicted noise (section 2.2).

    weighting: 'noise' is that; 'velocity' divides each image's error by abar_t, which makes it the
    error of v = sqrt(abar_t) e - sqrt(1 - abar_t) x_0 (Salimans & Ho 2022) and gives the noisy
    timesteps, where an image's class and shape are decided, more weight. Raises InputError for
    another.
    """

    def __init__(self, *, weighting: str = "noise"):
        if weighting not in WEIGHTINGS:
            raise InputError(f"weighting is '{weighting}'; choose {' or '.join(WEIGHTINGS)}")
        self.weighting = weighting

    def __call__(self, part: Prediction, mean: Tensor | None = None) -> Tensor:
        """The mean over the part's images, pixels and channels."""
        # PAPER: the mean over pixels; the official CIFAR-10 code sums them, which Adam undoes.
        if self.weighting == "velocity":
            return ((part.predicted - part.noise).square() / part.abar).mean()
        return F.mse_loss(part.predicted, part.noise)


@TERMS.enter("variational_bound")
class VariationalBound(Term):
    """weight L_vlb, the bound on -log p(x_0) in bits a dimension, for a learned variance alone.

    L_hybrid of Nichol & Dhariwal (2021) is the error of the noise plus this with weight 0.001.
    L_vlb is T times the mean over t of KL( q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t) ), at t = 0 of
    -log p(x_0 | x_1) over pixels of 256 levels. The predicted mean is held fixed. The variance of q
    is 0 at t = 0; as in their code, the lower end of the range there is that of t = 1.
    """

    learns_variance = True

    def __init__(self, *, weight: float = 0.001):
        check_number("weight", weight, above=0)
        self.weight = weight

    def __call__(self, part: Prediction, mean: Tensor | None = None) -> Tensor:
        """The mean over the part's images, pixels and channels."""
        if part.learned is None:
            raise InputError(
                "the loss term variational_bound needs a denoiser that learns its variance; set "
                "learned_variance in its network, or leave the term out"
            )
        x0, noise, t = part.x0.double(), part.noise.double(), part.timestep
        shape = (-1, *[1] * (x0.ndim - 1))
        now = part.schedule.double()
        before = torch.cat([now.new_ones(1), now[:-1]])
        beta = 1 - now / before
        small = beta * (1 - before) / (1 - now)
        small = torch.cat([small[1:2] if len(now) > 1 else beta, small[1:]])
        # c0 x_0 + c1 x_t is the mean of q; both means have the same x_t
        c0 = (beta * before.sqrt() / (1 - now))[t].view(shape)
        c1 = ((1 - before) * (1 - beta).sqrt() / (1 - now))[t].view(shape)
        now, high, low = (values[t].view(shape) for values in (now, beta.log(), small.log()))
        noisy = now.sqrt() * x0 + (1 - now).sqrt() * noise
        predicted = (noisy - (1 - now).sqrt() * part.predicted.detach().double()) / now.sqrt()
        v = (part.learned.double() + 1) / 2
        log_variance = v * high + (1 - v) * low
        apart = (c0 * (x0 - predicted)).square()
        kl = log_variance - low + (low - log_variance).exp() + apart * (-log_variance).exp() - 1
        level = -_log_of_level(x0, c0 * predicted + c1 * noisy, (log_variance / 2).exp())
        bound = torch.where(t.view(shape) == 0, level, kl / 2)
        return (self.weight * len(part.schedule) / math.log(2) * bound.mean()).to(part.predicted)


def _log_of_level(x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """log of the probability of each pixel's level, of 256 from -1 to 1, under a Gaussian.

    The lowest and the highest level have all that lies beyond them (Ho et al. 2020, eq. 13).
    """
    below = torch.special.ndtr((x - mean - 1 / 255) / deviation)
    upto = torch.special.ndtr((x - mean + 1 / 255) / deviation)
    upto = torch.where(x > 0.999, 1.0, upto)
    below = torch.where(x < -0.999, 0.0, below)
    return (upto - below).clamp_min(1e-12).log()


def loss_of(terms: Sequence[Term], part: Prediction, means: Sequence[Tensor | None]) -> Tensor:
    """The sum of the terms of a part; means: of batch_means.

    Raises InputError where the denoiser learns its variance and no term trains it.
    """
    if part.learned is not None and not any(term.learns_variance for term in terms):
        raise InputError(
            "the denoiser learns its variance, which no term of its loss trains; add "
            "variational_bound to the terms, or leave learned_variance out of its network"
        )
    return torch.stack([f(part, mean) for f, mean in zip(terms, means, strict=True)]).sum()


def build_terms(terms: Mapping[str, Mapping[str, Any]]) -> list[Term]:
    """The terms named, each with its settings; InputError for an unknown name or setting."""
    return [TERMS.make(name, **settings) for name, settings in terms.items()]


@torch.no_grad()
def batch_means(
    terms: Sequence[Term],
    parts: Iterable[Callable[[], Prediction]],
    *,
    batch: int,
    device: torch.device,
    group: Group = ALONE,
) -> list[Tensor | None]:
    """Of each term the mean of its statistic over the batch of all processes; None for others.

    parts: the predictions of this process's parts, not made where no term asks for a mean.
    Dropout, which they draw from torch's global stream, draws the same units afterwards.
    """
    wanted = [term for term in terms if isinstance(term, TermOfMean)]
    if not wanted:
        return [None for _ in terms]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        sums = [[term.statistic(part) for term in wanted] for part in (make() for make in parts)]
    totals = [torch.stack(of_parts).sum(dim=0) for of_parts in zip(*sums, strict=True)]
    group.add_up(totals)
    means = (total / batch for total in totals)
    return [next(means) if isinstance(term, TermOfMean) else None for term in terms]
