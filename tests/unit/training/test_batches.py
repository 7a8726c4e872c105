"""Batches of robust training: shares, epochs, augmentation."""

from itertools import islice

import pytest
import torch
from bright_rows import bright_rows
from torch.nn import functional as F

from contrastdp.data import augmentation
from contrastdp.errors import InputError
from contrastdp.training.batches import MixedBatches, augmented


def images(n, mark=0.0, seed=0):
    """Three classes, each a bright row; `mark` is the value of the last pixel."""
    x, y = bright_rows(n, side=6, seed=seed)
    x[:, 0, 5, 5] = mark
    return x, y


def test_batches_hold_the_share_and_real_images_without_replacement():
    real, synthetic = images(9, mark=0.25), images(30, mark=0.75)
    generator = torch.Generator().manual_seed(0)
    draws = MixedBatches(real, synthetic, batch=10, synthetic_share=0.7, generator=generator)
    seen = []
    for x, y in islice(draws, 3):
        is_real = x[:, 0, 5, 5] == 0.25
        assert is_real.sum() == 3
        assert len(y) == 10
        for image, label in zip(x, y, strict=True):
            source = real if image[0, 5, 5] == 0.25 else synthetic
            place = (source[0] == image).flatten(1).all(1).nonzero().item()
            assert source[1][place] == label
            if source is real:
                seen.append(place)
    assert sorted(seen) == list(range(9))


def test_batches_of_one_kind():
    generator = torch.Generator().manual_seed(0)
    for real, synthetic in ((images(9), None), (None, images(30))):
        x, _ = next(
            MixedBatches(real, synthetic, batch=8, synthetic_share=0.5, generator=generator)
        )
        assert len(x) == 8


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_share_without_room_for_both(share):
    with pytest.raises(InputError, match="synthetic_share"):
        next(MixedBatches(images(9), images(9), batch=8, synthetic_share=share, generator=None))


def test_no_images():
    with pytest.raises(InputError, match="no images"):
        next(MixedBatches(None, None, batch=8, synthetic_share=0.5, generator=None))


def test_pooled_batches_go_through_both_sets_once_an_epoch():
    real, synthetic = images(9, mark=0.25), images(30, mark=0.75)
    generator = torch.Generator().manual_seed(0)
    draws = MixedBatches(real, synthetic, batch=13, synthetic_share="pooled", generator=generator)
    drawn = list(islice(draws, 6))
    for epoch in (drawn[:3], drawn[3:]):
        x, y = (torch.cat(parts) for parts in zip(*epoch, strict=True))
        seen = []
        for i in range(39):
            images_, labels = real if x[i, 0, 5, 5] == 0.25 else synthetic
            place = (images_ == x[i]).flatten(1).all(1).nonzero().item()
            assert labels[place] == y[i]
            seen.append((len(labels), place))
        assert len(set(seen)) == 39
    shares = [int((x[:, 0, 5, 5] == 0.25).sum()) for x, _ in drawn]
    assert len(set(shares)) > 1


def test_pooled_synthetic_images_alone_are_not_repeated_either():
    draws = MixedBatches(
        None,
        images(30),
        batch=30,
        synthetic_share="pooled",
        generator=torch.Generator().manual_seed(0),
    )
    assert len(next(draws)[0].unique(dim=0)) == 30


def test_augmentations_are_those_of_their_module_in_one_stream():
    x, y = images(12)
    options = {"shift": 1, "flip": True, "cutmix": 1.0, "classes": 3}
    stream = torch.Generator().manual_seed(5)
    found = next(augmented(iter([(x, y)]), **options, generator=stream))
    stream = torch.Generator().manual_seed(5)
    expected = augmentation.flip(augmentation.shift(x, 1, stream), stream)
    expected = augmentation.cutmix(expected, F.one_hot(y, 3).float(), 1.0, stream)
    for one, two in zip(found, expected, strict=True):
        assert torch.equal(one, two)
