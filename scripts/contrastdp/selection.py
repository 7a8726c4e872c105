"""Choosing synthetic images: the top K of each class by a score (paper, appendix E.3).

Numpy alone; the scores are computed in scoring.py.
"""

from collections.abc import Sequence

import numpy as np

from contrastdp.records import InputError

# rule -> whether the largest scores are kept; the paper minimises entropy and separability
LARGEST = {
    "separability": False,
    "gradient_norm": True,
    "robust_gradient_norm": True,
    "entropy": False,
}
RULES = ("none", *LARGEST)


def join_candidates(shards: Sequence[dict[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    """The first `count` images, by index, of a generator's labelled shards.

    Raises InputError where they hold fewer, or where an image occurs twice.
    """
    names = ("image", "label", "index", "confidence")
    lacking = [name for name in names for shard in shards if name not in shard]
    if lacking:
        raise InputError(f"labelled shards: one has no array '{lacking[0]}'; label it again")
    if len({shard["image"].shape[1:] for shard in shards}) > 1:
        raise InputError("labelled shards: their images differ in shape; sample them again")
    joined = {name: np.concatenate([shard[name] for shard in shards]) for name in names}
    order = np.argsort(joined["index"], kind="stable")[:count]
    if len(order) < count:
        raise InputError(f"{count} candidates asked for, the shards hold {len(order)}; sample more")
    index = joined["index"][order]
    if (np.diff(index) == 0).any():
        twice = index[1:][np.diff(index) == 0][0]
        raise InputError(f"labelled shards: image {twice} occurs twice; give each shard once")
    return {name: values[order] for name, values in joined.items()}


def top_per_class(
    score: np.ndarray, label: np.ndarray, *, classes: int, count: int, largest: bool
) -> tuple[np.ndarray, dict[int, int]]:
    """Indices, sorted, of the best `count` images, the same number of every class.

    score (N,), label (N,): ties go to the earlier image. Classes 0, 1, ... give one more where
    count is no multiple of the classes. A class with too few images gives all it has, and the best
    of the rest make up for it. Returns the indices and, for each class that fell short, by how
    many. Raises InputError for fewer than `count` images and for scores that are not finite.
    """
    if count > len(label):
        raise InputError(f"{count} images to select, {len(label)} candidates; sample more")
    if not np.isfinite(score).all():
        raise InputError("selection scores are not finite; train the classifiers again")
    order = np.argsort(-score if largest else score, kind="stable")
    chosen, short = np.zeros(len(label), bool), {}
    for c in range(classes):
        quota = count // classes + (c < count % classes)
        best = order[label[order] == c][:quota]
        chosen[best] = True
        if len(best) < quota:
            short[c] = quota - len(best)
    rest = order[~chosen[order]]
    chosen[rest[: count - chosen.sum()]] = True
    return np.flatnonzero(chosen), short


def first(candidates: int, count: int) -> np.ndarray:
    """The indices of the first `count` images; InputError where there are fewer candidates."""
    if count > candidates:
        raise InputError(f"{count} images to select, {candidates} candidates; sample more")
    return np.arange(count)
