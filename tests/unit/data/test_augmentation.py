"""Crops, flips and CutMix against loops over images and pixels."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from contrastdp.data.augmentation import cutmix, flip, shift
from contrastdp.errors import InputError


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def test_shift_agrees_with_a_loop_and_covers_every_move():
    x = torch.rand(200, 2, 5, 4)
    moved = shift(x, 1, torch.Generator().manual_seed(0))
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = set()
    for i in range(len(x)):
        found = [
            (dy, dx)
            for dy in range(3)
            for dx in range(3)
            if np.array_equal(moved[i].numpy(), padded[i, :, dy : dy + 5, dx : dx + 4])
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 9
    assert shift(x, 0, None) is x


def test_flip_mirrors_whole_images_half_the_time():
    x = torch.rand(400, 2, 3, 5, generator=stream(1))
    flipped = flip(x, stream())
    mirrored = np.array(
        [np.array_equal(b, a[:, :, ::-1]) for a, b in zip(x.numpy(), flipped.numpy(), strict=True)]
    )
    same = np.array([torch.equal(a, b) for a, b in zip(x, flipped, strict=True)])
    assert (mirrored ^ same).all()
    # 400 fair coins: five standard deviations are 50
    assert 150 < mirrored.sum() < 250
    assert torch.equal(flipped, flip(x, stream()))


# ---------------------------------------------------------------- CutMix
def sources(mixed):
    """Image i is full of the number i: the source of every pixel, and the batch's rectangle."""
    source = mixed[:, 0].long()
    own = torch.arange(len(mixed))[:, None, None]
    return source, (source != own)


def test_cutmix_is_one_rectangle_of_another_image_and_labels_by_its_area():
    n, height, width = 12, 6, 9
    x = torch.arange(n).float()[:, None, None, None].expand(n, 2, height, width)
    y = F.one_hot(torch.arange(n), n).float()
    areas = []
    for seed in range(300):
        mixed, labels = cutmix(x, y, 1.0, stream(seed))
        assert torch.equal(mixed[:, 0], mixed[:, 1])
        source, foreign = sources(mixed)
        rows, columns = foreign.any(0).any(1).nonzero(), foreign.any(0).any(0).nonzero()
        area = len(rows) * len(columns)
        areas.append(area)
        for i in range(n):
            # a label is the share of pixels that each image gives
            shares = torch.bincount(source[i].flatten(), minlength=n) / (height * width)
            torch.testing.assert_close(labels[i], shares)
            assert foreign[i].sum() in (0, area)
        if area:
            assert len(rows) == rows.max() - rows.min() + 1
            assert len(columns) == columns.max() - columns.min() + 1
    assert min(areas) == 0
    assert max(areas) == 4 * 8
    assert torch.equal(cutmix(x, y, 1.0, stream(4))[0], cutmix(x, y, 1.0, stream(4))[0])


def test_area_of_cutmix_follows_the_beta_distribution():
    # without the cut at the edge the mean area is E[1 - l] = 1/2; alpha decides its spread. Windows
    # of centred half-widths lose part at the edges: a Monte Carlo loop in numpy is the oracle.
    size, draws = 20, 1500
    x, y = torch.zeros(2, 1, size, size), torch.eye(2)
    x[1] = 1
    for alpha in (0.3, 1.0, 4.0):
        found = []
        for seed in range(draws):
            mixed, _ = cutmix(x, y, alpha, stream(seed))
            found.append(mixed[0].mean().item())
        rng = np.random.default_rng(0)
        expected = []
        for _ in range(4 * draws):
            half = int(size * np.sqrt(1 - rng.beta(alpha, alpha))) // 2
            spans = [min(c + half, size) - max(c - half, 0) for c in rng.integers(0, size, 2)]
            expected.append(spans[0] * spans[1] / size**2)
        # the partner is the image itself half of the time, which exchanges nothing
        moved = np.array(found)[np.array(found) > 0]
        truth = np.array(expected)[np.array(expected) > 0]
        error = 5 * truth.std() * (1 / len(moved) + 1 / len(truth)) ** 0.5
        assert abs(moved.mean() - truth.mean()) < error
        assert abs(moved.std() / truth.std() - 1) < 0.15


def test_cutmix_of_no_alpha():
    with pytest.raises(InputError, match="above 0"):
        cutmix(torch.zeros(2, 1, 4, 4), torch.eye(2), 0.0, None)
