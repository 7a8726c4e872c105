"""Pictures of time-dependent classifiers' gradients (Kawar, Ganz & Elad 2023, Figures 3 to 5)."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrastdp.data.tensors import to_uint8
from contrastdp.synthesis.alignment import Classifier, log_p_gradient, noised
from contrastdp.synthesis.shard import shard_images


def pictured_gradients(
    classifiers: Mapping[str, Classifier],
    *,
    clean: Tensor,
    label: Tensor,
    abar: Callable[[int], float],
    timesteps: Sequence[int],
    seed: int,
) -> dict[str, np.ndarray]:
    """Gradients of log p(y | x_t, t) at `timesteps`, of each classifier on the same x_t (Figure 3).

    clean (k, C, H, W) in [-1, 1], label (k,): images. Returns noisy (m, k, H, W, C) uint8, and
    {name}_gradient (m, k, H, W, C) float32.
    """
    states = [noised(clean, abar(t), seed, t) for t in timesteps]
    found = {"noisy": np.stack([pixels(state) for state in states])}
    for name, network in classifiers.items():
        pairs = zip(states, timesteps, strict=True)
        slopes = torch.stack([log_p_gradient(network, x, t, label) for x, t in pairs])
        found[f"{name}_gradient"] = slopes.permute(0, 1, 3, 4, 2).cpu().numpy()
    return found


def predicted_images(
    *, steps: int, count: int, sampling: Mapping[str, Any], **files: Any
) -> dict[str, np.ndarray]:
    """Predicted x_0 of a generator's first images at `steps` uniform steps of its chain (Figure 5).

    sampling: settings of shard_images; files: its files, seed and device. Returns predicted
    (s, count, H, W, C) uint8 and step (s,), which counts from 0.
    """
    seen: list[np.ndarray] = []
    shard_images(
        **sampling, **files, start=0, stop=count, observe=lambda x: seen.append(pixels(x[:count]))
    )
    chain = len(seen) // -(-count // sampling["batch"])  # the first batch's, if there are more
    step = np.linspace(0, chain - 1, min(chain, steps)).round().astype(np.int64)
    return {"predicted": np.stack([seen[k] for k in step]), "step": step}


def targeted_attack(
    network: Classifier, clean: Tensor, target: Tensor, *, steps: int, radius: float
) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] after PGD towards classes `target` at t = 0, in an L2 ball.

    Each of `steps` goes 2.5 radius / steps along grad log p(target), then back into the ball and
    the pixel range. radius: of images of 128 x 128 x 3 values; theirs is in ratio to the root of
    their number.
    """
    # PAPER: Figure 4 names 7 steps and a large radius for 128 x 128 x 3; other sizes are scaled
    radius *= math.sqrt(clean[0].numel() / (128 * 128 * 3))
    x = clean
    for _ in range(steps):
        x = x + 2.5 * radius / steps * _of_norm(log_p_gradient(network, x, 0, target))
        change = x - clean
        norm = change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        x = (clean + change * (radius / norm.clamp_min(1e-12)).clamp_max(1.0)).clamp(-1, 1)
    return x


def _of_norm(gradient: Tensor) -> Tensor:
    """Each gradient (N, ...) with norm 1, or 0 where it is."""
    return gradient / gradient.flatten(1).norm(dim=1).clamp_min(1e-20).view(-1, 1, 1, 1)


def pixels(state: Tensor) -> np.ndarray:
    """States (N, C, H, W) in [-1, 1] as images (N, H, W, C) uint8."""
    return to_uint8((state + 1) / 2)
