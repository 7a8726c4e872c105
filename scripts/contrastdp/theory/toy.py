"""The toy of Figures 2, 6 and 7: a diffusion model of two Gaussians in the plane, and its guidance.

y uniform on {-1, +1}, x given y ~ N(y mu, sigma^2 I) (section 3.1); class 0 is y = -1.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastdp.diffusion.conditioning import UNCONDITIONAL, ClassLabel
from contrastdp.diffusion.denoisers import DenoiserOutput
from contrastdp.diffusion.initialisation import Gaussian
from contrastdp.diffusion.sampling import sample_batch
from contrastdp.diffusion.schedulers import SubsequenceScheduler, subsequence
from contrastdp.diffusion.terms import NoisePrediction, predict
from contrastdp.errors import InputError, finite
from contrastdp.guidance.build import build_guidance
from contrastdp.guidance.contrast import PAIRS
from contrastdp.guidance.protocol import Guidance
from contrastdp.networks.averaging import AveragedNetwork
from contrastdp.streams import derive_seed, generator
from contrastdp.theory.toy_measures import measure

UNKNOWN = 2  # the class number of a point without a label
CLASSES = ClassLabel(2)  # point i is of class i mod 2


@dataclass(frozen=True)
class Mixture:
    """0.5 N(mu, sigma^2 I) + 0.5 N(-mu, sigma^2 I) in the plane."""

    mu: Sequence[float]
    sigma: float

    def __post_init__(self) -> None:
        if len(self.mu) != 2 or not any(self.mu) or self.sigma <= 0:
            raise InputError(
                f"mixture: mu is {list(self.mu)}, sigma {self.sigma}; give mu two coordinates, "
                "not both 0, and a positive sigma"
            )

    def draw(self, label: Tensor, stream: torch.Generator) -> Tensor:
        """Points (N, 2) of the classes `label` (N,)."""
        sign = 2.0 * label - 1
        noise = torch.randn(len(label), 2, generator=stream)
        return sign[:, None] * torch.tensor(self.mu, dtype=torch.float32) + self.sigma * noise


# ---------------------------------------------------------------- noise predictors
class ExactDenoiser(nn.Module):
    """The mixture's own noise predictor: -sqrt(1 - abar_t) times the score of x_t, in closed form.

    x_t | y ~ N(sqrt(abar_t) y mu, v I) with v = abar_t sigma^2 + 1 - abar_t; without a label y is
    replaced by its posterior mean tanh(sqrt(abar_t) mu . x_t / v).
    """

    abar: Tensor

    def __init__(self, mixture: Mixture, abar: Tensor):
        """abar: (T,) cumulative products of 1 - beta."""
        super().__init__()
        self.mu = nn.Parameter(torch.tensor(mixture.mu, dtype=abar.dtype), requires_grad=False)
        self.sigma = mixture.sigma
        self.register_buffer("abar", abar)

    def forward(
        self, sample: Tensor, timestep: Tensor | int, class_labels: Tensor | None = None
    ) -> DenoiserOutput:
        """sample: x_t (N, 2); timestep: int or (N,); class_labels: (N,) of 0 and 1, or None."""
        abar = self.abar[torch.as_tensor(timestep).expand(len(sample))][:, None]  # (N, 1)
        variance = abar * self.sigma**2 + 1 - abar
        mean = abar.sqrt() * self.mu  # (N, 2)
        if class_labels is None:
            sign = ((sample * mean).sum(1, keepdim=True) / variance).tanh()
        else:
            sign = 2.0 * class_labels[:, None] - 1
        return DenoiserOutput(sample=(1 - abar).sqrt() * (sample - sign * mean) / variance)


class PointDenoiser(nn.Module):
    """A small noise predictor for points of the plane, with or without a label.

    eps = sqrt(1 - abar_t) x + sqrt(abar_t) net(x, t, y), as in SmallDenoiser. One network serves
    both: an unknown label is a class of its own, which training uses for a share of the points.
    """

    abar: Tensor
    frequencies: Tensor

    def __init__(self, abar: Tensor, *, width: int, depth: int, embedding: int = 16):
        """abar: (T,); width, depth: of the hidden layers; embedding: even, of time and label."""
        super().__init__()
        self.register_buffer("abar", abar)
        half = torch.arange(embedding // 2)
        self.register_buffer("frequencies", math.pi * 2.0 ** (half - 1) / len(abar))
        self.label = nn.Embedding(3, embedding)
        layers: list[nn.Module] = []
        for entering in (2 + 2 * embedding, *[width] * (depth - 1)):
            layers += [nn.Linear(entering, width), nn.SiLU()]
        leave = nn.Linear(width, 2)
        self.net = nn.Sequential(*layers, leave)
        nn.init.zeros_(leave.weight)
        nn.init.zeros_(leave.bias)

    def forward(
        self, sample: Tensor, timestep: Tensor | int, class_labels: Tensor | None = None
    ) -> DenoiserOutput:
        """sample: x_t (N, 2); timestep: int or (N,); class_labels: (N,), UNKNOWN too, or None."""
        timestep = torch.as_tensor(timestep).expand(len(sample))
        if class_labels is None:
            class_labels = torch.full((len(sample),), UNKNOWN)
        angle = timestep[:, None] * self.frequencies  # (N, embedding / 2)
        entered = torch.cat([sample, angle.sin(), angle.cos(), self.label(class_labels)], dim=1)
        abar = self.abar[timestep][:, None]
        return DenoiserOutput(sample=(1 - abar).sqrt() * sample + abar.sqrt() * self.net(entered))


def train_point_denoiser(
    mixture: Mixture,
    abar: Tensor,
    *,
    seed: int,
    width: int,
    depth: int,
    steps: int,
    batch: int,
    learning_rate: float,
    averaging: float,
    unlabelled: float,
) -> tuple[PointDenoiser, float]:
    """Train a noise predictor on fresh draws of the mixture; it, and the mean loss of the last 10%.

    unlabelled: share of the points that are trained without their label; averaging: decay of the
    averaged weights, which are returned. Adam with a cosine schedule. Raises InputError on a
    non-finite loss.
    """
    stream = generator(seed, "toy denoiser")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "toy denoiser", "weights"))
        denoiser = PointDenoiser(abar, width=width, depth=depth)
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    average = AveragedNetwork(denoiser, decay=averaging, warmup=0)
    late: list[float] = []
    error = NoisePrediction()
    for step in range(steps):
        label = torch.randint(0, 2, (batch,), generator=stream)
        x0 = mixture.draw(label, stream)
        timestep = torch.randint(0, len(abar), (batch,), generator=stream)
        noise = torch.randn(x0.shape, generator=stream)
        hidden = torch.rand(batch, generator=stream) < unlabelled
        label = label.masked_fill(hidden, UNKNOWN)
        condition = {"class_labels": label}
        loss = error(predict(denoiser, x0, noise, timestep, abar, condition))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        average.update(step)
        if step >= int(0.9 * steps):
            late.append(finite(loss.item(), "toy diffusion loss", step + 1))
    return average.network(), float(np.mean(late))


@torch.no_grad()
def distance_to_exact(
    denoiser: nn.Module, mixture: Mixture, abar: Tensor, *, seed: int, points: int = 20_000
) -> dict[str, float]:
    """Mean squared distance of predicted noise to the exact one, with and without labels.

    Over points x_t of the forward process at uniform t; the exact predictor's own distance to the
    noise that was added (the least possible loss) stands beside it as `exact`.
    """
    stream = generator(seed, "toy distance")
    exact = ExactDenoiser(mixture, abar)
    label = torch.randint(0, 2, (points,), generator=stream)
    x0 = mixture.draw(label, stream)
    timestep = torch.randint(0, len(abar), (points,), generator=stream)
    noise = torch.randn(x0.shape, generator=stream)
    a = abar[timestep][:, None]
    noisy = a.sqrt() * x0 + (1 - a).sqrt() * noise
    found = {}
    for name, known in (("unlabelled", None), ("labelled", label)):
        best = exact(noisy, timestep, known).sample
        found[name] = float(F.mse_loss(denoiser(noisy, timestep, known).sample, best))
        found[f"exact_{name}"] = float(F.mse_loss(best, noise))
    return found


# ---------------------------------------------------------------- feature maps
def identity(points: Tensor) -> Tensor:
    """f(x) = x."""
    return points


def train_point_features(
    mixture: Mixture,
    *,
    seed: int,
    width: int,
    features: int,
    steps: int,
    batch: int,
    learning_rate: float,
) -> Callable[[Tensor], Tensor]:
    """Penultimate features (N, 2) -> (N, features) of a small classifier of the two classes."""
    stream = generator(seed, "toy classifier")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "toy classifier", "weights"))
        body = nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, features), nn.SiLU())
        logits = nn.Linear(features, 2)
    parameters = [*body.parameters(), *logits.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    for _ in range(steps):
        label = torch.randint(0, 2, (batch,), generator=stream)
        loss = F.cross_entropy(logits(body(mixture.draw(label, stream))), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    finite(loss.item(), "toy classifier loss", steps)
    return body.eval().requires_grad_(False)


# ---------------------------------------------------------------- guided sampling
@dataclass
class MeasuredGuidance:
    """A guidance that notes its size beside the predicted noise; `applied` False adds nothing.

    The size of a step is the median norm over the batch: near the origin the gradient of a
    normalised feature grows without bound, and a mean would follow single points.
    """

    guidance: Guidance
    denoiser: nn.Module
    applied: bool = True
    added: list[float] = field(default_factory=list)
    predicted: list[float] = field(default_factory=list)

    def start(self, indices: list[int], timesteps: list[int], label: Tensor | None = None) -> None:
        self._label = label
        self.guidance.start(indices, timesteps, label)

    def __call__(self, state: Tensor, timestep: int) -> Tensor | None:
        gradient = self.guidance(state, timestep)
        if gradient is not None:
            noise = self.denoiser(state, timestep, class_labels=self._label).sample
            self.added.append(float(gradient.norm(dim=1).median()))
            self.predicted.append(float(noise.norm(dim=1).median()))
        return gradient if self.applied else None

    def relative_size(self) -> float:
        """Median norm of what was added over that of the predicted noise, each a mean of steps."""
        return float(np.mean(self.added) / np.mean(self.predicted))


@dataclass(frozen=True)
class Panel:
    """One panel's points (batches, m, 2), classes (batches, m) and measures, a row a batch."""

    key: dict[str, Any]
    points: np.ndarray
    label: np.ndarray
    rows: list[dict[str, Any]]


