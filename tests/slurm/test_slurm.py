"""The smoke scale on a real SLURM through profiles/slurm, injured: same files as a local run.

One arm of it, from the data to a table, which passes every kind of job of an arm once, or, by
`make slurm-test ARGS=--whole`, all of it. On the way a training is cancelled, another runs into its
time limit, a job out of memory, one is preempted, a node is lost, and the controller is killed.
"""

import re

import pytest
import yaml
from injured_run import DIFFUSION, LABELER, LIMIT, RESULTS, SLURM, Injuries, Run
from slurm_cluster import wait_for

from contrastdp.files import read_csv

TARGETS = {"one arm": f"{RESULTS}/tables/robustness.csv", "whole": "all"}


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


# ---------------------------------------------------------------- one run, injured
@pytest.fixture(scope="module")
def runs(cluster, whole, workflow_copy, tmp_path_factory):
    """A local run, the run on the cluster beside it, and what was done to that one."""
    copies = [workflow_copy(tmp_path_factory.mktemp(name)) for name in ("local", "slurm")]
    if not whole:
        for copy in copies:
            keep_one_arm(copy)
    starve_labels(copies[1])
    targets = [TARGETS["whole" if whole else "one arm"]]
    local = Run(copies[0], targets, "--cores", "1")
    settings = ["resume={minutes: 0}"]
    injured = Run(copies[1], targets, *SLURM, settings=settings, environment=cluster.environment)
    injuries = Injuries(cluster, injured)
    try:
        injuries.end_trainings()
        injuries.kill_controller()
        injuries.lose_node()
        injuries.preempt()
        injuries.until(injured.ended)
        injuries.jobs["memory"] = injuries.job_of("label_images", "FAILED")
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
    assert None not in injuries.jobs.values()
    again = injured.again()
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout


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
        if name.parts[0] not in ("logs", "benchmarks")
        if not any(part.startswith(".") for part in name.parts)
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
    log = runs[2].log_of(training)
    assert re.search(r"goes on after step [1-9]\d*, from ", log), log


def test_a_job_out_of_memory_and_one_out_of_time_get_more(runs):
    _, injured, injuries = runs
    logs = (injured.folder / ".snakemake" / "slurm_logs").rglob(f"{injuries.jobs['memory']}.log")
    assert "exceeded memory limit" in next(logs).read_text(encoding="utf-8")
    retried = injuries.cluster.jobs()
    assert retried[injuries.job_of("label_images", "COMPLETED")].memory == "16000M"
    assert "16:00:00" in [job.time_limit for job in retried.values() if "labeler" in job.name]


@pytest.mark.parametrize("injury", ["controller", "node lost", "preempted"])
def test_a_job_outlives_what_is_not_its_fault(runs, injury):
    """Under its own number: SLURM sends it again, and it costs none of the retries."""
    injuries = runs[2]
    assert injuries.state(injury) == "COMPLETED"
    shown = injuries.cluster.order("scontrol", "show", "job", injuries.jobs[injury])
    assert f" Restarts={int(injury != 'controller')} " in shown
