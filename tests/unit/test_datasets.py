"""Splits: disjoint, in proportion, unchanged pixels, refused sizes."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from contrastdp.datasets import split, split_dataset, split_digits
from contrastdp.records import InputError


def test_digits_are_disjoint_stratified_and_unchanged():
    parts = split_digits(train=1000, validation=200, test=597, seed=0)
    index = np.concatenate([parts[name]["index"] for name in parts])
    assert sorted(index) == list(range(1797))
    bunch = load_digits()
    share = np.bincount(bunch.target) / 1797
    for part in parts.values():
        assert part["image"].dtype == np.uint8
        assert part["image"].shape[1:] == (8, 8, 1)
        assert np.array_equal(part["label"], bunch.target[part["index"]])
        scaled = part["image"][..., 0].astype(float) * 16 / 255
        assert np.abs(scaled - bunch.images[part["index"]]).max() <= 0.5 * 16 / 255
        counts = np.bincount(part["label"], minlength=10)
        assert np.abs(counts - share * len(part["label"])).max() <= 2
    assert parts["train"]["image"].max() == 255


def test_rounds_to_the_nearest_grey_level():
    part = split_digits(train=1, validation=1, test=1795, seed=0)["test"]
    values = {int(v) for v in np.unique(part["image"])}
    assert values == {round(v * 255 / 16) for v in range(17)}


def test_seed_and_independence_of_training_size():
    one = split_digits(100, 50, 200, seed=1)
    assert np.array_equal(one["test"]["index"], split_digits(100, 50, 200, 1)["test"]["index"])
    assert np.array_equal(one["test"]["index"], split_digits(900, 50, 200, 1)["test"]["index"])
    assert not np.array_equal(one["test"]["index"], split_digits(100, 50, 200, 2)["test"]["index"])


def test_bad_sizes():
    with pytest.raises(InputError, match="1797"):
        split_digits(1500, 200, 200, seed=0)
    with pytest.raises(InputError, match="validation: 0"):
        split(np.zeros((4, 1, 1, 1), np.uint8), np.arange(4), {"test": 1, "validation": 0}, 0)


def test_unknown_dataset():
    with pytest.raises(InputError, match="digits"):
        split_dataset("digit", {"train": 1, "validation": 1, "test": 1}, 0)
