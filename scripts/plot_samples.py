"""Plot images that started from the same noise, with and without guidance (paper: Fig. 4, 5)."""

from collections.abc import Mapping, Sequence

import numpy as np

from contrastdp.data.images import read_images
from contrastdp.errors import InputError
from contrastdp.jobs.run import run
from contrastdp.report import figures


def plot_samples(
    *,
    shards: Mapping[str, Sequence[str]],
    images: int,
    png: str,
    pdf: str,
) -> None:
    """Draw the first `images` images that all generators have, a row each.

    shards: title -> image files (npz) of a generator's shards, all of one seed, the unguided one
    first. Images are matched by the record `index`, or by their order where a file has none; they
    are not hand-picked.
    Raises InputError where images differ in shape or fewer than one is shared.
    """
    read = {}
    for title, paths in shards.items():
        parts = [read_images(path, labelled=False) for path in paths]
        if len({part["image"].shape[1:] for part in parts}) != 1:
            raise InputError(f"{title}: has no shards or shards of several image sizes; name one")
        image = np.concatenate([part["image"] for part in parts])
        label = np.concatenate([part["label"] for part in parts])
        index = np.arange(len(image))
        if all("index" in part for part in parts):
            index = np.concatenate([part["index"] for part in parts])
        if len(set(index.tolist())) != len(index):
            raise InputError(f"{title}: has an image index twice; give each shard once")
        read[title] = (dict(zip(index.tolist(), range(len(index)), strict=True)), image, label)

    shapes = {title: image.shape[1:] for title, (_, image, _) in read.items()}
    if len(set(shapes.values())) != 1:
        raise InputError(f"images differ in shape: {shapes}; plot generators of one data set")
    shared = sorted(set.intersection(*(set(places) for places, _, _ in read.values())))[:images]
    if not shared:
        raise InputError("no image index is shared by all rows; plot generators of one seed")
    rows = []
    for title, (places, image, label) in read.items():
        chosen = [places[index] for index in shared]
        known = label[chosen] if (label[chosen] >= 0).all() else None
        rows.append({"title": title, "image": image[chosen], "label": known})
    figures.save(figures.sample_grid(rows), png=png, pdf=pdf)


if "snakemake" in globals():
    run(plot_samples, snakemake)
