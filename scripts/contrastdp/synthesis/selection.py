"""Choosing synthetic images: the top K of each class by a score (paper, appendix E.3).

Numpy alone; the scores are computed in scoring.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from contrastdp.data.images import read_images, read_records
from contrastdp.errors import InputError

BLOCK = 1000  # images in memory at once


@dataclass(frozen=True)
class Candidates:
    """A generator's first images by index: the records in memory, the pixels in their shards.

    label, index: (N,) int64, confidence: (N,) float32; shard, row: (N,), where each image lies;
    image_shape: (H, W, C); further: the other records (N,) that every shard has, by name, such as
    guidance_size.
    """

    paths: tuple[str, ...]
    image_shape: tuple[int, ...]
    label: np.ndarray
    index: np.ndarray
    confidence: np.ndarray
    shard: np.ndarray
    row: np.ndarray
    further: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    def images(self, chosen: np.ndarray, block: int = BLOCK) -> Iterator[np.ndarray]:
        """Pixels of the candidates `chosen`, in that order: blocks (n <= block, H, W, C) uint8.

        One shard and one block are in memory at a time.
        """
        held, image = -1, None
        for start in range(0, len(chosen), block):
            places = chosen[start : start + block]
            found = np.empty((len(places), *self.image_shape), np.uint8)
            for shard in dict.fromkeys(self.shard[places].tolist()):
                if shard != held:
                    image = None
                    held, image = shard, read_images(self.paths[shard])["image"]
                assert image is not None
                here = self.shard[places] == shard
                assert image is not None
                found[here] = image[self.row[places[here]]]
            yield found


def read_candidates(paths: Sequence[str], count: int, *, classes: int | None = None) -> Candidates:
    """The first `count` images, by index, of a generator's labelled shards, without their pixels.

    Raises InputError where they hold fewer, or where an image occurs twice, and as read_records
    does.
    """
    names = ("label", "index", "confidence")
    parts, shapes = [], set()
    for path in paths:
        records, shape = read_records(path, classes=classes)
        lacking = [name for name in names if name not in records]
        if lacking:
            raise InputError(f"{path}: has no array '{lacking[0]}'; label it again")
        parts.append(records)
        shapes.add(shape[1:])
    if len(shapes) > 1:
        raise InputError("labelled shards: their images differ in shape; sample them again")
    shared = [name for name in parts[0] if all(name in part for part in parts)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in shared}
    label, index, confidence = (joined.pop(name) for name in names)
    sizes = [len(part["label"]) for part in parts]
    shard = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    row = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])
    order = np.argsort(index, kind="stable")[:count]
    if len(order) < count:
        raise InputError(f"{count} candidates asked for, the shards hold {len(order)}; sample more")
    index = index[order]
    if (np.diff(index) == 0).any():
        twice = index[1:][np.diff(index) == 0][0]
        raise InputError(f"labelled shards: image {twice} occurs twice; give each shard once")
    further = {name: values[order] for name, values in joined.items()}
    return Candidates(
        paths=tuple(paths),
        image_shape=shapes.pop(),
        label=label[order],
        index=index,
        confidence=confidence[order],
        shard=shard[order],
        row=row[order],
        further=further,
    )


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
