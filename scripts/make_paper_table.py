"""Set a table of the paper beside ours: its layout, comparisons with verdicts, and what was run."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from contrastdp.evidence import comparisons as compared
from contrastdp.evidence import memorisation
from contrastdp.files import write_text
from contrastdp.frames import write_table
from contrastdp.jobs.run import run
from contrastdp.report import paper_layout, paper_tables, tables


def make_paper_table(
    *,
    evaluations: Sequence[str],
    reported: str,
    arms: Sequence[Mapping[str, Any]],
    layout: Sequence[str],
    comparable: bool,
    version: str,
    csv: str,
    markdown: str,
    latex: str,
    cells: str,
    comparisons: str,
    runs: str,
    outcomes: Sequence[str] = (),
    measures: Sequence[str] = (),
    mixed_attacks: Collection[str] = (),
) -> None:
    """Write the table in the paper's layout (csv, markdown, latex) and its parts as long CSV.

    evaluations: evaluation.json files, one for each arm and seed; reported: CSV of the paper's
    values; arms: rows as make_table's, with baseline (an arm or None), reported (a list of ids) and
    perhaps eps and train_on; layout: ids of the paper's table in printed order, empty where it
    prints none; comparable: whether this scale's settings are the paper's; version: of the attack,
    as outcomes.as_version says. cells: one row a reported cell or arm; comparisons: one an arm, its
    baseline and a measure; runs: one an arm and seed; the rest as make_table's. Raises InputError
    in one line as paper_tables.check_plan and tables.check_evaluations do.
    """
    known = paper_tables.read_reported(reported)
    found = tables.read_evaluations(evaluations, version)
    images = compared.read_outcomes(outcomes, found) if outcomes else {}
    how = {"comparable": comparable, "mixed_attacks": mixed_attacks}
    near = memorisation.read_nearest(measures)
    laid = paper_tables.cell_table(found, arms, known, layout, nearest=near, **how)
    pairs = paper_tables.comparison_table(found, arms, known, layout, outcomes=images, **how)
    write_table(cells, laid)
    write_table(comparisons, pairs)
    write_table(runs, paper_tables.run_table(found, arms, known, mixed_attacks=mixed_attacks))
    write_table(csv, paper_layout.lay_out(laid)[0])
    given = (found, laid, pairs)
    shown = {"comparable": comparable, "notes": tables.mixtures(found, arms)}
    write_text(markdown, paper_layout.markdown(*given, **shown))
    write_text(latex, paper_layout.latex(*given, **shown, label=Path(latex).stem))


if "snakemake" in globals():
    run(make_paper_table, snakemake)
