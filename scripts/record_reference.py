"""Record one run for the repository: table, evaluations, times and machine; and in the README."""

import shutil
from collections.abc import Sequence

from contrastdp.files import read_json, read_text, replacing, write_json, write_text
from contrastdp.frames import write_table
from contrastdp.jobs.machine import describe_machine
from contrastdp.jobs.run import run
from contrastdp.report import page as report
from contrastdp.report import reference


def record_reference(
    *,
    table: str,
    evaluations: Sequence[str],
    benchmarks: Sequence[str],
    readme: str,
    folder: str,
) -> None:
    """Write the record to `folder` and put its table between the marks of the README.

    table: CSV file of make_table; evaluations: the evaluation.json files behind it; benchmarks:
    folders of Snakemake's benchmark files. Raises InputError where the README has no marks.
    """
    text = read_text(readme)
    measured = [found for place in benchmarks for found in report.find_benchmarks(place)]
    times = reference.times_of(report.sum_benchmarks(measured))
    with replacing(f"{folder}/robustness.csv") as temporary:
        shutil.copyfile(table, temporary)
    write_json(f"{folder}/evaluations.json", [read_json(path) for path in evaluations])
    write_table(f"{folder}/times.csv", times)
    write_json(f"{folder}/machine.json", describe_machine())
    write_text(readme, reference.between_marks(text, reference.render_record(folder), readme))


if "snakemake" in globals():
    run(record_reference, snakemake)
