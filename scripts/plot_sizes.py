"""Plot accuracy against the number of synthetic images, a line a generator."""

from collections.abc import Mapping, Sequence

from contrastdp.errors import InputError
from contrastdp.jobs.run import run
from contrastdp.report import figures
from contrastdp.report.tables import read_table


def plot_sizes(
    *,
    tables: Sequence[str],
    generators: Mapping[str, str],
    dataset: str,
    real: int,
    trainer: str,
    png: str,
    pdf: str,
    selection: str = "none",
    bars: str = "interval",
) -> None:
    """Draw clean and robust accuracy against synthetic size for the rows that match the settings.

    tables: CSV files of make_table (an arm may stand in several); generators: name -> title in
    the legend, in order; dataset, real, trainer, selection: what a row must have; bars: interval
    (95% t interval over seeds) or std. The row of the same data set, real count and trainer with
    0 synthetic images is the dashed line.
    Raises InputError where a generator has no row, or two rows of one size.
    """
    rows = {row["arm"]: row for path in tables for row in read_table(path)}
    alike = [
        row
        for row in rows.values()
        if (row["dataset"], row["real"], row["trainer"]) == (dataset, real, trainer)
    ]
    baselines = [row for row in alike if row["synthetic"] == 0]
    if len(baselines) > 1:
        names = " and ".join(row["arm"] for row in baselines)
        raise InputError(f"arms {names} both have no synthetic data; leave one out of the tables")
    curves = {}
    for name, title in generators.items():
        found = {}
        for row in alike:
            if (row["generator"], row["selection"]) == (name, selection) and row["synthetic"] > 0:
                if row["synthetic"] in found:
                    names = f"{found[row['synthetic']]['arm']} and {row['arm']}"
                    raise InputError(f"arms {names} have one generator and size; choose one")
                found[row["synthetic"]] = row
        if not found:
            raise InputError(f"generator {name}: no row of {', '.join(tables)} matches it")
        curves[title] = list(found.values())
    baseline = baselines[0] if baselines else None
    figures.save(figures.size_curves(curves, baseline=baseline, bars=bars), png=png, pdf=pdf)


if "snakemake" in globals():
    run(plot_sizes, snakemake)
