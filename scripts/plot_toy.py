"""Draw Figures 2, 6 and 7 of the toy with their measures, and all settings in one figure."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from contrastdp.errors import InputError
from contrastdp.frames import read_table
from contrastdp.jobs.run import run
from contrastdp.report.figures import save
from contrastdp.theory import toy_figures, toy_measures

LOSSES = ("infonce", "hnm", "hnm_real_positive", "hnm_real_negative", "hnm_class_conditional")
FIGURE_2 = ("plain", "hnm", "hnm_class_conditional")


def plot_toy(
    *,
    points_npz: str,
    summary: str,
    mixture: Mapping[str, Any],
    reading: str,
    size: float,
    shown: int,
    figure_2_png: str,
    figure_2_pdf: str,
    figure_6_png: str,
    figure_6_pdf: str,
    figure_7_png: str,
    figure_7_pdf: str,
    spreads_png: str,
    spreads_pdf: str,
) -> None:
    """Draw Figure 2 and 6 from N(0, I), Figure 7 from N(0, 4I), and the spread of every setting.

    points_npz, summary: files of sample_toy; mixture: mu and sigma; reading, size: the setting that
    is drawn; shown: batches in a panel. The paper does not say which HNM loss its Figure 2 (b)
    shows, so both are drawn.
    """
    table = read_table(summary, toy_measures.SUMMARY_COLUMNS)

    def figure(start: float, names: tuple[str, ...]) -> Any:
        keys = {name: 0.0 if name == "plain" else size for name in names}
        chosen = table.query("reading == @reading and start == @start")
        chosen = chosen[chosen["size"] == chosen["panel"].map(keys)].set_index("panel")
        if missing := set(names) - set(chosen.index):
            raise InputError(f"{summary}: no {min(missing)} at size {size}; correct plot_toy")
        read = partial(toy_measures.read_points, points_npz, reading=reading, start=start)
        points = {name: read(panel=name, size=keys[name]) for name in names}
        return toy_figures.panels(points, chosen, shown=shown, columns=3, **mixture)

    save(figure(1.0, FIGURE_2), png=figure_2_png, pdf=figure_2_pdf)
    save(figure(1.0, ("plain", *LOSSES)), png=figure_6_png, pdf=figure_6_pdf)
    save(figure(2.0, ("plain", *LOSSES)), png=figure_7_png, pdf=figure_7_pdf)
    lines = {"blob": toy_measures.GAUSSIAN_CV, "disc": toy_measures.DISC_CV}
    save(toy_figures.spreads(table, LOSSES, **lines), png=spreads_png, pdf=spreads_pdf)


if "snakemake" in globals():
    run(plot_toy, snakemake)
