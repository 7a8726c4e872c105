"""Draw section 3: Figure 1, the errors of Proposition 3.2, and Theorem 3.4's sample counts."""

from collections.abc import Mapping, Sequence

from contrastdp.frames import read_table
from contrastdp.jobs.run import run
from contrastdp.report.figures import save
from contrastdp.theory import gaussian_figures, tables


def plot_gaussian(
    *,
    proposition: str,
    theorem: str,
    cases_png: str,
    cases_pdf: str,
    proposition_png: str,
    proposition_pdf: str,
    theorem_png: str,
    theorem_pdf: str,
    mu: Sequence[float] | Mapping[str, float],
    eps: float,
    sigma: float,
    target: float,
) -> None:
    """Draw the three figures as PNG and PDF.

    proposition, theorem: CSV files of simulate_gaussian; mu, eps, sigma: what Figure 1 draws;
    target: the robust accuracy whose sample counts are drawn.
    """
    cases = gaussian_figures.cases(mu=mu, eps=eps, sigma=sigma)
    save(cases, png=cases_png, pdf=cases_pdf)
    errors = gaussian_figures.proposition(read_table(proposition, tables.PROPOSITION))
    save(errors, png=proposition_png, pdf=proposition_pdf)
    counts = gaussian_figures.theorem(read_table(theorem, tables.THEOREM), target=target)
    save(counts, png=theorem_png, pdf=theorem_pdf)


if "snakemake" in globals():
    run(plot_gaussian, snakemake)
