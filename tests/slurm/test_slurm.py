"""The smoke scale on a real SLURM through profiles/slurm, injured: same files as a local run.

One arm of it, from the data to a table, which passes every kind of job of an arm once, or, by
`make slurm-test ARGS=--whole`, all of it. On the way a training is cancelled, another runs into its
time limit, a job out of memory, and the controller is killed.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from slurm_cluster import wait_for

from contrastdp.records import read_csv

LIMIT = 3000  # seconds; one arm took 1,300 on two cores that a dozen processes shared
RESULTS = "results/smoke"
TARGETS = {"one arm": f"{RESULTS}/tables/robustness.csv", "whole": "all"}
SETTINGS = [
    "scale=smoke",
    'attack={"shard": 50, "last": false}',
    # A second or two, so that half-way can be hit
    'classifiers={"labeler": {"steps": 200}}',
    'denoisers={"unconditional": {"training": {"steps": 200}}}',
]
SLURM = ["--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "3"]
# Two trainings: where their states lie, and their logs
LABELER = ("digits/classifier/labeler/n60/seed0", "train_classifier/digits/labeler/n60/seed0.log")
DIFFUSION = (
    "digits/diffusion/unconditional/n60/seed0",
    "train_diffusion/digits/unconditional/n60/seed0.log",
)
FAILED = re.compile(r"SLURM-job '(\d+)' failed, SLURM status is: '(\w+)'")


def keep_one_arm(workflow):
    """Leave `ddim` alone in the table of the target; another table takes the other arms."""
    path = workflow.folder / "config" / "arms.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()
    for place, line in enumerate(lines):
        if line.startswith("smoke\t") and not line.startswith("smoke\tddim\t"):
            line = line.replace("robustness ablations", "ablations")
            lines[place] = line.replace("\trobustness\t", "\tsearch\t")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def starve_labels(workflow):
    """Too little memory for label_images at the first attempt."""
    path = workflow.folder / "profiles" / "slurm" / "config.yaml"
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    labels = profile["set-resources"]["label_images"]
    labels["mem_mb"] = f"100 if attempt == 1 else {labels['mem_mb']}"
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")


class Run:
    """A run of Snakemake in a session of its own, its output in a file beside the copy."""

    def __init__(self, workflow, target, *arguments, settings=(), environment=None):
        self.folder = workflow.folder
        self.command = [sys.executable, "-m", "snakemake", *arguments]
        self.command += ["--config", *SETTINGS, *settings, "--", target]
        self.environment = workflow.environment | (environment or {})
        self.said = self.folder.parent / "output.txt"
        with self.said.open("wb") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def ended(self):
        return self.process.poll() is not None

    def output(self):
        return self.said.read_text(encoding="utf-8", errors="replace")

    def kill(self):
        if not self.ended():
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def again(self):
        """The same command a second time."""
        return subprocess.run(
            self.command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )


class Injuries:
    """What is done to a run on a cluster, and what why_failed says of it meanwhile.

    jobs: SLURM's ids by injury; pages: by id of a failed job, state and page of why_failed.
    """

    def __init__(self, cluster, run):
        self.cluster, self.run, self.jobs, self.pages = cluster, run, {}, {}
        self.end = time.monotonic() + LIMIT

    def until(self, condition, every=0.2):
        """Wait for `condition`, with an eye on what fails; fails where the run ends before."""
        while not condition():
            self.look()
            over = self.run.ended() or time.monotonic() > self.end
            if over and not condition():
                pytest.fail(f"the run ended or takes too long:\n{self.run.output()[-6000:]}")
            time.sleep(every)

    def look(self):
        """Ask why_failed about each failure while it is news: a retry ends it."""
        for number, state in FAILED.findall(self.run.output()):
            if number not in self.pages:
                asked = subprocess.run(
                    [sys.executable, "scripts/why_failed.py", "--lines", "20"],
                    cwd=self.run.folder,
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
                if f"SLURM job {number}: " in asked.stdout:
                    self.pages[number] = (state, asked.stdout)

    def inflict(self):
        """One injury after the other; returns when the run has ended."""
        waiting = {"time limit": LABELER, "cancelled": DIFFUSION}
        while waiting:
            self.until(lambda: any(map(self.is_half_way, waiting.values())), every=0.02)
            for name in [name for name, what in waiting.items() if self.is_half_way(what)]:
                self.jobs[name] = self.freeze(waiting.pop(name))
        self.order("scancel", self.jobs["cancelled"])
        # A limit of its own would cost more than a minute here, and on a slow machine be too short.
        self.order("scontrol", "update", f"JobId={self.jobs['time limit']}", "EndTime=now+1")
        self.until(lambda: self.job_of("sample_images", "RUNNING"))
        self.jobs["controller"] = self.job_of("sample_images", "RUNNING")
        seen = time.time()
        self.until(lambda: self.cluster.saved() > seen)
        self.cluster.kill_controller()
        self.cluster.start_controller()
        self.until(self.run.ended)
        self.jobs["memory"] = self.job_of("label_images", "FAILED")

    def order(self, *command):
        done = self.cluster.run(*command)
        assert done.returncode == 0, done.stderr

    def is_half_way(self, training):
        """Whether the training has kept a state; it removes it at its end."""
        return any((self.run.folder / RESULTS / training[0]).glob(".*.resume.pt"))

    def freeze(self, training):
        """Stop the process that writes the training's log, as if it hung; returns its job's id.

        It wakes up when SLURM ends the job, which continues it, then sends SIGTERM.
        """
        log = str(self.run.folder / RESULTS / "logs" / training[1])
        process = next((n for n in self.cluster.processes() if log in open_files(n)), None)
        assert process, f"{log}: the training was over before it could be frozen"
        os.kill(process, signal.SIGSTOP)
        environment = Path(f"/proc/{process}/environ").read_text(errors="replace").split("\0")
        return dict(pair.split("=", 1) for pair in environment if "=" in pair)["SLURM_JOB_ID"]

    def job_of(self, rule, state):
        """Id of a job of this rule in this state; None where there is none."""
        for number, job in self.cluster.jobs().items():
            if job.state == state and job.name.startswith(f"rule_{rule}_"):
                return number
        return None


def open_files(process):
    """Files that a process has open; none where it is gone."""
    try:
        return [os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir()]
    except OSError:
        return []


# ---------------------------------------------------------------- one run, injured
@pytest.fixture(scope="module")
def runs(cluster, whole, workflow_copy, tmp_path_factory):
    """A local run, the run on the cluster beside it, and what was done to that one."""
    copies = [workflow_copy(tmp_path_factory.mktemp(name)) for name in ("local", "slurm")]
    if not whole:
        for copy in copies:
            keep_one_arm(copy)
    starve_labels(copies[1])
    target = TARGETS["whole" if whole else "one arm"]
    local = Run(copies[0], target, "--cores", "1")
    settings = ["resume={minutes: 0}"]
    injured = Run(copies[1], target, *SLURM, settings=settings, environment=cluster.environment)
    injuries = Injuries(cluster, injured)
    try:
        injuries.inflict()
        wait_for(local.ended, "the local run", LIMIT)
    finally:
        local.kill()
        injured.kill()
    assert local.process.returncode == 0, local.output()[-6000:]
    return local, injured, injuries


def test_the_run_ends_well_by_its_own_retries(runs):
    _, injured, injuries = runs
    assert injured.process.returncode == 0, injured.output()[-6000:]
    assert {"time limit", "cancelled", "memory"} <= injuries.jobs.keys()
    again = injured.again()
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


def test_its_files_are_those_of_the_local_run(runs):
    local, injured, _ = runs
    names, compared = ([result_files(run.folder) for run in (local, injured)], 0)
    assert names[0] == names[1]
    for name in names[0]:
        one, other = (run.folder / RESULTS / name for run in (local, injured))
        if name.endswith("history.csv"):
            assert without_seconds(one) == without_seconds(other), name
        elif not name.endswith((".json", "report.html")):  # those have times in them
            assert one.read_bytes() == other.read_bytes(), name
            compared += 1
    assert compared >= 15
    assert {name.rpartition(".")[2] for name in names[0]} >= {"npz", "safetensors", "csv", "tex"}


def result_files(folder):
    found = (path.relative_to(folder / RESULTS) for path in (folder / RESULTS).rglob("*.*"))
    return sorted(
        str(name)
        for name in found
        if name.parts[0] not in ("logs", "benchmarks") and not name.name.startswith(".")
    )


def without_seconds(path):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_csv(path)]


@pytest.mark.parametrize(
    ("injury", "state"),
    [("time limit", "TIMEOUT"), ("cancelled", "CANCELLED"), ("memory", "FAILED")],
)
def test_why_failed_tells_the_jobs_number_and_state(runs, injury, state):
    injuries = runs[2]
    found, page = injuries.pages[injuries.jobs[injury]]
    assert found == state
    assert f"SLURM job {injuries.jobs[injury]}: {state}\n" in page


@pytest.mark.parametrize("training", [LABELER, DIFFUSION])
def test_an_ended_training_goes_on_where_it_was(runs, training):
    log = (runs[1].folder / RESULTS / "logs" / training[1]).read_text(encoding="utf-8")
    assert re.search(r"goes on after step [1-9]\d*, from ", log), log


def test_a_job_out_of_memory_and_one_out_of_time_get_more(runs):
    _, injured, injuries = runs
    logs = (injured.folder / ".snakemake" / "slurm_logs").rglob(f"{injuries.jobs['memory']}.log")
    assert "exceeded memory limit" in next(logs).read_text(encoding="utf-8")
    retried = injuries.cluster.jobs()
    assert retried[injuries.job_of("label_images", "COMPLETED")].memory == "16000M"
    assert "16:00:00" in [job.time_limit for job in retried.values() if "labeler" in job.name]


def test_a_job_outlives_the_controller(runs):
    injuries = runs[2]
    assert injuries.cluster.jobs()[injuries.jobs["controller"]].state == "COMPLETED"
