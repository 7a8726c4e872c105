"""Make a robustness table from evaluations: CSV for programs, Markdown and LaTeX for people."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from contrastdp.evidence import comparisons, memorisation
from contrastdp.files import write_text
from contrastdp.frames import write_table
from contrastdp.jobs.run import run
from contrastdp.report import paper_tables, tables


def make_table(
    *,
    evaluations: Sequence[str],
    arms: Sequence[Mapping[str, Any]],
    csv: str,
    markdown: str,
    latex: str,
    runs: str,
    reference: str | Sequence[str] | None = None,
    outcomes: Sequence[str] = (),
    measures: Sequence[str] = (),
    mixed_attacks: Collection[str] = (),
) -> None:
    """Write one row an arm, in the order of `arms`, to csv, markdown and latex; to runs one a seed.

    evaluations: evaluation.json files, one for each arm and seed; arms: rows of arms.tsv with the
    keys arm, dataset, generator, real, synthetic, selection, trainer, seeds (a list) and title;
    reference: the arm (or one a data set) that differences in robust accuracy are taken against,
    paired over seeds; outcomes: the evaluations' outcomes.csv files in their order, or none, which
    leaves McNemar's test out; measures: files of measure_samples of every generator, number of real
    images and seed, or none, which leaves the nearest training images out; mixed_attacks: data sets
    whose arms may be attacked in different ways, which the caption then says. Accuracies are in
    percent, std with ddof = 1, intervals 95%.
    Raises InputError in one line where evaluations are missing, double, of another arm's
    settings, or attacked in different ways.
    """
    found = tables.read_evaluations(evaluations)
    images = comparisons.read_outcomes(outcomes, found) if outcomes else {}
    near = memorisation.read_nearest(measures)
    table = tables.robustness_table(
        found, arms, reference, outcomes=images, nearest=near, mixed_attacks=mixed_attacks
    )
    caption = tables.caption(found, table, tables.mixtures(found, arms))
    write_table(csv, table)
    write_table(runs, paper_tables.run_table(found, arms, mixed_attacks=mixed_attacks))
    write_text(markdown, tables.markdown_table(table, caption))
    write_text(latex, tables.latex_table(table, caption, label=Path(latex).stem))


if "snakemake" in globals():
    run(make_table, snakemake)
