"""Terms of a denoiser's training loss, a registry: the error of the predicted noise.

A new term is one class here under @TERMS.enter; its keyword-only arguments are its settings.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastdp.errors import InputError
from contrastdp.jobs.parallel import ALONE, Group
from contrastdp.registry import Registry

TERMS = Registry("diffusion loss term")
WEIGHTINGS = ("noise", "velocity")


@dataclass(frozen=True)
class Prediction:
    """What the denoiser made of images x_0: `predicted` for the noise e that they were given.

    predicted, noise: (N, C, H, W) or (N, D); abar: abar_t of each image, (N, 1, ...).
    """

    predicted: Tensor
    noise: Tensor
    abar: Tensor


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
    return Prediction(denoiser(noisy, timestep, **condition).sample, noise, a)


class Term(ABC):
    """A term of the loss of a batch, which passes in parts: micro-batches, of several processes.

    It is a mean over images: the parts' values, weighted with their shares of the batch, add up to
    the batch's. A TermOfMean is another kind.
    """

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
