"""Figures: one style, and what each of them shows."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from contrastdp.errors import InputError
from contrastdp.evidence.statistics import mean_interval
from contrastdp.files import replacing

# Okabe and Ito's colours, told apart with any colour vision (the yellow darkened, to show on
# white); then two more for ten classes.
COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"),
    *("#56B4E9", "#C5B800", "#000000", "#882255", "#999999"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
SPREADS = (1e-12, 1e12)  # of features that t-SNE can map
SINGLE, DOUBLE = 3.3, 6.9  # widths of one and two columns, inches
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "pdf.fonttype": 42,
    "savefig.facecolor": "white",
}


def style() -> Any:
    """The style of every figure, as a context: `with style(): ...`."""
    return matplotlib.rc_context(STYLE)


def told_apart(names: Sequence[Any], among: Sequence[str]) -> dict[Any, str]:
    """A colour or marker of its own for each name; InputError where there are too few of them."""
    if len(names) > len(among):
        raise InputError(
            f"{len(names)} lines in one figure, of which {len(among)} can be told apart; draw fewer"
        )
    return dict(zip(names, among[: len(names)], strict=True))


def save(figure: Figure, *, png: str | Path, pdf: str | Path) -> None:
    """Write a figure as PNG (200 dpi) and PDF; the same figure gives the same bytes."""
    undated = {"CreationDate": None, "Producer": None, "Creator": None}
    for path, metadata in ((png, {"Software": None}), (pdf, undated)):
        with style(), replacing(path) as temporary:
            figure.savefig(temporary, dpi=200, metadata=metadata, format=Path(path).suffix[1:])


# ---------------------------------------------------------------- samples
def sample_grid(rows: Sequence[Mapping[str, Any]], *, columns: int = 12) -> Figure:
    """Images of the same initial noise below each other, a row a generator (paper: Fig. 4, 5).

    rows: the unguided row first; each has `title`, `image` (N, H, W, C) uint8 with C in {1, 3},
    and `label` (N,) or None. All rows have the same N, and column i of each started from the same
    noise. N images are folded into blocks of `columns`. Under an image stands its label, in bold
    orange where it is not the first row's; beside a guided row the mean change of a pixel.
    """
    count = len(rows[0]["image"])
    columns = min(columns, count)
    blocks = -(-count // columns)
    labelled = any(row["label"] is not None for row in rows)
    line = 1.42 if labelled else 1.08  # height of one row in units of an image's width
    margin = 1.45  # inches for the rows' titles
    unit = min((DOUBLE - margin) / columns, 1.0)
    block = line * len(rows) + 0.35
    foot = 0.5
    height = (blocks * block - 0.35 + foot) * unit
    with style():
        figure = Figure(figsize=(margin + unit * columns, height))
        axes = figure.add_axes((0, 0, 1, 1), frameon=False)
        axes.set_axis_off()
        for b in range(blocks):
            members = range(b * columns, min((b + 1) * columns, count))
            for r, row in enumerate(rows):
                top = b * block + r * line
                _row_title(axes, row, rows[0], top=top, unit=unit)
                for x, i in enumerate(members):
                    thumbnail(axes, row["image"][i], x, top)
                    if row["label"] is not None:
                        changed = rows[0]["label"] is not None and (
                            row["label"][i] != rows[0]["label"][i]
                        )
                        axes.text(
                            x + 0.5,
                            top + 1.02,
                            str(row["label"][i]),
                            ha="center",
                            va="top",
                            fontsize=6,
                            color=COLOURS[3] if changed else "0.25",
                            fontweight="bold" if changed else "normal",
                        )
        if labelled:
            axes.text(
                0,
                blocks * block - 0.2,
                "Under each image: its label (bold orange: not that of the first row). "
                "Each column starts from one noise.",
                va="top",
                fontsize=6,
                color="0.25",
            )
        axes.set_xlim(-margin / unit, columns)
        axes.set_ylim(height / unit - 0.1, -0.1)
    return figure


def _row_title(
    axes: Any, row: Mapping[str, Any], first: Mapping[str, Any], *, top: float, unit: float
) -> None:
    text = textwrap.fill(row["title"], 24)
    if row is not first:
        change = np.abs(row["image"].astype(float) - first["image"].astype(float)).mean()
        text += f"\nmean change {change:.1f} / 255"
    axes.text(-0.1 / unit, top + 0.5, text, ha="right", va="center", fontsize=6.5, linespacing=1.25)


def thumbnail(axes: Any, image: np.ndarray, x: float, top: float) -> None:
    """Draw an image (H, W, C) uint8 into the unit square at (x, top), with a little gap around."""
    gap = 0.03
    grey = image.shape[-1] == 1
    axes.imshow(
        image[..., 0] if grey else image,  # (H, W) or (H, W, 3)
        extent=(x + gap, x + 1 - gap, top + 1 - gap, top + gap),
        cmap="gray" if grey else None,
        vmin=0,
        vmax=255,
        interpolation="nearest",
        aspect="auto",
    )


# ---------------------------------------------------------------- sizes
def size_curves(
    curves: Mapping[str, pd.DataFrame],
    *,
    baseline: pd.DataFrame,
    bars: str = "interval",
) -> Figure:
    """Clean and robust accuracy against the number of synthetic images, a line a generator.

    curves: title -> table rows of one generator (see tables.COLUMNS), by size; baseline: the row
    without synthetic data, drawn dashed with its band, or none; bars: "interval" (95% t interval
    over seeds) or "std" (standard deviation over seeds).
    """
    if bars not in ("interval", "std"):
        raise InputError(f"bars: is '{bars}', expected interval or std")
    rows = pd.concat(curves.values())
    sizes = sorted(rows["synthetic"].unique())
    ratio = sizes[-1] / sizes[0]
    # Lines are set apart sideways, so that their bars do not hide each other.
    step = (ratio**0.02 if ratio > 1 else 1.02) if len(curves) > 1 else 1.0
    with style():
        figure = Figure(figsize=(DOUBLE, 2.9), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, kind in zip(panels, ("clean", "robust"), strict=True):
            for middle, below, above in zip(*_bars(baseline, kind, bars), strict=True):
                axes.axhspan(middle - below, middle + above, color="0.88", lw=0)
                axes.axhline(middle, color="0.35", lw=1, ls="--", label="no synthetic data")
            for n, (title, curve) in enumerate(curves.items()):
                middle, *ends = _bars(curve, kind, bars)
                shift = step ** (n - (len(curves) - 1) / 2)
                axes.errorbar(
                    curve["synthetic"].astype(float) * shift,
                    middle,
                    yerr=ends,
                    color=COLOURS[n % len(COLOURS)],
                    marker=MARKERS[n % len(MARKERS)],
                    ms=4,
                    lw=1.2,
                    elinewidth=0.8,
                    capsize=2,
                    label=title,
                )
            axes.set_xscale("log")
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axes.set_xticks([], minor=True)
            if ratio == 1:
                axes.set_xlim(sizes[0] / 1.3, sizes[0] * 1.3)
            axes.set_xlabel("synthetic images")
            axes.set_ylabel(f"{kind} accuracy (%)")
            axes.grid(axis="y", color="0.92", lw=0.6)
            axes.set_axisbelow(True)
        seeds = sorted(pd.concat([rows, baseline])["seeds"].unique())
        what = "95% t interval" if bars == "interval" else "± standard deviation"
        over = f"{' or '.join(map(str, seeds))} seed{'s' if seeds[-1] > 1 else ''}"
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(3, len(labels)),
            title=f"bars and band: {what} over {over}" if seeds[-1] > 1 else f"{over}, no bars",
            title_fontsize=7,
        )
    return figure


def _bars(table: pd.DataFrame, kind: str, bars: str) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Means, and the lengths of their bars below and above: 0 where one seed has none."""
    mean, std = table[f"{kind}_mean"], table[f"{kind}_std"]
    low, high = table[f"{kind}_low"], table[f"{kind}_high"]
    below, above = (std, std) if bars == "std" else (mean - low, high - mean)
    return mean, below.fillna(0), above.fillna(0)


