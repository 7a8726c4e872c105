"""Splits: disjoint, in proportion, unchanged pixels, refused sizes."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from code_graph import ROOT
from sklearn.datasets import load_digits

from contrastdp.data.archives import Labelled
from contrastdp.data.datasets import READERS, split, split_archives, split_dataset
from contrastdp.errors import InputError


def split_digits(train, validation, test, seed):
    sizes = {"train": train, "validation": validation, "test": test}
    return split_dataset("digits", sizes, seed)


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


# ---------------------------------------------------------------- data sets of archives
def labelled(count, classes, tracks_of=None):
    """Images whose pixels are their position; by class in order, as in GTSRB's archive."""
    label = np.sort(np.arange(count) % classes)
    track = None if tracks_of is None else np.arange(count) // tracks_of
    return Labelled(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1), label, track)


def test_archive_splits_are_disjoint_stratified_and_whole():
    training, test = labelled(200, 4), labelled(50, 5)
    parts = split_archives(training, test, {"train": None, "validation": 40, "test": 20}, seed=0)
    assert sorted([*parts["train"]["index"], *parts["validation"]["index"]]) == list(range(200))
    assert np.bincount(parts["validation"]["label"]).tolist() == [10] * 4
    for name, source in (("train", training), ("validation", training), ("test", test)):
        index = parts[name]["index"]
        assert np.array_equal(parts[name]["image"].ravel(), index)
        assert np.array_equal(parts[name]["label"], source.label[index])
        assert parts[name]["label"].dtype == index.dtype == np.int64
    # The first images of the archive's own test set
    assert parts["test"]["index"].tolist() == list(range(20))


def test_archive_sizes_and_seed():
    def draw(train, test, seed=0, tracks_of=None):
        sizes = {"train": train, "validation": 20, "test": test}
        return split_archives(labelled(200, 4, tracks_of), labelled(50, 5), sizes, seed)

    for tracks_of in (None, 5):
        few, many = draw(40, 3, tracks_of=tracks_of), draw(None, None, tracks_of=tracks_of)
        assert np.array_equal(few["validation"]["index"], many["validation"]["index"])
        assert set(few["train"]["index"]) < set(many["train"]["index"])
        assert len(many["test"]["index"]) == 50
        assert np.abs(np.bincount(few["train"]["label"]) - 10).max() <= 1
        again, other = draw(40, 3, tracks_of=tracks_of), draw(40, 3, seed=1, tracks_of=tracks_of)
        for name in ("train", "validation"):
            assert np.array_equal(few[name]["index"], again[name]["index"])
            assert not np.array_equal(few[name]["index"], other[name]["index"])
        assert np.array_equal(few["test"]["index"], other["test"]["index"])


