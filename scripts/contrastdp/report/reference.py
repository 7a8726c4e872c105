"""The README's part that is rendered from the record of one run in results/reference."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contrastdp.errors import InputError
from contrastdp.files import read_csv, read_json
from contrastdp.report import tables

BEGIN = "<!-- rendered from results/reference: snakemake reference -->"
END = "<!-- end of the rendered part -->"
LONG = 0.01  # share of all seconds from which a stage has a row of its own


def render_record(folder: str | Path) -> str:
    """The table and the stages' times of a recorded run, as Markdown; short stages are one row.

    folder: holds robustness.csv, evaluations.json, times.csv and machine.json.
    """
    folder = Path(folder)
    rows = tables.read_table(folder / "robustness.csv")
    evaluations = {(e["arm"], e["seed"]): e for e in read_json(folder / "evaluations.json")}
    table = tables.markdown_table(rows, tables.caption(evaluations, rows))
    machine = read_json(folder / "machine.json")
    times = [
        (f"`{t['rule']}`", int(t["jobs"]), float(t["seconds"]))
        for t in read_csv(folder / "times.csv")
    ]
    total = sum(seconds for *_, seconds in times)
    long = [time for time in times if time[2] >= LONG * total]
    short = [time for time in times if time[2] < LONG * total]
    if short:
        long.append(_summed(f"{len(short)} others", short))
    lines = ["| Stage | Jobs | Seconds |", "| --- | ---: | ---: |"]
    for name, jobs, seconds in [*long, _summed("sum", times)]:
        lines.append(f"| {name} | {jobs} | {seconds:.0f} |")
    place = (
        f"Measured on {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, without a GPU; jobs use one thread and run side by side:"
    )
    return "\n".join([table.strip(), "", place, "", *lines])


def _summed(name: str, times: Sequence[tuple[str, int, float]]) -> tuple[str, int, float]:
    return name, sum(jobs for _, jobs, _ in times), sum(seconds for *_, seconds in times)


def between_marks(text: str, part: str, where: str) -> str:
    """`text` with `part` between its two marks; InputError where a mark is missing."""
    before, found_begin, rest = text.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not (found_begin and found_end):
        raise InputError(f"{where}: lacks the lines '{BEGIN}' and '{END}'; put them back")
    return f"{before}{BEGIN}\n\n{part}\n\n{END}{after}"


def split_shared(
    records: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What all records say alike, once, and a row of the rest of each; nothing is lost.

    records: nested mappings. Keys of the result lead to the value, joined by dots; a list in a row
    is text, as JSON; a row has None where its record lacks the key.
    """
    flat = [_flattened(record) for record in records]
    keys = list(dict.fromkeys(key for record in flat for key in record))
    shared = {
        key: flat[0][key]
        for key in keys
        if all(key in record and record[key] == flat[0][key] for record in flat)
    }
    rows = []
    for record in flat:
        rest = {key: record.get(key) for key in keys if key not in shared}
        rows.append({k: json.dumps(v) if isinstance(v, list) else v for k, v in rest.items()})
    return shared, rows


def _flattened(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            found |= _flattened(inner, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = inner
    return found


def times_of(rules: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rule, jobs, seconds and peak memory (MiB) of each rule, the longest first."""
    ordered = sorted(rules, key=lambda rule: -rule["seconds"])
    return [
        {
            "rule": rule["rule"],
            "jobs": rule["jobs"],
            "seconds": round(rule["seconds"], 1),
            "memory_mib": round(rule["memory"] or 0),
        }
        for rule in ordered
    ]
