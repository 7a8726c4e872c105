"""prepare_data writes three readable, disjoint splits."""

import subprocess
import sys

import pytest

from contrastdp.records import InputError, read_images
from prepare_data import prepare_data


def test_writes_three_splits(tmp_path):
    paths = {name: str(tmp_path / f"{name}.npz") for name in ("train", "validation", "test")}
    sizes = {"train": 40, "validation": 20, "test": 30}
    prepare_data(dataset="digits", sizes=sizes, seed=0, **paths)
    parts = {n: read_images(p, classes=10, image_shape=(8, 8, 1)) for n, p in paths.items()}
    assert {n: len(p["label"]) for n, p in parts.items()} == sizes
    assert len(set().union(*(p["index"].tolist() for p in parts.values()))) == 90


def test_refuses_too_many_and_writes_nothing(tmp_path):
    paths = {name: str(tmp_path / f"{name}.npz") for name in ("train", "validation", "test")}
    with pytest.raises(InputError, match="1797"):
        prepare_data(
            dataset="digits", sizes={"train": 1700, "validation": 99, "test": 9}, seed=0, **paths
        )
    assert list(tmp_path.iterdir()) == []


def test_needs_no_torch():
    code = "import sys, prepare_data; sys.exit('torch' in sys.modules)"
    folder = prepare_data.__globals__["__file__"].rsplit("/", 1)[0]
    assert subprocess.run([sys.executable, "-c", code], cwd=folder).returncode == 0
