"""Simulate section 3: every table cell, Proposition 3.2 and Theorem 3.4 (numpy, one core)."""

from collections.abc import Mapping, Sequence
from typing import Any

from contrastdp.frames import as_table, given, write_table
from contrastdp.jobs.run import run, track
from contrastdp.theory.gaussian import proposition_rows, simulate_tables, theorem_rows
from contrastdp.theory.tables import CELLS, PROPOSITION, THEOREM, read_printed


def simulate_gaussian(
    *,
    reported: str,
    cells: str,
    proposition: str,
    theorem: str,
    geometry: Sequence[Mapping[str, Any]],
    variants: Mapping[str, Mapping[str, Any]],
    trials: int,
    test_points: int,
    regenerations: int,
    seed: int,
    proposition_settings: Mapping[str, Any],
    theorem_settings: Mapping[str, Any],
) -> None:
    """Simulate the cells named in `reported` and write cells, proposition and theorem as CSV.

    cells holds a row per cell, variant and regeneration: 0 is the run as printed, 1 to
    `regenerations` repeat everything with fresh draws.
    """
    wanted = read_printed(reported)
    rows = []
    for regeneration in track(range(regenerations + 1), "regenerations"):
        rows += simulate_tables(
            wanted,
            geometry,
            variants,
            trials=trials,
            test_points=test_points,
            seed=seed,
            regeneration=regeneration,
        )
    write_table(cells, as_table(rows, CELLS), digits="%.6f")
    for path, found, columns in (
        (proposition, proposition_rows(**proposition_settings), PROPOSITION),
        (theorem, theorem_rows(**theorem_settings), THEOREM),
    ):
        write_table(path, as_table(found, given(*columns)))  # settings as they were given


if "snakemake" in globals():
    run(simulate_gaussian, snakemake)
