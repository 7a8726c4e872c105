"""profiles/slurm where SLURM keeps accounts: what a site fills in reaches each job, and the states
of jobs are seen as they are without. And where a preempted job is granted a grace.
"""

import re

import pytest
from injured_run import LABELER, RESULTS, SLURM, Injuries, Run
from slurm_cluster import ACCOUNT, wait_for

CLUSTER = {"accounting": True, "grace": 300}  # of the fixture `cluster`
DATA = f"{RESULTS}/digits/data/train.npz"
TRAINING = f"{RESULTS}/{LABELER[0]}/model.safetensors"


def fill_in(workflow, account=ACCOUNT):
    """Take the lines of the profile that a site uncomments, with this cluster's names."""
    path = workflow.folder / "profiles" / "slurm" / "config.yaml"
    text, lines = re.subn(
        r"^#(  - slurm_(?:partition|account|extra)=)", r"\1", path.read_text("utf-8"), flags=re.M
    )
    assert lines == 3
    text = text.replace("slurm_partition=gpu", "slurm_partition=main")
    path.write_text(text.replace("slurm_account=my_project", f"slurm_account={account}"), "utf-8")


def finished(run, seconds=600):
    try:
        wait_for(run.ended, "the run", seconds)
    finally:
        run.kill()
    return run.process.returncode


@pytest.fixture(scope="module")
def injured(cluster, workflow_copy, tmp_path_factory):
    """A training that is cancelled, goes on, is preempted, and goes on; and what was done to it."""
    workflow = workflow_copy(tmp_path_factory.mktemp("accounting"))
    fill_in(workflow)
    settings = ["resume={minutes: 0}"]
    run = Run(workflow, [TRAINING], *SLURM, settings=settings, environment=cluster.environment)
    injuries = Injuries(cluster, run)
    try:
        injuries.cancel_then_preempt_with_grace()
        injuries.until(run.ended)
    finally:
        run.kill()
    return injuries


def accounted(cluster):
    """State, account and partition of each job, by id, as the database has them."""
    lines = cluster.order(
        *("sacct", "-X", "-n", "-P", "-o", "JobIDRaw,State,Account,Partition,AllocTRES")
    )
    return {line.split("|")[0]: line.split("|")[1:] for line in lines.splitlines()}


def test_the_run_ends_well_and_tells_what_failed(injured):
    assert injured.run.process.returncode == 0, injured.run.output()[-6000:]
    for injury, state in (("cancelled", "CANCELLED"), ("grace", "FAILED")):
        found, page = injured.pages[injured.jobs[injury]]
        assert found == state
        assert f"SLURM job {injured.jobs[injury]}: {state}\n" in page


def test_states_are_asked_of_the_controller(injured):
    """sacct says 'CANCELLED by 0', which the plugin does not know and waits for ever."""
    assert "Falling back to 'sacct'" not in injured.run.output()
    assert accounted(injured.cluster)[injured.jobs["cancelled"]][0].startswith("CANCELLED by ")


def test_a_preempted_training_uses_its_grace_to_keep_its_state(injured):
    logs = (injured.run.folder / ".snakemake" / "slurm_logs").rglob(f"{injured.jobs['grace']}.log")
    assert re.search(r"told to stop after step \d+ \(SIGTERM\); .* holds", next(logs).read_text())
    assert "goes on after step" in injured.log_of(LABELER)


def test_each_job_has_what_the_site_filled_in(injured):
    jobs = {n: found for n, found in accounted(injured.cluster).items() if found[2] != "urgent"}
    assert len(jobs) == 4  # the data, the training, two retries
    assert {tuple(found[1:3]) for found in jobs.values()} == {(ACCOUNT, "main")}
    assert sum("gres/gpu=1" in resources for *_, resources in jobs.values()) == 3
    for number in jobs:
        assert " MailType=FAIL" in injured.cluster.order("scontrol", "show", "job", number)


def test_without_an_account_in_the_profile_a_job_has_the_users(cluster, workflow_copy, tmp_path):
    before = accounted(cluster).keys()
    run = Run(workflow_copy(tmp_path), [DATA], *SLURM, environment=cluster.environment)
    assert finished(run) == 0, run.output()[-6000:]
    jobs = accounted(cluster)
    (job,) = jobs.keys() - before
    assert jobs[job][1] == ACCOUNT


def test_an_unknown_account_ends_the_run_with_its_name(cluster, workflow_copy, tmp_path):
    workflow = workflow_copy(tmp_path)
    fill_in(workflow, account="nobodys")
    run = Run(workflow, [DATA], *SLURM, environment=cluster.environment)
    assert finished(run) != 0
    assert re.search(r"account.*nobodys|nobodys.*account", run.output()), run.output()[-6000:]
    assert not (workflow.folder / DATA).exists()