def sample_readings(
    readings: Mapping[str, Mapping[str, Any]],
    trained: nn.Module,
    mixture: Mixture,
    scheduler: SubsequenceScheduler,
    classifier: Callable[[Tensor], Tensor],
    **common: Any,
) -> Iterator[Panel]:
    """Sample every panel of every reading of what the paper leaves open.

    readings: name -> settings of sample_reading with, in place of objects, predictor ('trained' or
    'exact'), features ('identity' or 'classifier') and, where it is not `mixture`, a mixture of its
    own (of the exact predictor alone); common: what sample_reading takes besides. Raises InputError
    for an unknown choice.
    """
    for name, reading in readings.items():
        settings = dict(reading)
        own = Mixture(**settings.pop("mixture")) if "mixture" in settings else mixture
        predictor, features = settings.pop("predictor"), settings.pop("features")
        if predictor not in ("trained", "exact") or features not in ("identity", "classifier"):
            raise InputError(
                f"reading '{name}': predictor is '{predictor}', features '{features}'; choose "
                "trained or exact, and identity or classifier"
            )
        if own != mixture and (predictor, features) != ("exact", "identity"):
            raise InputError(
                f"reading '{name}': predictor and classifier are trained on the main mixture; "
                "use exact and identity for another"
            )
        denoiser = trained
        if predictor == "exact":
            denoiser = ExactDenoiser(own, scheduler.alphas_cumprod)
        mapped = identity if features == "identity" else classifier
        yield from sample_reading(name, denoiser, own, scheduler, mapped, **settings, **common)


