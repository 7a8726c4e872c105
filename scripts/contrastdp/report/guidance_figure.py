"""The figure of the guidance's variants: accuracy against its size, and each variant's gain."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from contrastdp.frames import as_rows
from contrastdp.report.figures import COLOURS, DOUBLE, MARKERS, style
from contrastdp.report.guidance_table import SETTINGS

KINDS = {
    "hnm": "HNM",
    "infonce": "InfoNCE",
    "classifier": "classifier",
    "random": "random direction",
}
Row = Mapping[str, Any]
ASIDE = 0.3  # how far below its arm a twin's marker lies, in rows


def guidance_figure(table: pd.DataFrame, swept: Sequence[Sequence[str]]) -> Figure:
    """Left: robust accuracy against the guidance's size; right: each variant's gain.

    table: of guidance_table.size_table, one data set's; swept: arms that differ by lambda alone,
    joined by a line, a list a loss. The gain is against the table's reference; an arm that differs
    from another in its random direction alone shares its line on the right. Bars: 95% t intervals
    over seeds, on the right over paired seeds; the dashed line on the left is the unguided row,
    where there is one.
    """
    rows = as_rows(table)
    by_arm = {row["arm"]: row for row in rows}
    plain = next((row for row in rows if row["loss"] is None), None)
    guided = [row for row in rows if row["loss"] is not None]
    twins = _twins(guided)
    lines = [[by_arm[arm] for arm in arms if arm in by_arm] for arms in swept]
    with style():
        height = max(3.0, 0.4 + 0.16 * (len(guided) - len(twins)))
        figure = Figure(figsize=(DOUBLE, height), layout="constrained")
        left, right = figure.subplots(1, 2)
        _against_size(left, guided, [line for line in lines if len(line) > 1], plain)
        _gains(right, guided, twins)
    return figure


def _against_size(
    axes: Any, guided: Sequence[Row], lines: Sequence[Sequence[Row]], plain: Row | None
) -> None:
    if plain is not None:
        middle, (low,), (high,) = _bar(plain, "robust_mean", "robust_low", "robust_high")
        axes.axhspan(middle - low, middle + high, color="0.92", lw=0)
        axes.axhline(middle, color="0.35", lw=1, ls="--", label=plain["title"])
    for k, (kind, title) in enumerate(KINDS.items()):
        members = [row for row in guided if _kind(row) == kind]
        for row in members:
            middle, *bars = _bar(row, "robust_mean", "robust_low", "robust_high")
            axes.errorbar(
                row["size_mean"],
                middle,
                yerr=bars,
                color=COLOURS[k],
                marker=MARKERS[k],
                ms=3.5,
                lw=0,
                elinewidth=0.5,
                label=title if row is members[0] else None,
            )
        for line in lines:
            if _kind(line[0]) == kind:
                ordered = sorted(line, key=lambda row: row["size_mean"])
                axes.plot(
                    [row["size_mean"] for row in ordered],
                    [row["robust_mean"] for row in ordered],
                    color=COLOURS[k],
                    lw=1.2,
                    label=f"{title}, lambda alone",
                )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("size of the guidance (norm over that of the noise)")
    axes.set_ylabel("robust accuracy (%)")
    axes.grid(color="0.92", lw=0.6)
    axes.set_axisbelow(True)
    axes.figure.legend(loc="outside upper center", ncols=3)


def _gains(axes: Any, guided: Sequence[Row], twins: Mapping[str, Row]) -> None:
    beside = [twin["arm"] for twin in twins.values()]
    shown = [row for row in guided if row["arm"] not in beside]
    for place, row in enumerate(shown):
        _gain(axes, row, place)
        if row["arm"] in twins:
            _gain(axes, twins[row["arm"]], place + ASIDE, small=True)
    axes.axvline(0, color="0.35", lw=1, ls="--")
    names = [f"{row['title']} ({row['size_mean']:.2g})" for row in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=6)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("difference in robust accuracy (points)")
    axes.grid(axis="x", color="0.92", lw=0.6)
    axes.set_axisbelow(True)


def _gain(axes: Any, row: Row, place: float, *, small: bool = False) -> None:
    middle, *bars = _bar(row, "difference", "difference_low", "difference_high")
    k = list(KINDS).index(_kind(row))
    axes.errorbar(
        middle,
        place,
        xerr=bars,
        color=COLOURS[k],
        marker=MARKERS[k],
        ms=2.5 if small else 3.5,
        lw=0,
        elinewidth=0.5 if small else 0.8,
    )


def _twins(guided: Sequence[Row]) -> dict[str, Row]:
    """Arm -> the row that differs from it in the random direction alone, where there is one."""

    def alike(row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in SETTINGS if name != "direction")

    random = {alike(row): row for row in guided if _kind(row) == "random"}
    return {
        row["arm"]: random[alike(row)]
        for row in guided
        if _kind(row) != "random" and alike(row) in random
    }


def _kind(row: Row) -> str:
    return "random" if row["direction"] == "random" else row["loss"]


def _bar(row: Row, mean: str, low: str, high: str) -> tuple[float, list[float], list[float]]:
    """Middle and the lengths of its bars below and above, 0 where one seed has no interval."""
    middle = float(np.nan) if row[mean] is None else row[mean]
    if row[low] is None:
        return middle, [0.0], [0.0]
    return middle, [middle - row[low]], [row[high] - middle]
