"""Plot a random sheet of a data set's training images, the class below each."""

from collections.abc import Sequence

import numpy as np

from contrastdp.data.images import read_images
from contrastdp.errors import InputError
from contrastdp.jobs.run import run
from contrastdp.report import figures


def plot_data(
    *,
    train: str,
    classes: int,
    images: int,
    seed: int,
    png: str,
    pdf: str,
    names: Sequence[str] | None = None,
) -> None:
    """Draw `images` training images, drawn at random by `seed`, in the order drawn.

    train: image file (npz); classes: labels lie in [0, classes); names: of the classes, shown for
    the numbers. Raises InputError for fewer names than classes or no images asked for.
    """
    if images < 1:
        raise InputError(f"images: {images} asked for; ask for 1 or more")
    if names is not None and len(names) != classes:
        raise InputError(f"names: {len(names)} for {classes} classes; give one each")
    content = read_images(train, classes=classes)
    chosen = np.random.default_rng(seed).permutation(len(content["label"]))[:images]
    sheet = figures.image_sheet(content["image"][chosen], content["label"][chosen], names=names)
    figures.save(sheet, png=png, pdf=pdf)


if "snakemake" in globals():
    run(plot_data, snakemake)
