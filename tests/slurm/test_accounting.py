"""profiles/slurm where SLURM keeps accounts: what a site fills in reaches each job, and the states
of jobs are seen as they are without.
"""

import re

import pytest
from injured_run import DIFFUSION, LABELER, RESULTS, SLURM, Injuries, Run
from slurm_cluster import ACCOUNT, wait_for

ACCOUNTING = True  # of the fixture `cluster`
DATA = f"{RESULTS}/digits/data/train.npz"
TRAININGS = [f"{RESULTS}/{LABELER[0]}/model.safetensors", f"{RESULTS}/{DIFFUSION[0]}/model"]


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
    """A run of two trainings, one cancelled and one over its time; and what was done to them."""
    workflow = workflow_copy(tmp_path_factory.mktemp("accounting"))
    fill_in(workflow)
    settings = ["resume={minutes: 0}"]
    run = Run(workflow, TRAININGS, *SLURM, settings=settings, environment=cluster.environment)
    injuries = Injuries(cluster, run)
    try:
        injuries.end_trainings()
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
    for injury, state in (("cancelled", "CANCELLED"), ("time limit", "TIMEOUT")):
        found, page = injured.pages[injured.jobs[injury]]
        assert found == state
        assert f"SLURM job {injured.jobs[injury]}: {state}\n" in page


def test_states_are_asked_of_the_controller(injured):
    """sacct says 'CANCELLED by 0', which the plugin does not know and waits for ever."""
    assert "Falling back to 'sacct'" not in injured.run.output()
    assert accounted(injured.cluster)[injured.jobs["cancelled"]][0].startswith("CANCELLED by ")


def test_each_job_has_what_the_site_filled_in(injured):
    jobs = accounted(injured.cluster)
    assert len(jobs) == 5  # the data, two trainings, two retries
    assert {(account, partition) for _, account, partition, _ in jobs.values()} == {
        (ACCOUNT, "main")
    }
    assert sum("gres/gpu=1" in resources for *_, resources in jobs.values()) == 4
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
