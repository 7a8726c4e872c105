"""How good images are: their features beside those of held-out real images, and what they copy.

The features come from the project's own classifiers, so the distance here is Fréchet's in those
features and not the FID, which is Inception's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from contrastdp.data.tensors import batches, to_tensor
from contrastdp.errors import InputError
from contrastdp.networks.predict import predict

CONFIDENT = 0.9  # confidence from which an image counts as confidently labelled
CLOSEST = 0.01  # share of held-out images that lie closer to the training images than a 'copy'
ROWS = 1000  # images whose distances to all others are held at once


@dataclass(frozen=True)
class Images:
    """Images as two networks see them.

    pixels: (N, P) in [0, 1], flattened; feature: (N, D), the encoder's; confidence: (N,), the
    labeler's probability of the label; agreement: network -> (N,) bool, whether its most probable
    class is the label.
    """

    pixels: np.ndarray
    feature: np.ndarray
    confidence: np.ndarray
    agreement: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.pixels)


@torch.no_grad()
def see(image: np.ndarray, label: np.ndarray, *, encoder: nn.Module, labeler: nn.Module) -> Images:
    """Images (N, H, W, C) uint8 with labels (N,), as the two networks see them."""
    x = to_tensor(image).to(next(encoder.parameters()).device)
    y = torch.from_numpy(label).to(x.device)
    probability = predict(labeler, x).softmax(dim=1)  # (N, classes)
    feature = torch.cat([encoder.features(x[piece]) for piece in batches(len(x), 1000)])
    classes = {"labeler": probability, "encoder": encoder.logits(feature)}
    return Images(
        pixels=flat(image),
        feature=feature.cpu().numpy(),
        confidence=probability.gather(1, y[:, None]).squeeze(1).cpu().numpy(),
        agreement={name: (z.argmax(dim=1) == y).cpu().numpy() for name, z in classes.items()},
    )


def flat(image: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) uint8 as (N, H W C) float32 in [0, 1]."""
    return image.reshape(len(image), -1).astype(np.float32) / 255


def choose(count: int, total: int) -> np.ndarray:
    """At most `count` of `total` images, at random under a fixed seed: sorted indices.

    At random because an archive may be sorted by class.
    """
    if count >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(0).permutation(total)[:count])


