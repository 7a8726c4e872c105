"""Write the report: one HTML page that needs no other file and no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contrastdp.files import write_text
from contrastdp.jobs.run import run
from contrastdp.report import page as report
from contrastdp.report.tables import read_evaluations


def write_report(
    *,
    title: str,
    tables: Sequence[Mapping[str, str]],
    figures: Sequence[Mapping[str, str]],
    evaluations: Sequence[str],
    benchmarks: str,
    settings: Mapping[str, Any],
    sources: Sequence[str],
    output: str,
    details: Sequence[str] = (),
    claims: str | None = None,
) -> None:
    """Write `output` (HTML, pictures inside).

    tables: items with title, csv, and caption (text) or markdown (the table's twin, whose caption
    is taken); figures: items with title, caption, png; evaluations: evaluation.json files, linked
    relative to output; benchmarks: folder of Snakemake's TSV files, a subfolder a rule; settings:
    as merged, shown by section; sources: files scanned for PAPER and ASSUME tags; details: further
    JSON files to link (trainings, metrics); claims: the CSV of judge_claims.
    """
    folder = Path(output).parent
    found = read_evaluations(evaluations)
    shown = [report.show_table(table, folder) for table in tables]
    times = report.sum_benchmarks(report.find_benchmarks(benchmarks))
    page = report.render(
        title=title,
        summary=[
            {"title": table["title"], "parts": report.summarise(table["summary"])}
            for table in shown
            if table["summary"] is not None
        ],
        caution=report.CAUTION,
        runs=report.describe_runs(found),
        tables=shown,
        figures=[report.show_figure(figure) for figure in figures],
        evaluations=report.list_evaluations(found, evaluations, folder),
        details=report.list_details(details, folder),
        times=report.show_times(times).to_numpy().tolist(),
        total=f"{times['seconds'].sum():,.0f}",
        settings=report.lay_out_settings(settings),
        tags=report.gather_tags(sources),
        claims=report.show_claims(claims, folder) if claims else None,
    )
    write_text(output, page)


if "snakemake" in globals():
    run(write_report, snakemake)
