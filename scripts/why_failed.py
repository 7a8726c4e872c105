"""Why did the last run fail? Each failed job with its log, and the command that runs it alone.

Reads what Snakemake told the plugin snakemake_logger_plugin_jobs, with the standard library alone;
docs/cluster.md shows it.
"""

import argparse
import json
import re
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path

STATUS = re.compile(r"SLURM status is: '(\w+)'")  # no field of an event has it
KEPT = re.compile(r"-C|--config(files?)?|-s|--snakefile")


def newest_run(folder):
    """Snakemake's log of the newest run that came to its jobs, and its events."""
    for path in sorted(Path(folder).glob("*.snakemake.log.jsonl"), reverse=True)[:1]:
        *lines, _ = path.read_text(encoding="utf-8").split("\n")  # the last may be half written
        return path.with_suffix(""), [json.loads(line) for line in lines]
    raise SystemExit(f"why_failed: {folder} holds no log of a run; call it where snakemake ran")


def failed_jobs(events):
    """The events of each job that failed and that no later attempt finished, as one dict."""
    known, failed, groups = {}, {}, {}
    for event in events:
        number = event.get("jobid")
        if event["event"] == "job_info":
            known[number] = event
        elif event["event"] == "group_error":  # an event of each member follows
            slurm = {"group_logs": event["aux_logs"], "number": event.get("external_jobid")}
            groups |= {member["jobid"]: slurm for member in event["job_error_info"]}
        elif event["event"] == "job_error":
            own = {"number": event["aux"].get("external_jobid"), "group_logs": []}
            failed[number] = known.get(number, {}) | event | groups.get(number, own)
        elif event["event"] == "job_finished":
            failed.pop(event["job_id"], None)
    return list(failed.values())


def settings(words):
    """The --config, --configfile and --snakefile of a command, quoted anew."""
    found, inside = [], False
    for word in words:
        option, _, value = word.partition("=")
        if word.startswith("-"):
            inside = KEPT.fullmatch(option)
            found += [part for part in (option, value) if part and inside]
        elif inside:
            found.append(word)
    return shlex.join(found)


def rerun(job, words):
    """The command that runs this job alone, here and now, in the foreground."""
    own = ".venv/bin/python -m " if Path(".venv/bin/python").exists() else ""
    start = f"{own}snakemake --executor local --cores {job.get('threads', 1)} --force"
    start, target = f"{start} --allowed-rules {job['rule_name']}", job["output"][0]
    return " ".join(filter(None, [start, settings(words), "--", shlex.quote(target)]))


def tail(path, lines):
    """The last lines of a log, indented; what is wrong with it where there are none."""
    found = ["(never written: the job did not start, or its log is gone)"]
    with suppress(OSError):
        found = Path(path).read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    return [f"    {line}" for line in found[-lines:]] or ["    (empty)"]


def state(number):
    """What the controller says of a SLURM job, or what the accounting does."""
    asked = f"squeue -h --states=all -o %T -j {number} || sacct -Xn -P -o State -j {number}"
    said = subprocess.run(asked, shell=True, capture_output=True, encoding="utf-8").stdout
    return said.partition("\n")[0] or "neither squeue nor sacct has its state"


def why_failed(folder, lines):
    """What the newest run of `folder` (.snakemake/log) says about its failed jobs, as text."""
    path, (command, *events) = newest_run(folder)
    jobs = failed_jobs(events)
    shown = [f"{path}: {len(jobs)} failed job(s)"]
    for job in jobs:
        wildcards = ", ".join(f"{name}={value}" for name, value in job.get("wildcards", {}).items())
        shown += ["", f"{job['rule_name']}  {wildcards}".rstrip()]
        message = " ".join((job["rule_msg"] or "").split())
        if (status := STATUS.search(message)) or (job["number"] and not message):
            shown.append(
                f"  SLURM job {job['number']}: {status[1] if status else state(job['number'])}"
            )
        elif message:
            shown.append(f"  {message.partition(' sbatch call:')[0]}")
        for log in job["log"] + job["group_logs"]:
            shown += [f"  {log}", *tail(log, lines)]
        shown.append(f"  again: {rerun(job, command['words'])}")
    return "\n".join(shown)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", default=".snakemake/log", help="where Snakemake keeps logs")
    parser.add_argument("--lines", type=int, default=15, help="of each log")
    print(why_failed(**vars(parser.parse_args())))