# ---------------------------------------------------------------- t-SNE
def tsne_panels(
    panels: Sequence[Mapping[str, Any]], *, seed: int, points: int = 500, neighbours: int = 5
) -> Figure:
    """t-SNE maps of features, a panel an arm, with two numbers taken in feature space.

    panels: each has `title`, `feature` (N, D) float and `label` (N,); seed: chooses at most
    `points` images (the same ones in every panel of equal N) and starts the map. Above a panel:
    leave-one-out k-NN accuracy and the silhouette of the classes, both over all N features, for a
    map may look separated or not by the choice of its start. Features that hardly differ, as of a
    network that collapsed, get the numbers and no map.
    """
    from sklearn.manifold import TSNE

    classes = sorted({int(c) for panel in panels for c in np.unique(panel["label"])})
    with style():
        figure = Figure(figsize=(DOUBLE / 2 * max(2, len(panels)), 3.9), layout="constrained")
        for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
            feature, label = panel["feature"], panel["label"]
            total = len(label)
            chosen = np.arange(total)
            if total > points:
                chosen = np.sort(np.random.default_rng(seed).permutation(total)[:points])
            spread = float(feature[chosen].astype(np.float64).std(axis=0).max())
            # outside, a start at PCA's axes is not finite in float32, and scikit-learn crashes
            if SPREADS[0] < spread < SPREADS[1]:
                place = TSNE(
                    perplexity=min(30.0, (len(chosen) - 1) / 3),
                    init="pca",
                    random_state=seed,
                    n_jobs=1,
                ).fit_transform(feature[chosen])  # (points, 2)
            else:
                place = np.full((len(chosen), 2), np.nan)
                said = f"no map: the features' spread is {spread:.1g}"
                axes.text(0.5, 0.5, said, ha="center", va="center", transform=axes.transAxes)
            for n, name in enumerate(classes):
                here = place[label[chosen] == name]
                axes.scatter(
                    here[:, 0],
                    here[:, 1],
                    s=11,
                    color=COLOURS[n % len(COLOURS)],
                    marker=MARKERS[n % len(MARKERS)],
                    edgecolors="white",
                    linewidths=0.25,
                    label=str(name),
                )
            nearest, silhouette = separation(feature, label, neighbours=neighbours)
            axes.set_title(
                f"{panel['title']}\n{neighbours}-NN accuracy {100 * nearest:.1f}%, "
                f"silhouette {silhouette:.2f}"
            )
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(True)
            axes.spines[:].set_color("0.8")
            axes.set_box_aspect(1)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=len(classes) if len(classes) <= 12 else 12,
            title=f"class ({len(chosen)} of {total} test images drawn; numbers from all features)",
            title_fontsize=7,
            markerscale=1.5,
            handletextpad=0.1,
        )
    return figure


