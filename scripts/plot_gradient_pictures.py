"""Plot two classifiers' gradients, targeted attacks and guided predictions (paper: Fig. 3 to 5)."""

from contrastdp.jobs.run import run
from contrastdp.report import figures, gradient_figures


def plot_gradient_pictures(
    *,
    pictures: str,
    maps_png: str,
    maps_pdf: str,
    targeted_png: str,
    targeted_pdf: str,
    predicted_png: str,
    predicted_pdf: str,
) -> None:
    """Draw the three figures of picture_gradients' npz."""
    found = gradient_figures.read_pictures(pictures)
    figures.save(gradient_figures.maps_figure(found), png=maps_png, pdf=maps_pdf)
    figures.save(gradient_figures.targeted_figure(found), png=targeted_png, pdf=targeted_pdf)
    figures.save(gradient_figures.predicted_figure(found), png=predicted_png, pdf=predicted_pdf)


if "snakemake" in globals():
    run(plot_gradient_pictures, snakemake)
