"""Figures 2, 6 and 7: the toy's panels, each with its measures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from contrastdp.errors import InputError
from contrastdp.report.figures import COLOURS, DOUBLE, MARKERS, SINGLE, style

TITLES = {
    "plain": "plain model",
    "plain_conditional": "plain model, class-conditional",
    "infonce": "InfoNCE",
    "hnm": "hard negative mining (HNM)",
    "hnm_real_positive": "HNM, real data as positives",
    "hnm_real_negative": "HNM, real data as negatives",
    "hnm_class_conditional": "HNM, class-conditional",
}
READINGS = {
    "exact": "exact noise predictor",
    "ddpm": "DDPM steps",
    "inner_product": "features not normalised",
    "classifier": "a classifier's features",
    "overlapping": "overlapping classes",
}
CLASSES = ((COLOURS[0], "o"), (COLOURS[3], "^"))


def panels(
    points: Mapping[str, tuple[np.ndarray, np.ndarray]],
    summary: pd.DataFrame,
    *,
    mu: Sequence[float],
    sigma: float,
    shown: int,
    columns: int,
) -> Figure:
    """Panels side by side, `columns` in a row, on one scale.

    points: panel -> its points (batches, m, 2) and classes (batches, m); summary: of
    toy_measures, a row a panel, indexed by it; shown: how many batches are drawn. Dashed circles
    of radius 2 sigma around the real modes hold 86% of the real data. Above a panel: separability
    (distance of the class means over the root mean square distance to the own one), variance of a
    coordinate in a class, and the radius' deviation over its mean, with their intervals over
    batches.
    """
    lines = -(-len(points) // columns)
    drawn = {}
    for name, (place, label) in points.items():
        drawn[name] = place[:shown].reshape(-1, 2), label[:shown].reshape(-1)
    # A few points may be thrown far out; they are counted instead of shrinking all panels.
    reach = max(float(np.percentile(np.abs(place), 99.5)) for place, _ in drawn.values())
    limit = max(1.08 * reach, max(map(abs, mu)) + 2.2 * sigma)
    width = DOUBLE if columns > 2 else SINGLE
    with style():
        height = lines * (width / columns + 0.32) + 0.4
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
        for axes, name in zip(list(grid.flat)[: len(drawn)], drawn, strict=True):
            place, label = drawn[name]
            for c, (colour, marker) in enumerate(CLASSES):
                own = place[label == c]
                axes.scatter(*own.T, s=7, color=colour, marker=marker, lw=0, alpha=0.65)
                mode: Any = (2 * c - 1) * np.asarray(mu)
                axes.add_patch(Circle(mode, 2 * sigma, fill=False, ec="0.35", lw=0.8, ls="--"))
            axes.set_title(_measured(summary.loc[name]), fontsize=6.5, linespacing=1.25)
            axes.text(
                *(0.03, 0.97),
                TITLES.get(name, name),
                transform=axes.transAxes,
                va="top",
                fontsize=6.5,
                fontweight="bold",
            )
            outside = int((np.abs(place) > limit).any(axis=1).sum())
            if outside:
                axes.text(
                    *(0.97, 0.03),
                    f"{outside} outside",
                    transform=axes.transAxes,
                    ha="right",
                    fontsize=6,
                    color="0.35",
                )
            axes.set_xlim(-limit, limit)
            axes.set_ylim(-limit, limit)
            axes.set_box_aspect(1)
            axes.spines[["top", "right"]].set_visible(True)
        for axes in grid[-1]:
            axes.set_xlabel("$x_1$", labelpad=1)
        for axes in grid[:, 0]:
            axes.set_ylabel("$x_2$", labelpad=1)
        for axes in list(grid.flat)[len(drawn) :]:
            axes.set_axis_off()
        figure.legend(
            handles=[
                Line2D([], [], color=colour, marker=marker, ls="", ms=4, label=f"class {sign}")
                for (colour, marker), sign in zip(CLASSES, ("−1", "+1"), strict=True)
            ]
            + [Line2D([], [], color="0.35", lw=0.8, ls="--", label="real classes, radius 2σ")],
            loc="outside lower center",
            ncols=3,
        )
    return figure


def _measured(row: pd.Series) -> str:
    def shown(name: str, digits: int) -> str:
        value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
        return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    return (
        f"between / within {shown('separability', 2)}\n"
        f"variance {shown('variance', 2)}\n"
        f"radial spread {shown('radial_cv', 2)}"
    )


def spreads(summary: pd.DataFrame, names: Sequence[str], *, blob: float, disc: float) -> Figure:
    """Every setting's radial spread against its separability over the plain model's, by loss.

    summary: of toy_measures, all of it; names: the losses; blob, disc: radial spreads of a Gaussian
    and of an evenly filled disc, drawn as lines.
    """
    unguided = summary[summary["panel"].str.startswith("plain")]
    plain = unguided.set_index(["reading", "panel", "start"])["separability"].to_dict()
    readings = list(summary["reading"].unique())
    drawn = summary[summary["panel"].isin(names)].dropna(subset="separability")
    with style():
        figure = Figure(figsize=(DOUBLE, 3.1), layout="constrained")
        axes = figure.subplots()
        for row in drawn.itertuples():
            base = "plain_conditional" if row.panel == "hnm_class_conditional" else "plain"
            key = (row.reading, base, row.start)
            if key not in plain:
                raise InputError(f"summary: has no {base} panel of '{row.reading}'; run again")
            axes.plot(
                row.separability / plain[key],
                row.radial_cv,
                marker=MARKERS[readings.index(row.reading)],
                color=COLOURS[names.index(row.panel)],
                ms=3 + 3 * row.size**0.5,
                mfc="none" if row.start > 1 else None,
                ls="",
                alpha=0.85,
            )
        for value, text in ((blob, "Gaussian blob"), (disc, "filled disc")):
            axes.axhline(value, color="0.55", lw=0.8, ls=":")
            axes.annotate(
                text,
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 2),
                textcoords="offset points",
                ha="right",
                fontsize=6.5,
                color="0.35",
            )
        axes.axvline(1, color="0.55", lw=0.8, ls=":")
        axes.set_xscale("log")
        ticks = [0.2, 0.5, 1, 2]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("between / within, over that of the plain model")
        axes.set_ylabel("radial spread (0: ring)")
        handles = [
            Line2D([], [], color=COLOURS[n], marker="o", ls="", ms=5, label=TITLES.get(name, name))
            for n, name in enumerate(names)
        ]
        handles += [
            Line2D(
                [], [], color="0.3", marker=MARKERS[n], ls="", ms=5, label=READINGS.get(name, name)
            )
            for n, name in enumerate(readings)
        ]
        figure.legend(
            handles=handles,
            loc="outside right center",
            title="colour: loss; shape: setting;\nlarger: stronger guidance;\n"
            "hollow: from N(0, 4I)",
            title_fontsize=7,
        )
    return figure