def separation(
    feature: np.ndarray, label: np.ndarray, *, neighbours: int = 5
) -> tuple[float, float]:
    """How far the classes lie apart in feature space: leave-one-out k-NN accuracy and silhouette.

    feature: (N, D); label: (N,). The k-NN vote is among the `neighbours` nearest other images
    (Euclidean; a tie goes to the lower class), a fraction in [0, 1]; the silhouette (Rousseeuw
    1987) lies in [-1, 1].
    """
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=neighbours).fit(feature)
    indices = near.kneighbors(return_distance=False)  # (N, k), an image itself left out
    names, position = np.unique(label, return_inverse=True)
    votes = np.zeros((len(label), len(names)), int)
    for k in range(neighbours):
        np.add.at(votes, (np.arange(len(label)), position[indices[:, k]]), 1)
    accuracy = float((votes.argmax(1) == position).mean())
    return accuracy, float(silhouette_score(feature, label))


# ---------------------------------------------------------------- real sizes (Figure 3)
def real_size_curves(
    panels: Mapping[str, Mapping[str, Mapping[int, Sequence[Mapping[str, float]]]]],
    *,
    total: int,
    alone: str = "real images alone",
) -> Figure:
    """Clean and robust accuracy against the number of real images (paper: Fig. 3).

    panels: a column each, title -> line -> number of real images -> one {clean, robust} in percent
    a seed. The line `alone` has no synthetic images and is drawn grey, and where it reaches
    `total` a dashed line goes through its mean; the others fill up to `total` with synthetic
    images, and at `total` have synthetic ones alone, drawn apart (hollow). Every seed is a small
    point; lines join means over seeds; bars are 95% t intervals, left out below three seeds.
    """
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    sizes = sorted({n for panel in panels.values() for line in panel.values() for n in line})
    gap = min((b - a for a, b in pairwise(sizes)), default=max(total, 2))
    counts = {
        len(seeds)
        for panel in panels.values()
        for line in panel.values()
        for seeds in line.values()
    }
    others = [name for name in names if name != alone]
    colours = told_apart(others, COLOURS) | {alone: "0.35"}
    markers = told_apart(others, MARKERS) | {alone: "v"}
    width = SINGLE if len(panels) == 1 else DOUBLE
    with style():
        figure = Figure(figsize=(width, 4.3), layout="constrained")
        grid = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False)
        for column, (title, panel) in enumerate(panels.items()):
            for axes, kind in zip(grid[:, column], ("clean", "robust"), strict=True):
                for name, line in panel.items():
                    shift = 0.14 * gap * (names.index(name) - (len(names) - 1) / 2)
                    look = {"color": colours[name], "marker": markers[name]}
                    values = {n: [seed[kind] for seed in line[n]] for n in sorted(line)}
                    if name == alone and total in values:
                        axes.axhline(np.mean(values[total]), color="0.35", lw=1, ls="--")
                    _size_line(axes, values, shift, gap, total if name != alone else None, **look)
                axes.grid(axis="y", color="0.92", lw=0.6)
                axes.set_axisbelow(True)
                if column == 0:
                    axes.set_ylabel(f"{kind} accuracy (%)")
            grid[0, column].set_title(title)
            grid[1, column].set_xticks(sizes, [f"{n:,}" for n in sizes])
            grid[1, column].set_xlim(sizes[0] - 0.4 * gap, sizes[-1] + 0.4 * gap)
            grid[1, column].set_xlabel("real images")
        _real_size_legend(figure, names, colours, markers, panels, total, alone, counts)
    return figure


