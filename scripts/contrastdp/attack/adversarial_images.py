"""Adversarial images on disk: what shows anybody that an attack broke an image.

scripts/verify_adversarials.py reads them again, with neither this module nor the attack's package.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contrastdp.attack.versions import is_broken
from contrastdp.files import digest, replacing


def write_adversarial_images(
    path: str | Path,
    images: Mapping[str, Sequence],
    x_adv: torch.Tensor,
    model: str | Path,
    attack: Mapping[str, Any],
    n_test: int,
) -> dict[str, dict[str, str]]:
    """Write an attacked shard's adversarial images as a compressed npz, float for float.

    images: index, label and broken_by of all N images of the shard, in order; x_adv: (N, C, H, W)
    float32, what the attack made of them; model: the attacked network's file; attack: identity.
    The npz holds, of the n images that an attack broke, image (n, H, W, C) float32 in [0, 1], index
    and label (n,) int64, broken_by (n,) text; and norm, eps (a fraction), start, stop, n_test and
    model, the sha256 of the model's file. Returns the sha256 of both files, by their names.
    """
    broken = np.array([is_broken(by) for by in images["broken_by"]], dtype=bool)
    # channels last, as in every other image file
    image = x_adv.detach().cpu().permute(0, 2, 3, 1).numpy()[broken]
    sha256 = digest(model)
    with replacing(path) as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(
            handle,
            image=np.ascontiguousarray(image),
            index=np.array(images["index"], dtype=np.int64)[broken],
            label=np.array(images["label"], dtype=np.int64)[broken],
            broken_by=np.array(images["broken_by"], dtype=str)[broken],
            norm=attack["norm"],
            eps=str(Fraction(attack["eps"])),
            start=images["index"][0],
            stop=images["index"][-1] + 1,
            n_test=n_test,
            model=sha256,
        )
    return {"sha256": {"model": sha256, "adversarial": digest(path)}}
