"""prepare_data writes three readable, disjoint splits and where they come from."""

import gzip
import hashlib
import json
import struct
import subprocess
import sys

import numpy as np
import pytest

from contrastdp.data.images import read_images
from contrastdp.errors import InputError
from contrastdp.files import read_json
from prepare_data import prepare_data

SPLITS = ("train", "validation", "test")


def outputs(folder):
    return {name: str(folder / f"{name}.npz") for name in SPLITS} | {
        "origin": str(folder / "origin.json")
    }


def prepare_digits(folder, sizes):
    paths = outputs(folder)
    prepare_data(
        dataset="digits", title="Digits", sizes=sizes, seed=0, archives={}, origins=[], **paths
    )
    return paths


def mnist_archives(folder, canonical):
    """Archives of 12 training and 6 test images and their origins, as downloaded."""
    archives, origins = {}, []
    for name, count in (("train", 12), ("test", 6)):
        label = (np.arange(count) % 3).astype(np.uint8)
        image = np.repeat(label, 784).astype(np.uint8)
        for kind, head, values in (
            ("images", (0x803, count, 28, 28), image),
            ("labels", (0x801, count), label),
        ):
            path = folder / f"{name}_{kind}.gz"
            path.write_bytes(gzip.compress(struct.pack(f">{len(head)}I", *head) + values.tobytes()))
            record = {"file": path.name, "address": "mirror:x", "canonical": canonical(path.name)}
            record["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
            origin = folder / f"{path.name}.json"
            origin.write_text(json.dumps(record))
            archives[path.stem] = str(path)
            origins.append(str(origin))
    return {"archives": archives, "origins": origins}


def test_writes_three_splits(tmp_path):
    sizes = {"train": 40, "validation": 20, "test": 30}
    paths = prepare_digits(tmp_path, sizes)
    origin = read_json(paths.pop("origin"))
    parts = {n: read_images(p, classes=10, image_shape=(8, 8, 1)) for n, p in paths.items()}
    assert {n: len(p["label"]) for n, p in parts.items()} == sizes
    assert len(set().union(*(p["index"].tolist() for p in parts.values()))) == 90
    named = {"dataset": "digits", "title": "Digits", "archives": [], "subset": False}
    assert origin == named | sizes


@pytest.mark.parametrize("foreign", [None, "test_labels.gz"])
def test_says_whether_every_archive_is_canonical(tmp_path, foreign):
    given = mnist_archives(tmp_path, canonical=lambda file: file != foreign)
    paths = outputs(tmp_path)
    sizes = {"train": None, "validation": 3, "test": 4}
    prepare_data(dataset="mnist", title="MNIST", sizes=sizes, seed=0, **given, **paths)
    origin = read_json(paths["origin"])
    assert origin["subset"] is (foreign is not None)
    assert {name: origin[name] for name in SPLITS} == {"train": 9, "validation": 3, "test": 4}
    assert [record["file"] for record in origin["archives"]] == [
        *("train_images.gz", "train_labels.gz", "test_images.gz", "test_labels.gz")
    ]
    assert origin["archives"][0].keys() == {"file", "address", "sha256", "canonical"}
    for name in SPLITS:
        part = read_images(paths[name], classes=10, image_shape=(28, 28, 1))
        assert np.array_equal(part["image"][:, 5, 5, 0], part["label"])


def test_refuses_an_archive_that_is_not_the_one_downloaded(tmp_path):
    given = mnist_archives(tmp_path, canonical=lambda file: True)
    with open(given["archives"]["train_labels"], "ab") as file:
        file.write(b"\0")
    with pytest.raises(InputError, match=r"train_labels.gz: sha256 is"):
        prepare_data(
            dataset="mnist",
            title="MNIST",
            sizes={"train": None, "validation": 3, "test": 4},
            seed=0,
            **given,
            **outputs(tmp_path / "made"),
        )
    assert not (tmp_path / "made").exists()


def test_refuses_too_many_and_writes_nothing(tmp_path):
    with pytest.raises(InputError, match="1797"):
        prepare_digits(tmp_path, {"train": 1700, "validation": 99, "test": 9})
    assert list(tmp_path.iterdir()) == []


def test_needs_no_torch():
    code = "import sys, prepare_data; sys.exit('torch' in sys.modules)"
    folder = prepare_data.__globals__["__file__"].rsplit("/", 1)[0]
    assert subprocess.run([sys.executable, "-c", code], cwd=folder).returncode == 0