def _size_line(
    axes: Any,
    values: Mapping[int, Sequence[float]],
    shift: float,
    gap: float,
    apart: int | None,
    *,
    color: str,
    marker: str,
) -> None:
    """One line over sizes: the mean with its bar, every seed beside it; `apart` is not joined."""
    joined = [n for n in values if n != apart]
    axes.plot([n + shift for n in joined], [np.mean(values[n]) for n in joined], color=color, lw=1)
    for n, seeds in values.items():
        middle = mean_interval(seeds)
        low, high, bars = middle.low, middle.high, None
        if len(seeds) > 2 and low is not None and high is not None:
            bars = [[middle.mean - low], [high - middle.mean]]
        axes.errorbar(
            n + shift,
            middle.mean,
            yerr=bars,
            color=color,
            marker=marker,
            mfc="white" if n == apart else color,
            ms=4,
            elinewidth=0.8,
            capsize=2,
        )
        if len(seeds) > 1:
            beside = [n + shift + 0.055 * gap] * len(seeds)
            axes.scatter(beside, seeds, s=4, color=color, edgecolors="none", zorder=3)


def _real_size_legend(
    figure: Figure,
    names: Sequence[str],
    colours: Mapping[str, str],
    markers: Mapping[str, str],
    panels: Mapping[str, Any],
    total: int,
    alone: str,
    counts: set[int],
) -> None:
    handles = [
        Line2D([], [], color=colours[n], marker=markers[n], ms=4, lw=1, label=n) for n in names
    ]
    lines = [line for panel in panels.values() for line in panel.items()]
    if any(name == alone and total in line for name, line in lines):
        handles.append(Line2D([], [], color="0.35", lw=1, ls="--", label=f"{total:,} real images"))
    if any(name != alone and total in line for name, line in lines):
        hollow: dict[str, Any] = {"color": "0.2", "marker": "o", "mfc": "white", "ms": 4, "lw": 0}
        handles.append(Line2D([], [], label=f"{total:,} synthetic images alone", **hollow))
    seeds = f"{' or '.join(map(str, sorted(counts)))} seed{'s' if max(counts) > 1 else ''}"
    what = f"small points: {seeds}" if max(counts) > 1 else seeds
    what += "; bars: 95% t interval" if max(counts) > 2 else ""
    figure.legend(
        handles=handles,
        loc="outside lower center",
        # two names of generators side by side do not fit the width of a column
        ncols=1 if len(panels) == 1 else 3,
        title=what,
        title_fontsize=7,
    )


# ---------------------------------------------------------------- real images
def image_sheet(
    image: np.ndarray,
    label: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    columns: int = 8,
) -> Figure:
    """Images of a data set in rows of `columns`, the class below each, in the order given.

    image: (N, H, W, C) uint8 with C in {1, 3}; label: (N,); names: of the classes, else numbers.
    """
    columns = min(columns, len(image))
    rows = -(-len(image) // columns)
    line = 1.3  # height of a row in units of an image's width
    with style():
        figure = Figure(figsize=(SINGLE, SINGLE / columns * line * rows))
        axes = figure.add_axes((0, 0, 1, 1), frameon=False)
        axes.set_axis_off()
        for i, one in enumerate(image):
            x, top = i % columns, i // columns * line
            thumbnail(axes, one, x, top)
            axes.text(
                x + 0.5,
                top + 1.0,
                str(label[i]) if names is None else names[label[i]],
                ha="center",
                va="top",
                fontsize=5.5,
                color="0.25",
            )
        axes.set_xlim(0, columns)
        axes.set_ylim(rows * line, 0)
    return figure
