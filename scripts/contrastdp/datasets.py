"""Real data sets, split once into training, validation and test images."""

from collections.abc import Mapping

import numpy as np

from contrastdp.records import InputError


def split_digits(
    train: int, validation: int, test: int, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Split scikit-learn's 1,797 grey digits, 8 x 8 pixels, ten classes, by class in proportion.

    Returns for each of train, validation and test: image (N, 8, 8, 1) uint8, label (N,) int64 and
    index (N,) int64, the position in load_digits. Test images are drawn first, then validation,
    then training, so the training size changes neither of the others.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # (1797, 8, 8) with values 0 to 16 -> (1797, 8, 8, 1) with values 0 to 255
    image = np.round(bunch.images / 16 * 255).astype(np.uint8)[..., None]
    return split(
        image, bunch.target, {"test": test, "validation": validation, "train": train}, seed
    )


def split(
    image: np.ndarray, label: np.ndarray, sizes: Mapping[str, int], seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Cut images into disjoint parts, in the order of `sizes`, each with the classes in proportion.

    image: (N, H, W, C) uint8; label: (N,). Every class is spread evenly over one common order, and
    the parts are consecutive pieces of it. Raises InputError for sizes that do not fit.
    """
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{name}: {size} images asked for; ask for 1 or more")
    if sum(sizes.values()) > len(label):
        asked = " + ".join(f"{size} {name}" for name, size in sizes.items())
        raise InputError(f"{asked} images asked for, the data set has {len(label)}; ask for fewer")

    rng = np.random.default_rng(seed)
    place = np.empty(len(label))
    for c in np.unique(label):
        members = np.flatnonzero(label == c)
        place[rng.permutation(members)] = (np.arange(len(members)) + rng.random()) / len(members)
    order = np.argsort(place, kind="stable")

    parts, start = {}, 0
    for name, size in sizes.items():
        index = np.sort(order[start : start + size])
        parts[name] = {
            "image": image[index],
            "label": label[index].astype(np.int64),
            "index": index.astype(np.int64),
        }
        start += size
    return parts


LOADERS = {"digits": split_digits}


def split_dataset(dataset: str, sizes: Mapping[str, int], seed: int) -> dict[str, dict]:
    """Split a data set by its name; sizes holds train, validation and test."""
    if dataset not in LOADERS:
        raise InputError(f"dataset '{dataset}': no loader; known are {', '.join(sorted(LOADERS))}")
    return LOADERS[dataset](**sizes, seed=seed)
