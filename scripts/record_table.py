"""Record one table of a run for the repository: its files, evaluations, times and machine."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from contrastdp.files import read_json, replacing_folder, write_json
from contrastdp.frames import write_table
from contrastdp.jobs.machine import describe_machine
from contrastdp.jobs.run import run
from contrastdp.report import page as report
from contrastdp.report import reference


def record_table(
    *, tables: Sequence[str], evaluations: Sequence[str], benchmarks: str, folder: str
) -> None:
    """Write copies of `tables`, runs.csv, shared.json, times.csv and machine.json to `folder`.

    tables: the table's CSV and Markdown files; evaluations: the evaluation.json files behind it,
    one or more; what they all say goes to shared.json, the rest to runs.csv, a row each;
    benchmarks: folder of Snakemake's benchmark files, of all that was run at the scale.
    """
    times = reference.times_of(report.sum_benchmarks(report.find_benchmarks(benchmarks)))
    shared, runs = reference.split_shared([read_json(path) for path in evaluations])
    with replacing_folder(folder) as temporary:
        temporary.mkdir(parents=True, exist_ok=True)
        for path in tables:
            shutil.copyfile(path, temporary / Path(path).name)
        write_json(temporary / "shared.json", shared)
        write_table(temporary / "runs.csv", pd.DataFrame(runs, dtype=object))
        write_table(temporary / "times.csv", times)
        write_json(temporary / "machine.json", describe_machine())


if "snakemake" in globals():
    run(record_table, snakemake)
