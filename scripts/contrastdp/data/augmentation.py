"""Augmentations of training images: random crops, horizontal flips and CutMix.

Images are (N, C, H, W); generators live on the CPU, so a seed draws the same on every device.
"""

import numpy as np
import torch
from torch.nn import functional as F

from contrastdp.errors import InputError


def shift(x: torch.Tensor, pixels: int, generator: torch.Generator | None) -> torch.Tensor:
    """Move every image by its own random whole number of pixels, up to `pixels` in each direction.

    x: (N, C, H, W); what moves in from outside is 0 (black). The generator lives on the CPU, so a
    seed draws the same shifts on every device.
    """
    if pixels == 0:
        return x
    n, _, height, width = x.shape
    moves = torch.randint(0, 2 * pixels + 1, (2, n), generator=generator).to(x.device)
    padded = F.pad(x, (pixels, pixels, pixels, pixels))
    # every window of the padded image: (N, C, 2p+1, 2p+1, H, W), of which one an image is taken
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(n, device=x.device), :, moves[0], moves[1]]


def flip(x: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Mirror every image of x (N, C, H, W) left to right with probability 1/2, each on its own."""
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(mirrored.to(x.device)[:, None, None, None], x.flip(3), x)


def cutmix(
    x: torch.Tensor, y: torch.Tensor, alpha: float, generator: torch.Generator | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """CutMix (Yun et al. 2019): a rectangle of every image comes from another image of the batch.

    x: (N, C, H, W); y: (N, classes) probabilities. The rectangle is one for the whole batch, as in
    the code of Rebuffi et al. (2021): of area 1 - l before it is cut at the image's edge,
    l ~ Beta(alpha, alpha), around a uniform centre. Labels are mixed by the area that is really
    exchanged. Returns the images and (N, classes) float32 labels.
    """
    if not alpha > 0:
        raise InputError(f"cutmix {alpha}: must be above 0 to mix images, or 0 for no CutMix")
    n, _, height, width = x.shape
    # torch's Beta distribution takes no generator
    seed = int(torch.randint(2**62, (1,), generator=generator))
    side = (1 - np.random.default_rng(seed).beta(alpha, alpha)) ** 0.5
    spans = []
    for length in (height, width):
        half = int(length * side) // 2
        centre = int(torch.randint(length, (1,), generator=generator))
        spans.append(slice(max(centre - half, 0), min(centre + half, length)))
    partner = torch.randperm(n, generator=generator).to(x.device)

    mixed = x.clone()
    mixed[:, :, spans[0], spans[1]] = x[partner][:, :, spans[0], spans[1]]
    area = (spans[0].stop - spans[0].start) * (spans[1].stop - spans[1].start)
    share = area / (height * width)
    return mixed, (1 - share) * y + share * y[partner]
