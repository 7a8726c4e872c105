"""Why did the last run fail? Each failed job with its log, and the command that runs it alone.

Reads the logs that Snakemake keeps, with the standard library alone; docs/cluster.md shows it.
"""

import argparse
import re
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path

ERROR = re.compile(r" *Error in rule (\w+):$")
JOB = re.compile(r" *(?:local)?(?:rule|checkpoint) (\w+):$")
FIELD = re.compile(r" +([a-z_-]+): (.*)$")
SLURM = re.compile(r"SLURM-job '(\w+)' failed(?:.*?status is: '(\w+)')?")
GROUP = re.compile(r"slurm_logs/\S+/(\d+)\.log()")  # of a group the log's name alone tells the job
SETTINGS = re.compile(r" (-C|--config(?:files?)?)[ =](.+?)(?= --?[a-z-]*(?:[ =]|$)|$)")


def newest_log(folder):
    """The newest log of a run that came to its jobs: of no dry run, and of no bad setting."""
    for path in sorted(Path(folder).glob("*.snakemake.log"), reverse=True):
        text = path.read_text(encoding="utf-8", errors="replace")
        if re.search(r"(?m)^(Select jobs to execute|Finished jobid|\s*Error in )", text):
            return path, text
    raise SystemExit(f"why_failed: {folder} holds no log of a run; call it where snakemake ran")


def own_lines(log):
    """Lines of a log without the logs that it quotes: they hold another Snakemake's jobs."""
    depth, opening = 0, False
    for line in log.splitlines():
        text = line.strip()  # what a group quotes is indented
        if re.match(r"={12,}$", text) and (opening or depth):
            depth += 1 if opening else -1
            opening = False
        elif depth == 0 or text.startswith("Logfile "):
            opening = text.startswith("Logfile ") and text.endswith(":")
            yield line if depth == 0 else ""


def failed_jobs(text):
    """A dict of fields for each job that failed and that no later attempt finished."""
    known, failed, group, job, is_error = {}, {}, {}, None, False
    for line in own_lines(text):
        error, info, field = ERROR.match(line), JOB.match(line), FIELD.match(line)
        if error or info:
            job, is_error = {"rule": (error or info)[1]}, bool(error)
            if error and line.startswith(" "):  # a member of a group, whose own fields came first
                job |= {"group_log": group.get("log", "")}
        elif field:
            name, value = field[1], field[2].removesuffix(" (check log file(s) for error details)")
            (group if job is None else job)[name] = value
            if name == "jobid" and job is not None:
                failed.update({value: job}) if is_error else known.setdefault(value, job)
        elif job and is_error and "jobid" not in job:  # more of its message
            job["message"] += f" {line.strip()}"
        elif line.strip() != "jobs:":
            job = None
            if finished := re.match(r"Finished jobid: (\d+)", line):
                failed.pop(finished[1], None)
    return [known.get(number, {}) | found for number, found in failed.items()]


def settings(text):
    """The run's --config and --configfile, quoted anew: its log holds them without quotes."""
    command = next((line for line in text.splitlines() if line.startswith("  Command: ")), "")
    found = []
    for option, values in SETTINGS.findall(command):
        found += [option, *re.split(" " if "file" in option else r" (?=\w+=)", values)]
    return shlex.join(found)


def rerun(job, text):
    """The command that runs this job alone, here and now, in the foreground."""
    own = ".venv/bin/python -m " if Path(".venv/bin/python").exists() else ""
    start = f"{own}snakemake --executor local --cores {job.get('threads', 1)} --force"
    start, target = f"{start} --allowed-rules {job['rule']}", job["output"].split(", ")[0]
    return " ".join(filter(None, [start, settings(text), "--", shlex.quote(target)]))


def tail(path, lines):
    """The last lines of a log, indented; what is wrong with it where there are none."""
    found = ["(never written: the job did not start, or its log is gone)"]
    with suppress(OSError):
        found = Path(path).read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    return [f"    {line}" for line in found[-lines:]] or ["    (empty)"]


def state(number):
    """What the controller says of a SLURM job, or what the accounting does."""
    asked = f"squeue -h --states=all -o %T -j {number} || sacct -Xn -P -o State -j {number}"
    said = subprocess.run(asked, shell=True, capture_output=True, text=True).stdout
    return said.partition("\n")[0] or "neither squeue nor sacct has its state"


def why_failed(folder, lines):
    """What the newest run of `folder` (.snakemake/log) says about its failed jobs, as text."""
    path, text = newest_log(folder)
    jobs = failed_jobs(text)
    shown = [f"{path}: {len(jobs)} failed job(s)"]
    for job in jobs:
        shown += ["", f"{job['rule']}  {job.get('wildcards', '')}".rstrip()]
        logs = f"{job.get('log', '')}, {job.get('group_log', '')}"
        if found := SLURM.search(job.get("message", "")) or GROUP.search(logs):
            shown.append(f"  SLURM job {found[1]}: {found[2] or state(found[1])}")
        elif job.get("message", "None") != "None":
            shown.append(f"  {job['message'].partition(' sbatch call:')[0]}")
        for log in filter(None, logs.split(", ")):
            shown += [f"  {log}", *tail(log, lines)]
        shown.append(f"  again: {rerun(job, text)}")
    return "\n".join(shown)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", default=".snakemake/log", help="where Snakemake keeps logs")
    parser.add_argument("--lines", type=int, default=15, help="of each log")
    print(why_failed(**vars(parser.parse_args())))
