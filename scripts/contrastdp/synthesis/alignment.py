"""Numbers for 'perceptually aligned': what time-dependent classifiers' gradients point at.

Kawar, Ganz & Elad (TMLR 2023) show gradients of a vanilla and a robust classifier as pictures. Here
g = grad_{x_t} log p(y | x_t, t) is held against two directions, and against low frequencies.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from contrastdp.data.tensors import batches
from contrastdp.diffusion.conditioning import conditioning_of
from contrastdp.diffusion.sampling import predict_noise
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.errors import InputError
from contrastdp.guidance.protocol import check_classifier
from contrastdp.networks.checkpoint import load_network
from contrastdp.streams import generator

MEASURES = ("class_mean", "score", "low_frequency")
PIECE = 500  # images that pass a network at once
Classifier = Callable[[Tensor, Tensor], Tensor]
Score = Callable[[Tensor, int, Tensor], Tensor]


@dataclass(frozen=True)
class Band:
    """Timesteps from `low` to `high`, of which `timesteps` are looked at."""

    low: int
    high: int
    timesteps: tuple[int, ...]


def bands_of(total: int, bands: int, timesteps: int) -> list[Band]:
    """0 to total - 1 cut into `bands` of equal width, `timesteps` at equal distances in each."""
    edges = [round(k * total / bands) for k in range(bands + 1)]
    return [
        Band(low, high - 1, tuple(low + (high - low) * k // (2 * timesteps) for k in odd))
        for low, high in pairwise(edges)
        for odd in [range(1, 2 * timesteps, 2)]
    ]


def load_classifiers(
    files: Mapping[str, str], device: torch.device, classes: int, schedule: Tensor
) -> dict[str, nn.Module]:
    """Frozen classifiers by name.

    schedule: abar_t of every t (T,), of the denoiser. Raises InputError for one that is not told
    the timestep, or was trained under another schedule or for another number of classes.
    """
    found: dict[str, nn.Module] = {}
    for name, path in files.items():
        network = load_network(path, device).requires_grad_(False)
        if not getattr(network, "time_dependent", False):
            raise InputError(
                f"{path}: the {name} classifier takes no timestep; name one whose architecture "
                "does, such as time_unet"
            )
        check_classifier(network, path, classes, schedule)
        found[name] = network
    return found


# ---------------------------------------------------------------- gradients and directions
def log_p_gradient(network: Classifier, state: Tensor, timestep: int, label: Tensor) -> Tensor:
    """grad_{x_t} log p(y | x_t, t) at states (N, C, H, W) in [-1, 1], of classes `label` (N,).

    network: (x_t, t (N,) int64) -> logits (N, classes). Exact also where p is 1 but for rounding,
    where the softmax's own gradient would lose the part of class y. Raises InputError where it is
    not finite.
    """
    found = []
    for piece in batches(len(state), PIECE):
        with torch.enable_grad():
            source = state[piece].detach().requires_grad_()
            when = torch.full((len(source),), timestep, device=source.device)
            logits, own = network(source, when).double(), label[piece, None]
            others = logits.scatter(1, own, -torch.inf).logsumexp(1)
            log_p = logsigmoid(logits.gather(1, own)[:, 0] - others)
            found.append(torch.autograd.grad(log_p.sum(), source)[0])
    gradient = torch.cat(found)
    if not bool(gradient.isfinite().all()):
        raise InputError(
            f"a classifier's gradient is not finite at t = {timestep}; train it again with a "
            "smaller learning rate"
        )
    return gradient


def noised(clean: Tensor, abar: float, seed: int, timestep: int) -> Tensor:
    """x_t of images (N, C, H, W) in [-1, 1], the noise from the stream of (seed, t)."""
    stream = generator(seed, "gradients", timestep)
    noise = torch.randn(clean.shape, generator=stream).to(clean)
    return abar**0.5 * clean + (1 - abar) ** 0.5 * noise


def class_mean_differences(clean: Tensor, label: Tensor, classes: int) -> Tensor:
    """Mean image of each class minus the mean of all others' images: (classes, C, H, W).

    Raises InputError for a class without images, or with all of them.
    """
    counts = torch.bincount(label, minlength=classes)
    if not bool(((counts > 0) & (counts < len(label))).all()):
        raise InputError(
            f"class {int(counts.argmin())} has {int(counts.min())} of {len(label)} real images; "
            "class means need some of each class, so enlarge real"
        )
    own = [clean[label == c].mean(dim=0) - clean[label != c].mean(dim=0) for c in range(classes)]
    return torch.stack(own)


def score_difference(
    unconditional: nn.Module,
    conditional: nn.Module,
    schedulers: tuple[SubsequenceScheduler, SubsequenceScheduler],
) -> Score:
    """(x_t, t, y) -> eps(x_t) - eps(x_t, y) of two denoisers, along grad log p(y | x_t).

    By Bayes grad log p(y | x_t) = grad log p(x_t | y) - grad log p(x_t), and a score is
    -eps / sqrt(1 - abar_t). Two denoisers stand for one with a label for 'no class'. Raises
    InputError where they were trained under different noise schedules.
    """
    if not torch.equal(*(scheduler.alphas_cumprod for scheduler in schedulers)):
        raise InputError(
            "the unconditional and the conditional denoiser were trained under different noise "
            "schedules; name two of one schedule"
        )

    def predicted(model: nn.Module, scheduler: Any, x: Tensor, t: int, y: Tensor | None) -> Tensor:
        condition = conditioning_of(model).seen(x, y)
        output = predict_noise(model, x, t, condition, PIECE)[:, : x.shape[1]]
        return scheduler.noise_of(output, t, x)  # without a learned variance

    @torch.no_grad()
    def difference(state: Tensor, timestep: int, label: Tensor) -> Tensor:
        without = predicted(unconditional, schedulers[0], state, timestep, None)
        return without - predicted(conditional, schedulers[1], state, timestep, label)

    return difference


# ---------------------------------------------------------------- measures
def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of each a (N, ...) with b (N, ...), in float64: (N,), NaN where one of both is 0."""
    a, b = (x.flatten(1).double() for x in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def low_frequency_share(x: Tensor, cutoff: float = 0.5) -> Tensor:
    """Share of the energy of each x (N, C, H, W) in low frequencies: (N,), NaN where x is 0.

    The energy at (u, v) is |DFT(x)(u, v)|^2, of the 2-D DFT of each channel, summed over channels;
    u and v lie in [-1/2, 1/2) cycles a pixel. Low are those with sqrt(u^2 + v^2) <= cutoff / 2, the
    Nyquist frequency of a row being 1/2. A constant image has share 1, a checkerboard 0, white
    noise about the share of frequencies that are low.
    """
    height, width = x.shape[-2:]
    energy = torch.fft.fft2(x.double()).abs().square().sum(dim=1)  # (N, H, W)
    radius = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None])
    low = (radius <= cutoff / 2 + 1e-6).to(x.device)
    return (energy * low).sum(dim=(1, 2)) / energy.sum(dim=(1, 2))


