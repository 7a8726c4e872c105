"""Set the simulated Gaussian tables beside the printed ones: table, verdicts and misfits."""

from collections.abc import Mapping, Sequence
from typing import Any

from contrastdp.files import write_text
from contrastdp.frames import read_table, write_table
from contrastdp.jobs.run import run
from contrastdp.theory import gaussian_table
from contrastdp.theory.tables import CELLS, read_printed


def make_gaussian_table(
    *,
    cells: str,
    reported: str,
    version1: str,
    csv: str,
    md: str,
    tex: str,
    verdicts_csv: str,
    verdicts_md: str,
    misfits: str,
    geometry: Sequence[Mapping[str, Any]],
    trials: int,
    test_points: int,
    level: float,
    notable: float,
    fitted: str,
) -> None:
    """Write gaussian.{csv,md,tex}, the verdict per table and variant, and what does not fit.

    level: chance allowed of rejecting a table that fits; notable: |z| from which a cell is listed
    as a misfit; fitted: the variant whose misfits are listed.
    """
    comparison = gaussian_table.Comparison(read_table(cells, CELLS), read_printed(reported))
    table = gaussian_table.gaussian_table(comparison, trials)
    verdicts = gaussian_table.verdict_table(comparison, trials=trials, level=level)
    odd = gaussian_table.misfit_table(
        comparison,
        geometry,
        read_printed(version1),
        variant=fitted,
        notable=notable,
        level=level,
        test_points=test_points,
    )
    write_table(csv, table)
    write_table(verdicts_csv, verdicts)
    write_table(misfits, odd)
    markdown, latex = gaussian_table.documents(table)
    write_text(md, markdown)
    write_text(tex, latex)
    write_text(verdicts_md, gaussian_table.verdict_document(verdicts, odd))


if "snakemake" in globals():
    run(make_gaussian_table, snakemake)
