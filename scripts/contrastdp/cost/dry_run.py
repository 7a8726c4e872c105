"""The jobs of Snakemake's dry run, by its logger plugin."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import contrastdp
from contrastdp.errors import InputError

# Snakemake finds a plugin that is a package on sys.path.
PLUGINS = Path(contrastdp.__file__).parents[1]
SNAKEMAKE = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from snakemake.cli import main; main()"
)


def planned(arguments: Sequence[str], *, folder: Path) -> list[tuple[str, dict[str, str] | None]]:
    """(rule, wildcards) of each job of `snakemake -n`; None of a target, which has no file.

    arguments: of Snakemake; folder: where it is called. Where it fails, writes what it said to
    standard error and raises InputError.
    """
    with tempfile.TemporaryDirectory() as place:
        events = f"{place}/events.jsonl"
        command = [sys.executable, "-c", SNAKEMAKE, str(PLUGINS), *arguments]
        command += ["--dry-run", "--cores", "1", "--logger", "jobs", "--logger-jobs-file", events]
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode:
            sys.stderr.write(done.stdout + done.stderr)
            raise InputError("the dry run failed; the lines above say why")
        lines = Path(events).read_text(encoding="utf-8").splitlines()
    jobs = [event for event in map(json.loads, lines) if event["event"] == "job_info"]
    return [(job["rule_name"], job["wildcards"] if job["output"] else None) for job in jobs]
