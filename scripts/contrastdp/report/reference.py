"""The README's part that is rendered from the record of one run in results/reference."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from contrastdp.errors import InputError
from contrastdp.files import read_json
from contrastdp.frames import number, read_table, text, whole
from contrastdp.report import markup, tables

BEGIN = "<!-- rendered from results/reference: snakemake reference -->"
END = "<!-- end of the rendered part -->"
TIMES = text("rule") | whole("jobs") | number("seconds") | whole("memory_mib")
LONG = 0.01  # share of all seconds from which a stage has a row of its own


def render_record(folder: str | Path) -> str:
    """The table and the stages' times of a recorded run, as Markdown; short stages are one row.

    folder: holds robustness.csv, evaluations.json, times.csv and machine.json.
    """
    folder = Path(folder)
    accuracy = read_table(folder / "robustness.csv", tables.COLUMNS)
    evaluations = {(e["arm"], e["seed"]): e for e in read_json(folder / "evaluations.json")}
    shown = tables.markdown_table(accuracy, tables.caption(evaluations, accuracy))
    machine = read_json(folder / "machine.json")
    times = read_table(folder / "times.csv", TIMES)[["rule", "jobs", "seconds"]]
    long = times["seconds"] >= LONG * times["seconds"].sum()
    stages = [times[long].assign(rule="`" + times["rule"] + "`")]
    stages += [_summed(f"{sum(~long)} others", times[~long])] if not long.all() else []
    stages = pd.concat([*stages, _summed("sum", times)])
    stages["seconds"] = stages["seconds"].map("{:.0f}".format)
    stages.columns = ["Stage", "Jobs", "Seconds"]
    place = (
        f"Measured on {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, without a GPU; jobs use one thread and run side by side:"
    )
    laid = markup.markdown(stages, ("Jobs", "Seconds")).strip()
    return "\n".join([shown.strip(), "", place, "", laid])


def _summed(name: str, times: pd.DataFrame) -> pd.DataFrame:
    sums = {key: [times[key].sum()] for key in ("jobs", "seconds")}
    return pd.DataFrame({"rule": [name]} | sums)


def between_marks(text: str, part: str, where: str) -> str:
    """`text` with `part` between its two marks; InputError where a mark is missing."""
    before, found_begin, rest = text.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not (found_begin and found_end):
        raise InputError(f"{where}: lacks the lines '{BEGIN}' and '{END}'; put them back")
    return f"{before}{BEGIN}\n\n{part}\n\n{END}{after}"


def split_shared(
    results: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What all results say alike, once, and a row of the rest of each; nothing is lost.

    results: nested mappings. Keys of the result lead to the value, joined by dots; a list in a row
    is text, as JSON; a row has None where its result lacks the key.
    """
    flat = [_flattened(result) for result in results]
    keys = list(dict.fromkeys(key for result in flat for key in result))
    shared = {
        key: flat[0][key]
        for key in keys
        if all(key in result and result[key] == flat[0][key] for result in flat)
    }
    rows = []
    for result in flat:
        rest = {key: result.get(key) for key in keys if key not in shared}
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


def times_of(rules: pd.DataFrame) -> pd.DataFrame:
    """Rule, jobs, seconds and peak memory (MiB) of each rule, in TIMES, the longest first.

    rules: of page.sum_benchmarks.
    """
    ordered = rules.sort_values("seconds", ascending=False, kind="stable", ignore_index=True)
    ordered["memory_mib"] = ordered["memory"].fillna(0).round()
    return ordered.round({"seconds": 1})[list(TIMES)].astype(TIMES)
