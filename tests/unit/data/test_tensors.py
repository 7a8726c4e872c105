"""Images as tensors: conversion, subsets, batches."""

from itertools import islice

import numpy as np
import pytest
import torch

from contrastdp.data.images import write_images
from contrastdp.data.tensors import (
    Epochs,
    batches,
    draw_subset,
    read_held_out,
    read_tensors,
    to_tensor,
    to_uint8,
)
from contrastdp.errors import InputError


def test_conversion_round_trip_keeps_every_grey_level_and_axis():
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    image.ravel()[:256] = np.arange(256)
    x = to_tensor(image)
    assert x.dtype == torch.float32
    assert x.shape == (5, 3, 4, 6)
    assert x[1, 2, 3, 4] == image[1, 3, 4, 2] / np.float32(255)
    assert np.array_equal(to_uint8(x), image)


def test_to_uint8_rounds_and_clips():
    x = torch.tensor([-0.2, 0.0, 0.999, 1.4 / 255, 1.6 / 255, 1.3]).reshape(6, 1, 1, 1)
    assert to_uint8(x).ravel().tolist() == [0, 0, 255, 1, 2, 255]


def test_subset_is_balanced_sorted_and_seeded():
    label = np.random.default_rng(1).integers(0, 7, 700)
    index = draw_subset(label, 100, seed=4)
    counts = np.bincount(label[index])
    assert sorted(counts) == [14, 14, 14, 14, 14, 15, 15]
    assert np.array_equal(index, np.unique(index))
    assert np.array_equal(index, draw_subset(label, 100, seed=4))
    assert not np.array_equal(index, draw_subset(label, 100, seed=5))


def test_subset_fills_from_other_classes_where_one_is_short():
    label = np.array([0] * 2 + [1] * 50 + [2] * 50)
    index = draw_subset(label, 42, seed=0)
    assert np.bincount(label[index]).tolist() == [2, 20, 20]
    assert len(draw_subset(label, 102, seed=0)) == 102


@pytest.mark.parametrize("count", [0, 11])
def test_subset_of_too_many(count):
    with pytest.raises(InputError, match="the training split has 10"):
        draw_subset(np.zeros(10, np.int64), count, seed=0)


def test_batches_cover_everything_once():
    assert [list(range(10))[s] for s in batches(10, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("size", [3, 10, 23])
def test_epochs_repeat_nothing_within_an_epoch(size):
    stream = torch.cat(list(islice(Epochs(10, size, torch.Generator().manual_seed(0)), 10)))
    whole = stream[: len(stream) // 10 * 10].reshape(-1, 10)
    assert torch.equal(whole.sort(dim=1).values, torch.arange(10).expand_as(whole))
    assert not torch.equal(whole[0], whole[1])


# ---------------------------------------------------------------- held-out images
def marked(path):
    """60 images of 2 x 2 pixels, each with its own number in its first pixel."""
    image = np.zeros((60, 2, 2, 1), np.uint8)
    image[:, 0, 0, 0] = np.arange(60)
    write_images(path, image=image, label=np.arange(60) % 3)
    return str(path)


def numbers(x):
    return (x[:, 0, 0, 0] * 255).round().int().tolist()


def test_a_split_without_images_is_told(tmp_path):
    path = str(tmp_path / "validation.npz")
    write_images(path, image=np.zeros((0, 2, 2, 1), np.uint8), label=np.zeros(0, np.int64))
    for real in (None, 1):
        with pytest.raises(InputError, match=r"validation\.npz: holds no images"):
            read_tensors(path, classes=3, device=torch.device("cpu"), real=real)


def test_held_out_images_are_those_that_a_seed_was_not_trained_on(tmp_path):
    given = {"path": marked(tmp_path / "train.npz"), "classes": 3, "device": torch.device("cpu")}
    for seed in (0, 1):
        drawn = numbers(read_tensors(**given, real=20, seed=seed)[0])
        x, y = read_held_out(**given, real=20, seed=seed, count=100)
        assert sorted(drawn + numbers(x)) == list(range(60))
        assert [n % 3 for n in numbers(x)] == y.tolist()
        some = numbers(read_held_out(**given, real=20, seed=seed, count=10)[0])
        assert some == numbers(read_held_out(**given, real=20, seed=seed, count=10)[0])
        assert len(some) == 10
        assert set(some) < set(numbers(x))
        assert some != numbers(x)[:10]