def sample_reading(
    name: str,
    denoiser: nn.Module,
    mixture: Mixture,
    scheduler: SubsequenceScheduler,
    features: Callable[[Tensor], Tensor],
    *,
    losses: Mapping[str, Mapping[str, Any]],
    normalise: bool,
    steps: int,
    eta: float,
    starts: Sequence[float],
    sizes: Sequence[float],
    batches: int,
    plain_batches: int,
    points: int,
    real: int,
    seed: int,
) -> Iterator[Panel]:
    """Sample every panel of one reading of the paper's toy: real, plain, and each loss.

    losses: panel -> settings of build_guidance (loss, pairs, tau, ...); normalise: features to unit
    length; steps, eta: of the DDIM chain (eta = 1: DDPM); starts: deviations of x_T; sizes: how
    large lambda grad is beside the predicted noise (MeasuredGuidance) along the plain chain that
    starts from N(0, I), which fixes lambda for all starts; points: of a batch, coupled by the
    guidance; batches: of a guided panel, plain_batches of one without guidance; real: how many
    draws of the mixture, half of each class, stand for the real data of the losses that use it.
    Point i starts from the same noise in every panel. Points are sampled without labels and belong
    to the nearest mode, but for class-conditional panels, where point i has the label i mod 2.
    """
    chain = subsequence(scheduler.config.num_train_timesteps, steps, "uniform")
    scheduler.set_timesteps(timesteps=chain)
    stream = derive_seed(seed, "toy sample")
    mu = torch.tensor(mixture.mu, dtype=torch.float32)

    def draw(batch: int, start: float, conditional: bool, guidance: Guidance | None) -> Tensor:
        indices = list(range(batch * points, (batch + 1) * points))
        return sample_batch(
            denoiser,
            scheduler,
            indices=indices,
            seed=stream,
            shape=(2,),
            eta=eta,
            guidance=guidance,
            conditioning=CLASSES if conditional else UNCONDITIONAL,
            initialisation=Gaussian(initial_scale=start),
        )

    def panel(
        kind: str, start: float, count: int, conditional: bool, guide: Any, size=0.0, lambda_=0.0
    ) -> Panel:
        key = {"reading": name, "panel": kind, "start": start, "size": size}
        drawn, label, rows = [], [], []
        for batch in range(count):
            guidance = guide(lambda_) if guide is not None else None
            found = draw(batch, start, conditional, guidance)
            nearest = (found @ mu > 0).long()
            own = CLASSES.label(range(points)) if conditional else nearest
            realised = guidance.relative_size() if guidance is not None else 0.0
            row = measure(found.numpy(), own.numpy(), mu=mixture.mu)
            rows.append(key | {"lambda": lambda_, "batch": batch, "realised": realised} | row)
            drawn.append(found.numpy())
            label.append(own.numpy())
        return Panel(key, np.stack(drawn), np.stack(label), rows)

    # ------------------------------------------------ without guidance
    yield _real_panel(name, mixture, batches=plain_batches, points=points, seed=seed)
    for start in starts:
        yield panel("plain", start, plain_batches, False, None)
        yield panel("plain_conditional", start, plain_batches, True, None)

    # ------------------------------------------------ guided
    drawn = features(mixture.draw(CLASSES.label(range(real)), generator(seed, "toy real")))
    for kind, settings in losses.items():
        conditional = "label" in PAIRS.takes(settings["pairs"])

        def guide(
            lambda_: float, applied: bool = True, settings: Mapping[str, Any] = settings
        ) -> MeasuredGuidance:
            contrastive = build_guidance(
                features,
                seed=stream,
                lambda_=lambda_,
                normalise=normalise,
                encoder_input="raw",
                real=drawn,
                **settings,
            )
            return MeasuredGuidance(contrastive, denoiser, applied)

        probe = guide(1.0, applied=False)
        draw(0, 1.0, conditional, probe)
        for size in sizes:
            for start in starts:
                lambda_ = size / probe.relative_size()
                yield panel(kind, start, batches, conditional, guide, size, lambda_)


def _real_panel(name: str, mixture: Mixture, *, batches: int, points: int, seed: int) -> Panel:
    """Draws of the mixture itself, with classes by the nearest mode: what plain ought to show."""
    key = {"reading": name, "panel": "real", "start": 1.0, "size": 0.0}
    drawn, label, rows = [], [], []
    for batch in range(batches):
        stream = generator(seed, "toy mixture", batch)
        x = mixture.draw(torch.randint(0, 2, (points,), generator=stream), stream).numpy()
        nearest = (x @ np.asarray(mixture.mu) > 0).astype(np.int64)
        row = measure(x, nearest, mu=mixture.mu)
        rows.append(key | {"lambda": 0.0, "batch": batch, "realised": 0.0} | row)
        drawn.append(x)
        label.append(nearest)
    return Panel(key, np.stack(drawn), np.stack(label), rows)
