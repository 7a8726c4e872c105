"""Figures of time-dependent classifiers' gradients: their alignment over t, and pictures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from contrastdp.data.images import opened
from contrastdp.errors import InputError
from contrastdp.report.figures import COLOURS, DOUBLE, MARKERS, SINGLE, style, thumbnail

PANELS = {
    "class_mean": "cosine with the difference of class means",
    "score": "cosine with the difference of scores",
    "low_frequency": "share of energy in low frequencies",
}
# colour and marker of each classifier; told apart also in grey
LOOKS = {"robust": (COLOURS[0], MARKERS[0], "-"), "vanilla": (COLOURS[3], MARKERS[1], "--")}
TITLES = {"robust": "robust classifier", "vanilla": "vanilla classifier"}
PICTURES = ("image", "label", "target", "timesteps", "noisy")
Line = tuple[str, Iterable[Any]]  # a row of images, with its title
OF_EACH = ("gradient", "attacked", "predicted", "step")


def alignment_figure(measures: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Three panels over t, one a measure, a line a classifier with 95% t intervals over seeds.

    measures: of gradients_table.of_dataset.
    """
    with style():
        figure = Figure(figsize=(SINGLE, 4.6), layout="constrained")
        panels = figure.subplots(3, 1, sharex=True)
        for axes, (measure, title) in zip(panels, PANELS.items(), strict=True):
            bands = measures[measure]
            wide = max(band["t_high"] for band in bands) + 1
            for k, (name, (colour, marker, line)) in enumerate(LOOKS.items()):
                shift = (k - 0.5) * 0.012 * wide  # so that neither hides the other's bars
                middle = [band[f"{name}_mean"] for band in bands]
                bars = [[_length(band, name, end) for band in bands] for end in ("low", "high")]
                axes.errorbar(
                    [(band["t_low"] + band["t_high"] + 1) / 2 + shift for band in bands],
                    middle,
                    yerr=bars,
                    color=colour,
                    marker=marker,
                    ls=line,
                    ms=4,
                    lw=1.2,
                    elinewidth=0.8,
                    capsize=2,
                    label=TITLES[name],
                )
            axes.set_title(title, loc="left")
            axes.set_xlim(0, wide)
            axes.grid(axis="y", color="0.92", lw=0.6)
            axes.set_axisbelow(True)
        panels[-1].set_xlabel("timestep t (noise grows to the right)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def _length(band: Mapping[str, Any], name: str, end: str) -> float:
    """Length of a bar, 0 where one seed has no interval."""
    value = band[f"{name}_{end}"]
    return 0.0 if value is None else abs(value - band[f"{name}_mean"])


# ---------------------------------------------------------------- pictures
def read_pictures(path: str) -> dict[str, np.ndarray]:
    """The arrays of picture_gradients; InputError for a file that lacks one."""
    with opened(path) as file:
        found = {name: file[name] for name in file.files}
    for name in (*PICTURES, *(f"{kind}_{part}" for kind in LOOKS for part in OF_EACH)):
        if name not in found:
            raise InputError(f"{path}: has no array '{name}'; run picture_gradients again")
    return found


def maps_figure(pictures: Mapping[str, np.ndarray]) -> Figure:
    """Gradients on the true class over t (Figure 3): a column a timestep.

    Of each image the noised one, then the gradient of either classifier, grey for 0 and scaled to
    its own largest value.
    """
    columns = [f"t = {t}" for t in pictures["timesteps"]]
    rows: list[Line] = []
    for i, label in enumerate(pictures["label"]):
        rows.append((f"x_t, class {label}", pictures["noisy"][:, i]))
        for name in ("vanilla", "robust"):
            rows.append((name, [grey_centred(g) for g in pictures[f"{name}_gradient"][:, i]]))
    return image_grid(rows, columns, group=3)


def targeted_figure(pictures: Mapping[str, np.ndarray]) -> Figure:
    """Images before and after a targeted attack on either classifier at t = 0 (Figure 4)."""
    pairs = zip(pictures["label"], pictures["target"], strict=True)
    rows: list[Line] = [("image", pictures["image"])]
    rows += [(name, pictures[f"{name}_attacked"]) for name in ("vanilla", "robust")]
    return image_grid(rows, [f"{label} → {target}" for label, target in pairs], group=3)


def predicted_figure(pictures: Mapping[str, np.ndarray]) -> Figure:
    """Predicted x_0 at uniform steps of either guided chain (Figure 5), vanilla above robust."""
    rows: list[Line] = [
        (name, pictures[f"{name}_predicted"][:, i])
        for i in range(pictures["robust_predicted"].shape[1])
        for name in ("vanilla", "robust")
    ]
    return image_grid(rows, [f"step {step + 1}" for step in pictures["robust_step"]], group=2)


def grey_centred(gradient: np.ndarray) -> np.ndarray:
    """A gradient (H, W, C) as an image uint8: 0 is grey, its largest size black or white."""
    largest = np.abs(gradient).max()
    scaled = gradient / largest if largest else gradient
    return (127.5 * (1 + scaled)).round().astype(np.uint8)


def image_grid(rows: Sequence[Line], columns: Sequence[str], *, group: int) -> Figure:
    """Images (H, W, C) uint8 in rows with titles, under columns with titles.

    group: after so many rows comes a gap.
    """
    gap, margin, head = 0.25, 0.95, 0.3  # of an image; inches
    unit = min((DOUBLE - margin) / len(columns), 0.8)
    height = len(rows) + gap * ((len(rows) - 1) // group)
    with style():
        figure = Figure(figsize=(margin + unit * len(columns), head + unit * height))
        axes = figure.add_axes((0, 0, 1, 1), frameon=False)
        axes.set_axis_off()
        for r, (title, images) in enumerate(rows):
            top = r + gap * (r // group)
            axes.text(-0.1, top + 0.5, title, ha="right", va="center", fontsize=7)
            for x, image in enumerate(images):
                thumbnail(axes, image, x, top)
        for x, title in enumerate(columns):
            axes.text(x + 0.5, -0.08, title, ha="center", va="bottom", fontsize=7)
        axes.set_xlim(-margin / unit, len(columns))
        axes.set_ylim(height, -head / unit)
    return figure