# ---------------------------------------------------------------- between two sets of features
def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of Gaussians fitted to features a (N, D) and b (M, D), squared.

    ||m_a - m_b||^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Dowson & Landau 1982), covariances with
    ddof = 1. The root's trace is taken of the symmetric C_a^(1/2) C_b C_a^(1/2), which has the same
    eigenvalues and stays real where a feature is constant or N < D. Raises InputError for fewer
    than two images.
    """
    if min(len(a), len(b)) < 2:
        raise InputError(
            f"Fréchet distance of {len(a)} and {len(b)} images: give at least 2 of each"
        )
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    crossed = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)).sum()
    shift = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(shift + np.trace(cov_a) + np.trace(cov_b) - 2 * crossed)


def frechet_jackknife(a: np.ndarray, b: np.ndarray, groups: int) -> dict[str, float]:
    """The Fréchet distance with its standard error, and freed of its bias in first order.

    Both sets are cut into `groups` at random under a fixed seed, and one group of each is left out
    in turn. The distance is too large by about c / N + c' / M; the jackknife removes that term, so
    that of two samples of one distribution is around 0, also below; there the error is up to 1.5
    times too large. (A bootstrap's repeated images would add to the bias.) Raises InputError for
    fewer than 2 groups or too few images for them.
    """
    if groups < 2 or min(len(a), len(b)) < 2 * groups:
        raise InputError(
            f"jackknife of {len(a)} and {len(b)} images in {groups} groups: give 2 or more groups "
            "and at least twice as many images"
        )
    whole, without = frechet_distance(a, b), []
    parts = [_groups(len(x), groups) for x in (a, b)]
    for part_a, part_b in zip(*parts, strict=True):
        without.append(frechet_distance(np.delete(a, part_a, axis=0), np.delete(b, part_b, axis=0)))
    return {
        "frechet": whole,
        "frechet_error": float(np.sqrt((groups - 1) * np.var(without))),
        "frechet_debiased": float(groups * whole - (groups - 1) * np.mean(without)),
    }


def _groups(count: int, groups: int) -> list[np.ndarray]:
    return np.array_split(np.random.default_rng(0).permutation(count), groups)


def manifold_scores(real: np.ndarray, generated: np.ndarray, neighbours: int) -> dict[str, float]:
    """Precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    real (N, D), generated (M, D): features; neighbours: k. Each image has an open ball that reaches
    to its k-th nearest neighbour in its own set. Precision: share of the generated images that lie
    in a real ball; recall: of the real images in a generated ball; coverage: of the real balls that
    hold a generated image; density: real balls around a generated image, on average, over k. Raises
    InputError for too few images.
    """
    if min(len(real), len(generated)) <= neighbours + 1:
        raise InputError(
            f"{neighbours} neighbours among {len(real)} and {len(generated)} images: give more "
            "images or fewer neighbours"
        )
    real_radius, generated_radius = (_ball_radii(x, neighbours) for x in (real, generated))
    around = np.zeros(len(generated), int)  # real balls that hold a generated image
    recalled, covered = np.empty((2, len(real)), bool)
    for part, distance in _distances(real, generated):
        inside = distance < real_radius[part, None]
        around += inside.sum(axis=0)
        covered[part] = inside.any(axis=1)
        recalled[part] = (distance < generated_radius).any(axis=1)
    return {
        "precision": float((around > 0).mean()),
        "recall": float(recalled.mean()),
        "density": float(1 / neighbours * around.mean()),
        "coverage": float(covered.mean()),
    }


def _ball_radii(x: np.ndarray, neighbours: int) -> np.ndarray:
    """Distance of each x (N, D) to its k-th nearest neighbour among the others: (N,)."""
    radii = []
    for part, distance in _distances(x, x):
        np.fill_diagonal(distance[:, part], 0)  # to itself, where rounding may leave a little
        radii.append(np.partition(distance, neighbours, axis=1)[:, neighbours])
    return np.concatenate(radii)


def _distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Euclidean distances of x (N, D) to y (M, D), at most ROWS of x at a time: (ROWS, M)."""
    from sklearn.metrics import euclidean_distances

    for part in batches(len(x), ROWS):
        yield part, euclidean_distances(x[part], y)


# ---------------------------------------------------------------- in pixels
def nearest_distances(x: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Euclidean distance of each x (N, P) to the nearest of `training` (M, P): (N,)."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(training)
    return search.kneighbors(x)[0][:, 0]


# ---------------------------------------------------------------- all of it
def measure(
    images: Images,
    training: np.ndarray | None,
    *,
    heldout: Images,
    neighbours: int,
    groups: int,
) -> dict[str, float | int | None]:
    """The metrics of `images` beside held-out real images, and n, how many they are.

    training: (M, P), the real images that the generator was trained on; None for those themselves,
    whose nearest_… are None. frechet_relative is the debiased distance over the total variance of
    the held-out features, without unit; nearest: mean distance to the nearest training image;
    nearest_heldout: that of held-out images; nearest_ratio: nearest over it, far below 1 where
    images are copied; copies: share that lies closer than the closest CLOSEST of the held-out
    images; the rest: shares of images.
    """
    found: dict[str, float | int | None] = {"n": len(images)}
    found |= frechet_jackknife(images.feature, heldout.feature, groups)
    spread = float(np.var(heldout.feature.astype(np.float64), axis=0, ddof=1).sum())
    found["frechet_relative"] = found["frechet_debiased"] / spread if spread else None
    found |= manifold_scores(heldout.feature, images.feature, neighbours)
    found["confidence"] = float(images.confidence.mean(dtype=np.float64))
    found["confident"] = float((images.confidence >= CONFIDENT).mean())
    found |= {f"agreement_{name}": float(same.mean()) for name, same in images.agreement.items()}
    found |= dict.fromkeys(("nearest", "nearest_heldout", "nearest_ratio", "copies"))
    if training is not None:
        own = nearest_distances(images.pixels, training)
        other = nearest_distances(heldout.pixels, training)
        found["nearest"] = float(own.mean())
        found["nearest_heldout"] = float(other.mean())
        found["nearest_ratio"] = float(own.mean() / other.mean())
        found["copies"] = float((own < np.quantile(other, CLOSEST)).mean())
    return found