def test_frames_of_a_track_stay_together():
    # 40 tracks of 5 frames: 23 images need 5 tracks, and 2 frames of these are left out.
    training = labelled(200, 4, tracks_of=5)
    sizes = {"train": None, "validation": 23, "test": 1}
    parts = split_archives(training, labelled(5, 5), sizes, seed=3)
    tracks = {name: set(training.track[parts[name]["index"]]) for name in ("train", "validation")}
    assert len(parts["validation"]["label"]) == 23 and len(tracks["validation"]) == 5
    assert len(parts["train"]["label"]) == 200 - 25 and len(tracks["train"]) == 35
    assert not tracks["train"] & tracks["validation"]
    # Four classes of ten tracks each: one or two tracks of every class.
    assert set(np.bincount([t // 10 for t in tracks["validation"]])) <= {1, 2}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"train": 181, "validation": 20, "test": 5}, "train: 181 .*have 180"),
        ({"train": None, "validation": 200, "test": 5}, "train: 0 .*have 0"),
        ({"train": 1, "validation": 201, "test": 5}, "validation: 201 .*have 200"),
        ({"train": 1, "validation": 0, "test": 5}, "validation: 0"),
        ({"train": 1, "validation": 1, "test": 51}, "test: 51 .*have 50"),
    ],
)
def test_bad_archive_sizes(sizes, message):
    with pytest.raises(InputError, match=message):
        split_archives(labelled(200, 4), labelled(50, 5), sizes, 0)


def test_the_digits_are_what_their_reader_says():
    image, label, _ = READERS["digits"]()
    known = READERS.about["digits"]
    assert image.shape == (known["together"], known["image_size"], known["image_size"], 1)
    assert (np.unique(label) == np.arange(known["classes"])).all()


@pytest.mark.parametrize("dataset", ["mnist", "cifar10", "gtsrb"])
def test_readers_say_how_much_the_canonical_archives_hold(dataset):
    known = READERS.about[dataset]
    assert (known["training"], known["test"]) == CANONICAL[dataset]


def test_archives_under_other_names():
    sizes = {"train": 1, "validation": 1, "test": 1}
    with pytest.raises(InputError, match="its archives are images, expected binary"):
        split_dataset("cifar10", sizes, 0, {"images": "a"})
    with pytest.raises(InputError, match="its archives are a, expected none"):
        split_dataset("digits", sizes, 0, {"a": "a"})


def test_digits_have_no_rest_for_training():
    with pytest.raises(InputError, match="a size is null"):
        split_dataset("digits", {"train": None, "validation": 1, "test": 1}, 0)


# ---------------------------------------------------------------- the real archives
# Images by class of MNIST's training set, as widely published.
MNIST_CLASSES = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
# Subsets that may stand in for the canonical archives: sha256 of the first archive, then the
# training and test images that the data set has with them.
SUBSETS = {
    "307497ecf697876971b02258f399336c11ada31d5aab2facf097d1e4c95c3899": (10_000, 2_000),
    "23e85b57ee35f68298bdaea106641dc884f474590a2973cb3a5cff652dc12547": (13_070, 6_315),
}
CANONICAL = {"mnist": (60_000, 10_000), "cifar10": (50_000, 10_000), "gtsrb": (39_209, 12_630)}


@pytest.fixture(params=sorted(CANONICAL))
def real(request):
    """A data set's name, its archives from a mirror, and the images they should hold."""
    named = os.environ.get("CONTRASTDP_MIRROR")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    settings = yaml.safe_load((ROOT / "config/datasets" / f"{request.param}.yaml").read_text())
    archives, expected = {}, None
    for name, archive in settings["archives"].items():
        places = [folder / request.param / archive["file"], folder / archive["file"]]
        path = next(filter(Path.is_file, places), None)
        if path is None:
            pytest.skip(f"no {archive['file']} in {folder}; CONTRASTDP_MIRROR names a folder of it")
        archives[name] = str(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        known = SUBSETS | {archive["sha256"]: CANONICAL[request.param]}
        expected = expected or known.get(digest)
    if expected is None:
        pytest.skip(f"{folder} holds an unknown subset of {request.param}")
    return request.param, settings, archives, expected


def test_real_archives(real):
    dataset, settings, archives, (train, test) = real
    assert settings["archives"].keys() == archives.keys()
    parts = split_dataset(dataset, {"train": None, "validation": 1000, "test": None}, 0, archives)
    side, channels = settings["image_size"], settings["channels"]
    for part in parts.values():
        assert part["image"].shape[1:] == (side, side, channels)
        assert set(np.unique(part["label"])) <= set(range(settings["classes"]))
        assert 60 < part["image"].std() < 90
    assert len(parts["test"]["label"]) == test
    assert len(parts["validation"]["label"]) == 1000
    used = len(parts["train"]["label"]) + 1000
    # A track has at most 30 frames, of which all but one may be left out.
    assert train - (29 if dataset == "gtsrb" else 0) <= used <= train
    if dataset == "mnist":
        both = np.concatenate([parts["train"]["label"], parts["validation"]["label"]])
        assert np.bincount(both).tolist() == MNIST_CLASSES
        assert parts["test"]["label"][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    if dataset == "cifar10" and test == 10_000:
        assert parts["test"]["label"][:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    if dataset == "gtsrb":
        assert parts["test"]["label"][:1].tolist() == [16]
