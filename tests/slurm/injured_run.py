"""Runs of Snakemake on a cluster of the tests, and what is done to them."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LIMIT = 3000  # seconds; one arm took 1,300 on two cores that a dozen processes shared
RESULTS = "results/smoke"
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
SAMPLING_LOG = "sample_images/digits/ddim/n60/seed0/shard0.log"
FAILED = re.compile(r"SLURM-job '(\d+)' failed, SLURM status is: '(\w+)'")


class Run:
    """A run of Snakemake in a session of its own, its output in a file beside the copy."""

    def __init__(self, workflow, targets, *arguments, settings=(), environment=None):
        self.workflow, self.folder = workflow, workflow.folder
        self.arguments = [*arguments, "--config", *SETTINGS, *settings, "--", *targets]
        self.environment = environment or {}
        self.said = self.folder.parent / "output.txt"
        with self.said.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", *self.arguments],
                cwd=self.folder,
                env=workflow.environment | self.environment,
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
        return self.workflow.run(*self.arguments, timeout=LIMIT, **self.environment)


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
            dead = self.cluster.ended()
            if dead or (over and not condition()):
                what = f"no more {dead}" if dead else "the run ended or takes too long"
                pytest.fail(f"{what}:\n{self.run.output()[-6000:]}")
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

    def freeze_half_way(self, trainings):
        """Freeze the trainings, given by injury, each when it has kept a state."""
        waiting = dict(trainings)
        while waiting:
            self.until(lambda: any(map(self.is_half_way, waiting.values())), every=0.02)
            for name in [name for name, what in waiting.items() if self.is_half_way(what)]:
                self.jobs[name] = self.freeze(waiting.pop(name)[1])

    def end_trainings(self):
        """Cancel one training half-way, and let another run into its time limit."""
        self.freeze_half_way({"time limit": LABELER, "cancelled": DIFFUSION})
        self.cluster.order("scancel", self.jobs["cancelled"])
        # A limit of its own would cost more than a minute here, and on a slow machine be too short.
        self.update(self.jobs["time limit"], "EndTime=now+1")

    def kill_controller(self):
        """SIGKILL to slurmctld, once it has written down a job that runs, then a new one."""
        self.until(lambda: self.job_of("sample_images", "RUNNING"))
        seen = time.time()
        self.until(lambda: self.writing(SAMPLING_LOG), every=0.05)
        process = self.writing(SAMPLING_LOG)
        self.jobs["controller"] = self.freeze(SAMPLING_LOG)
        self.until(lambda: self.cluster.saved() > seen)
        self.cluster.kill_controller()
        self.cluster.start_controller()
        os.kill(process, signal.SIGCONT)

    def lose_node(self):
        """A node goes down under a robust training, and comes back later."""
        node = self.node_under("node lost", "train_robust")
        self.cluster.kill_node(node)
        self.until(lambda: self.state("node lost") == "PENDING")
        self.cluster.start_node(node)
        # SLURM 22.05's controller dies where the job starts again while its node comes back.
        self.until(lambda: "down" not in "".join(self.cluster.states()))
        time.sleep(5)
        self.update(self.jobs["node lost"], "StartTime=now")

    def preempt(self):
        """A job of a higher partition takes the node of an attack, which is sent back to wait."""
        self.take(self.node_under("preempted", "attack_shard"))
        self.until(lambda: self.state("preempted") == "PENDING")
        self.update(self.jobs["preempted"], "StartTime=now")

    def cancel_then_preempt_with_grace(self):
        """Cancel a training half-way, and take the node from it once it has gone on."""
        self.freeze_half_way({"cancelled": LABELER})
        self.cluster.order("scancel", self.jobs["cancelled"])
        self.until(lambda: "goes on after" in self.log_of(LABELER), every=0.02)
        self.jobs["grace"] = self.freeze(LABELER[1])
        self.take(self.cluster.jobs()[self.jobs["grace"]].node)

    def take(self, node):
        """Send a job that wants the whole node, of a partition that goes first."""
        order = f"--partition=urgent --exclusive --nodelist={node} --output=/dev/null --wrap=true"
        self.cluster.order("sbatch", *order.split())

    def node_under(self, injury, rule):
        """Wait for a job of the rule to run and take it for the injury; returns its node."""
        found = []
        self.until(lambda: found.append(self.job_of(rule, "RUNNING")) or found[-1])
        self.jobs[injury] = found[-1]
        return self.cluster.jobs()[found[-1]].node

    def state(self, injury):
        return self.cluster.jobs()[self.jobs[injury]].state

    def update(self, number, change):
        """Of a job. A requeued one waits for two minutes unless its start is set to now."""
        self.cluster.order("scontrol", "update", f"JobId={number}", change)

    def is_half_way(self, training):
        """Whether the training has kept a state; it removes it at its end."""
        return any((self.run.folder / RESULTS / training[0]).glob(".*.resume.pt"))

    def log_of(self, training):
        """The training's log; empty where there is none: Snakemake removes it before a retry."""
        try:
            return (self.run.folder / RESULTS / "logs" / training[1]).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def writing(self, log):
        """The process that writes this log; None where there is none."""
        path = str(self.run.folder / RESULTS / "logs" / log)
        return next((n for n in self.cluster.processes() if path in open_files(n)), None)

    def freeze(self, log):
        """Stop the process that writes the log, as if it hung; returns its job's id.

        It wakes up when SLURM ends the job, which continues it, then sends SIGTERM.
        """
        process = self.writing(log)
        assert process, f"{log}: the job was over before it could be frozen"
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
