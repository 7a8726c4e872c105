"""Figures of section 3: the cases of Proposition 3.2, their errors, and Theorem 3.4's counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from contrastdp.errors import InputError
from contrastdp.report.figures import COLOURS, MARKERS, SINGLE, style, told_apart
from contrastdp.theory.gaussian import mean_vector

BLUE, ORANGE = COLOURS[0], COLOURS[3]
RADII = (0.6, 1.0)  # of the drawn circles around a mean, in sigma


def cases(*, mu: Sequence[float] | Mapping[str, float], eps: float, sigma: float) -> Figure:
    """The cases of Proposition 3.2, drawn in the plane (paper: Fig. 1).

    mu: the true mean, two coordinates. Filled circles are the real classes N(+-mu, sigma^2 I),
    dashed ones the synthetic classes N(+-mu~, sigma^2 I); the line is the boundary that
    theta_final tends to when it points along mu~.
    """
    mean: Any = mean_vector(mu)
    robust = mean - eps
    orthogonal = np.array([-mean[1], mean[0]])
    panels: dict[str, Any] = {
        "Case 1: inefficient\n" + r"$\tilde\mu \perp \mu$": orthogonal,
        "Case 2: best clean\n" + r"$\tilde\mu = c\,\mu$": 1.8 * mean,
        "Case 3: best robust\n" + r"$\tilde\mu = c\,(\mu-\epsilon 1)$": 2.8 * robust,
    }
    limit = max(np.abs(m).max() for m in (*panels.values(), mean)) + 1.1 * sigma
    with style():
        figure = Figure(figsize=(SINGLE, 1.85), layout="constrained")
        for axes, (title, synthetic) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            boundary = np.array([-synthetic[1], synthetic[0]]) / np.linalg.norm(synthetic)
            ends = np.outer([-2 * limit, 2 * limit], boundary)
            axes.plot(*ends.T, color="0.3", lw=0.9)
            for sign, name in ((1, "+"), (-1, "−")):
                for radius in RADII:
                    axes.add_patch(
                        Circle(sign * mean, radius * sigma, color=BLUE, alpha=0.22, lw=0)
                    )
                    axes.add_patch(
                        Circle(
                            sign * synthetic, radius * sigma, fill=False, ec=ORANGE, lw=0.9, ls="--"
                        )
                    )
                for centre, colour in ((mean, BLUE), (synthetic, ORANGE)):
                    axes.text(
                        *(sign * centre),
                        name,
                        color=colour,
                        ha="center",
                        va="center",
                        fontsize=9,
                        fontweight="bold",
                    )
            axes.set_title(title, fontsize=6.5)
            axes.set_aspect("equal")
            axes.set_xlim(-limit, limit)
            axes.set_ylim(-limit, limit)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel("$x_1$", labelpad=2)
            axes.spines[["top", "right"]].set_visible(True)
        figure.axes[0].set_ylabel("$x_2$", labelpad=2)
        figure.legend(
            handles=[
                Line2D([], [], marker="o", ls="", color=BLUE, alpha=0.4, label="real"),
                Line2D(*([], []), marker="o", ls="", mfc="none", mec=ORANGE, label="synthetic"),
                Line2D([], [], color="0.3", lw=0.9, label="boundary"),
            ],
            loc="outside lower center",
            ncols=3,
            columnspacing=1.2,
            handletextpad=0.4,
        )
    return figure


def proposition(table: pd.DataFrame) -> Figure:
    """Errors against the angle of mu~ and against c, one row of panels an error.

    table: in tables.PROPOSITION. Left: error over the angle to the direction the
    proposition names, for the estimator's limit at the most real samples, a line a c; dotted,
    the limit the proof takes. Right: the error at angle 0 against c, lines for the limit, markers
    for finite n~.
    """
    counts, lengths = sorted(table["real"].unique()), sorted(table["c"].unique())
    shown = lengths[:1] + lengths[1::2] if len(lengths) > 4 else lengths
    colours = told_apart(shown, COLOURS)
    finite = table.query("model == 'finite'")["synthetic"].iloc[0]

    def values(error: str, model: str, real: int, c: float | None = None) -> tuple[Any, Any]:
        points = table.query("error == @error and model == @model and real == @real")
        points = points[points["angle"] == 0 if c is None else points["c"] == c]
        if points.empty:
            raise InputError(f"proposition: no rows of {error}, {model}, n = {real}; run again")
        points = points.sort_values("c" if c is None else "angle")
        return points["c" if c is None else "angle"], 100 * points["value"]

    with style():
        figure = Figure(figsize=(SINGLE, 3.7), layout="constrained")
        panels = figure.subplots(2, 2, gridspec_kw={"width_ratios": (1.25, 1)})
        for line, (error, reference) in zip(
            panels, (("standard", r"\mu"), ("robust", r"\mu-\epsilon 1")), strict=True
        ):
            left, right = line
            left.plot(*values(error, "proof", counts[-1], c=lengths[0]), color="0.45", lw=1, ls=":")
            for c, colour in colours.items():
                left.plot(*values(error, "limit", counts[-1], c=c), color=colour, lw=1.2)
            left.set_xlabel(f"angle of $\\tilde\\mu$ to ${reference}$ (°)")
            left.set_ylabel(f"{error} error (%)")
            left.set_xticks([-90, -45, 0, 45, 90])
            for n, real in enumerate(counts):
                x, y = values(error, "limit", real)
                right.plot(x, y, color=("0", "0.55")[n % 2], lw=1)
                x, y = values(error, "finite", real)
                right.plot(x, y, ls="", marker=MARKERS[n], color=("0", "0.55")[n % 2], ms=3.5)
            right.set_xlabel("$c$ (at 0°)")
            for axes in line:
                axes.grid(color="0.92", lw=0.6)
                axes.set_axisbelow(True)
        handles = [
            Line2D([], [], color=colour, lw=1.2, label=f"$c$ = {c:g}")
            for c, colour in colours.items()
        ]
        handles.append(Line2D([], [], color="0.45", lw=1, ls=":", label="proof's limit"))
        handles += [
            Line2D(
                [], [], color=("0", "0.55")[n % 2], marker=MARKERS[n], ms=3.5, label=f"$n$ = {r}"
            )
            for n, r in enumerate(counts)
        ]
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=3,
            columnspacing=1.0,
            title=f"left: $n$ = {counts[-1]}; lines $\\tilde n\\to\\infty$, "
            f"markers $\\tilde n$ = {finite}",
            title_fontsize=7,
        )
    return figure


def theorem(table: pd.DataFrame, *, target: float) -> Figure:
    """Synthetic samples needed for a robust accuracy against c, with the fitted power law.

    table: in tables.THEOREM; target: the robust accuracy drawn, one of its targets. Bars
    are bootstrap intervals; a c that never reaches the target has no marker.
    """
    chosen = table.query("target == @target")
    if chosen.empty:
        known = ", ".join(map(str, sorted(table["target"].unique())))
        raise InputError(f"theorem: no row for the target {target}; choose from {known}")
    with style():
        figure = Figure(figsize=(SINGLE, 2.6), layout="constrained")
        axes = figure.subplots()
        for n, (real, own) in enumerate(chosen.groupby("real")):
            points = own.query("quantity == 'needed'").dropna(subset="value")
            x, y = points["c"], points["value"]
            (fit,) = own.query("quantity == 'exponent'").itertuples()
            label = f"$n$ = {real}"
            if not np.isnan(fit.value):
                label += (
                    f": $\\tilde n \\propto c^{{{fit.value:.2f}}}$ [{fit.low:.2f}, {fit.high:.2f}]"
                )
                middle = np.log(y).mean() - fit.value * np.log(x).mean()
                axes.plot(x, np.exp(middle) * x**fit.value, color=COLOURS[n], lw=0.9, ls="--")
            axes.errorbar(
                x,
                y,
                yerr=((y - points["low"]).abs(), (points["high"].fillna(np.inf) - y).abs()),
                color=COLOURS[n],
                marker=MARKERS[n],
                ms=4,
                ls="",
                capsize=2,
                elinewidth=0.8,
                label=label,
            )
        ticks = sorted(chosen["c"].dropna().unique())
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(r"$c$ (length of $\tilde\mu$ over length of $\mu$)")
        axes.set_ylabel(f"synthetic samples $\\tilde n$ for {100 * target:g}%\nrobust accuracy")
        axes.grid(color="0.92", lw=0.6)
        axes.set_axisbelow(True)
        axes.legend(loc="upper right", handletextpad=0.3)
    return figure
