"""Plot t-SNE maps of robust classifiers' features, arms side by side."""

from collections.abc import Sequence

import numpy as np

from contrastdp.data.images import opened
from contrastdp.errors import InputError
from contrastdp.jobs.run import run
from contrastdp.report import figures


def plot_tsne(
    *, features: Sequence[str], titles: Sequence[str], seed: int, png: str, pdf: str
) -> None:
    """Draw a panel for each file of features, under its title.

    features: npz files with `feature` (N, D) float32 and `label` (N,) integers, of the same test
    images; titles: one a file; seed: of the choice of at most 500 images and of the map.
    Raises InputError for a missing or damaged file, and for features that are not finite, of
    wrong shape, or too few (fewer than 8 images or 2 classes).
    """
    if len(features) != len(titles) or not features:
        raise InputError(f"{len(titles)} titles for {len(features)} files of features; match them")
    panels = []
    for path, title in zip(features, titles, strict=True):
        with opened(path) as file:
            feature, label = file["feature"], file["label"]
        if (
            feature.ndim != 2
            or feature.shape[1] < 2
            or label.shape != feature.shape[:1]
            or label.dtype.kind != "i"
        ):
            raise InputError(
                f"{path}: feature is {feature.shape}, label {label.dtype} {label.shape}, expected "
                "(N, D), D from 2 on, and integers (N,); make it again"
            )
        if not np.isfinite(feature).all():
            raise InputError(f"{path}: has features that are not finite; train the arm again")
        if len(label) < 8 or len(np.unique(label)) < 2:
            raise InputError(f"{path}: has {len(label)} images, too few for a map; use more")
        panels.append({"title": title, "feature": feature, "label": label})
    figures.save(figures.tsne_panels(panels, seed=seed), png=png, pdf=pdf)


if "snakemake" in globals():
    run(plot_tsne, snakemake)
