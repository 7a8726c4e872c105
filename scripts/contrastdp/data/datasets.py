"""Real data sets, split once into training, validation and test images."""

from collections.abc import Mapping

import numpy as np

from contrastdp.data.archives import (
    Labelled,
    read_cifar10,
    read_gtsrb_test,
    read_gtsrb_training,
    read_mnist,
)
from contrastdp.errors import InputError
from contrastdp.registry import Registry

# Readers by the name of their data set. The arguments are the archives, by their names in its
# settings. What is said beside them the plan holds against the settings: classes, pixels a side,
# channels, and how many images there are of training and test, or of both together.
READERS = Registry("dataset")


# ---------------------------------------------------------------- digits of scikit-learn
@READERS.enter("digits", classes=10, image_size=8, channels=1, together=1797)
def _read_digits() -> Labelled:
    """scikit-learn's 1,797 grey digits, 8 x 8 pixels, ten classes."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # (1797, 8, 8) with values 0 to 16 -> (1797, 8, 8, 1) with values 0 to 255
    image = np.round(bunch.images / 16 * 255).astype(np.uint8)[..., None]
    return Labelled(image, bunch.target)


def split(
    image: np.ndarray, label: np.ndarray, sizes: Mapping[str, int], seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Cut images into disjoint parts, in the order of `sizes`, each with the classes in proportion.

    image: (N, H, W, C) uint8; label: (N,). Returns for each part: image, label (N,) int64 and index
    (N,) int64, the position among the images given. Every class is spread evenly over one common
    order, and the parts are consecutive pieces of it. Raises InputError for sizes that do not fit.
    """
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{name}: {size} images asked for; ask for 1 or more")
    if sum(sizes.values()) > len(label):
        asked = " + ".join(f"{size} {name}" for name, size in sizes.items())
        raise InputError(f"{asked} images asked for, the data set has {len(label)}; ask for fewer")

    order = _spread(label, seed)
    parts, start = {}, 0
    for name, size in sizes.items():
        parts[name] = _part(image, label, np.sort(order[start : start + size]))
        start += size
    return parts


def _spread(label: np.ndarray, seed: int) -> np.ndarray:
    """Positions in an order over which every class is spread evenly, at random within a class."""
    rng = np.random.default_rng(seed)
    place = np.empty(len(label))
    for c in np.unique(label):
        members = np.flatnonzero(label == c)
        place[rng.permutation(members)] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable")


def _part(image: np.ndarray, label: np.ndarray, index: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "image": image[index],
        "label": label[index].astype(np.int64),
        "index": index.astype(np.int64),
    }


# ---------------------------------------------------------------- data sets of archives
def split_archives(
    training: Labelled, test: Labelled, sizes: Mapping[str, int | None], seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Split an archive's training images into train and validation; its test images stay apart.

    test: the first `test` images in the archive's order, None for all. They do not depend on
    `seed`, so results on fewer are on a part of the data set's own test images.
    validation: drawn by class in proportion from the training images. Where these are frames of
    tracks, whole tracks are drawn until they hold enough images; what they hold beyond is left out
    of every part, for frames of one track are near-duplicates.
    train: drawn by class in proportion from the rest, None for all of it.

    Returns as split; index is the position among the archive's training or test images.
    Raises InputError for sizes that do not fit.
    """
    # PAPER: the official code validates on the first 1,024 training images, which in GTSRB's order
    # are class 0 and a part of class 1, and then chooses by the test images.
    own = np.arange(len(test.label))
    size = _fitting("test", sizes["test"], own)
    held = _held_tracks(training, _fitting("validation", sizes["validation"], training.label), seed)
    parts = {"test": _part(test.image, test.label, own[:size])}
    for name, among in (("validation", np.flatnonzero(held)), ("train", np.flatnonzero(~held))):
        size = _fitting(name, sizes[name], among)
        drawn = among[_spread(training.label[among], seed)[:size]]
        parts[name] = _part(training.image, training.label, np.sort(drawn))
    return parts


def _fitting(name: str, size: int | None, among: np.ndarray) -> int:
    """The number of images to take of those that are there, None for all."""
    size = len(among) if size is None else size
    if not 1 <= size <= len(among):
        raise InputError(
            f"{name}: {size} images asked for, the archives have {len(among)} for it; ask for "
            f"1 to {len(among)}"
        )
    return size


def _held_tracks(training: Labelled, count: int, seed: int) -> np.ndarray:
    """Mask of the tracks that validation is drawn from: just enough for `count` images."""
    track = np.arange(len(training.label)) if training.track is None else training.track
    _, first, member, frames = np.unique(
        track, return_index=True, return_inverse=True, return_counts=True
    )
    order = _spread(training.label[first], seed)
    enough = np.searchsorted(np.cumsum(frames[order]), count) + 1
    return np.isin(member, order[:enough])


@READERS.enter("mnist", classes=10, image_size=28, channels=1, training=60_000, test=10_000)
def _read_mnist(
    *, train_images: str, train_labels: str, test_images: str, test_labels: str
) -> tuple[Labelled, Labelled]:
    return read_mnist(train_images, train_labels), read_mnist(test_images, test_labels)


@READERS.enter("cifar10", classes=10, image_size=32, channels=3, training=50_000, test=10_000)
def _read_cifar10(*, binary: str) -> tuple[Labelled, Labelled]:
    return read_cifar10(binary)


@READERS.enter("gtsrb", classes=43, image_size=32, channels=3, training=39_209, test=12_630)
def _read_gtsrb(
    *, train_images: str, test_images: str, test_labels: str
) -> tuple[Labelled, Labelled]:
    return read_gtsrb_training(train_images), read_gtsrb_test(test_images, test_labels)


def split_dataset(
    dataset: str,
    sizes: Mapping[str, int | None],
    seed: int,
    archives: Mapping[str, str] | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Split a data set by its name.

    sizes: images in train, validation and test; archives: the downloaded files by their name in
    the data set's settings, none for digits. Returns and raises as split and split_archives.
    """
    archives, names = archives or {}, set(READERS.takes(dataset))
    if archives.keys() != names:
        raise InputError(
            f"dataset '{dataset}': its archives are {', '.join(sorted(archives)) or 'none'}, "
            f"expected {', '.join(sorted(names)) or 'none'}; correct the data set's settings"
        )
    if "together" not in READERS.about[dataset]:
        training, test = READERS[dataset](**archives)
        return split_archives(training, test, sizes, seed)
    drawn = ("test", "validation", "train")  # so the training size changes neither of the others
    order = {name: size for name in drawn if (size := sizes[name]) is not None}
    if len(order) < len(drawn):
        raise InputError(f"dataset '{dataset}': a size is null; give each of its parts a number")
    whole = READERS[dataset](**archives)
    return split(whole.image, whole.label, order, seed)
