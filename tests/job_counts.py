"""What Snakemake says it would run."""

import json
import re


def planned(output: str) -> dict[str, int]:
    """Rules and numbers of jobs of a dry run, with their sum as `total`."""
    table = output.split("\ncount")[-1] if "\ncount" in output else output
    found = dict(re.findall(r"^(\w+)\s+(\d+)$", table, flags=re.MULTILINE))
    return {rule: int(count) for rule, count in found.items()}


def jobs_of(workflow, *arguments):
    """Jobs of a dry run by rule, as Snakemake's events tell them."""
    events = workflow.folder.parent / "events.jsonl"
    logger = ("--logger", "jobs", "--logger-jobs-file", str(events))
    path = str(workflow.folder / "scripts")  # where the plugin lies
    done = workflow.run("-n", "--cores", "1", *logger, *arguments, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout[-3000:]
    found = {}
    for event in map(json.loads, events.read_text(encoding="utf-8").splitlines()):
        if event["event"] == "job_info":
            found.setdefault(event["rule_name"], []).append(event)
    counts = {rule: len(jobs) for rule, jobs in found.items()}
    assert planned(done.stdout) == counts | {"total": sum(counts.values())}
    return found