def measured(
    gradient: Tensor, directions: Mapping[str, Tensor], low_frequency: float
) -> dict[str, Tensor]:
    """Each of MEASURES of gradients (N, C, H, W): (N,); directions: 'class_mean' and 'score'."""
    found = {name: cosines(gradient, direction) for name, direction in directions.items()}
    return found | {"low_frequency": low_frequency_share(gradient, low_frequency)}


def band_measures(
    classifiers: Mapping[str, Classifier],
    *,
    clean: Tensor,
    label: Tensor,
    abar: Callable[[int], float],
    means: Tensor,
    score: Score,
    bands: Iterable[Band],
    low_frequency: float,
    seed: int,
) -> list[dict[str, Any]]:
    """The mean of each measure in each band of t, of every classifier on the same x_t.

    classifiers: by name; clean (N, C, H, W) in [-1, 1], label (N,): images; abar: t -> abar_t;
    means: of class_mean_differences; score: (x_t, t, y) -> the score difference; low_frequency: of
    low_frequency_share; seed: of the noise. Returns low, high, timesteps, n and a mapping of
    MEASURES for each classifier. An x_t where a measure of any classifier is undefined, as a
    gradient is 0, counts for none; n is how many count. Raises InputError where none does.
    """
    found = []
    for band in bands:
        values: dict[str, list[Tensor]] = {name: [] for name in classifiers}
        for timestep in band.timesteps:
            state = noised(clean, abar(timestep), seed, timestep)
            aims = {"class_mean": means[label], "score": score(state, timestep, label)}
            for name, network in classifiers.items():
                gradient = log_p_gradient(network, state, timestep, label)
                each = measured(gradient, aims, low_frequency)
                values[name].append(torch.stack([each[key] for key in MEASURES]).cpu())
        each_x = {name: torch.cat(parts, dim=1) for name, parts in values.items()}  # (3, n)
        counted = torch.stack([x.isfinite().all(dim=0) for x in each_x.values()]).all(dim=0)
        if not bool(counted.any()):
            raise InputError(
                f"gradients from t = {band.low} to {band.high} are all 0; train the classifier "
                "for fewer steps, or on more images"
            )
        means_of = {
            name: dict(zip(MEASURES, x[:, counted].mean(dim=1).tolist(), strict=True))
            for name, x in each_x.items()
        }
        head = {"low": band.low, "high": band.high, "timesteps": list(band.timesteps)}
        found.append({**head, "n": int(counted.sum()), **means_of})
    return found
