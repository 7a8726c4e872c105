"""make plan, as a user calls it: its jobs are Snakemake's, and what it says of a bad file."""

import json
import re
import runpy
import shutil
import subprocess
import sys

import pytest
from job_counts import planned

from contrastdp.files import read_csv


@pytest.fixture(scope="module")
def plan_run(working_python, copied):
    """The program in a checkout in which nothing was run yet."""

    def run(*arguments):
        command = [working_python, "scripts/plan_run.py", *arguments]
        return subprocess.run(
            command, cwd=copied.folder, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="module")
def copied(workflow_copy, tmp_path_factory, root):
    """A checkout in which nothing was run yet, but that its record has the times of one."""
    workflow = workflow_copy(tmp_path_factory.mktemp("plan"))
    times_csv = "results/reference/times.csv"
    (workflow.folder / times_csv).parent.mkdir(parents=True)
    shutil.copy2(root / times_csv, workflow.folder / times_csv)
    return workflow


def test_its_jobs_are_those_of_the_dry_run(plan_run, copied):
    done = plan_run("--scale", "smoke", "evidence")
    assert done.returncode == 0, done.stderr
    shown = {rule: int(jobs) for rule, jobs in re.findall(r"^(\w+) +(\d+)  ", done.stdout, re.M)}
    dry = copied.run("-n", "--cores", "1", "evidence", "--config", "scale=smoke").stdout
    expected = planned(dry)
    assert shown.pop("sum") == expected.pop("total") > 20
    assert shown == expected
    assert "minutes if the likely sum holds" in done.stdout


def test_what_was_predicted_of_the_demo_is_within_30_percent_of_what_it_took(plan_run, root):
    """Of each rule whose jobs pass a network, a minute of them or more, and of their sum."""
    done = plan_run()
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\w+) +(\d+) +\S+ +(\S+) .*measured", done.stdout, re.M)
    predicted = {rule: (int(jobs), 60 * float(minutes)) for rule, jobs, minutes in rows}
    predicted.pop("sum")
    taken = {row["rule"]: row for row in read_csv(root / "results" / "reference" / "times.csv")}
    assert {"attack_shard", "attack_last", "train_robust", "train_diffusion"} <= predicted.keys()
    assert all(int(taken[rule]["jobs"]) == jobs for rule, (jobs, _) in predicted.items())
    found = {rule: (s, float(taken[rule]["seconds"])) for rule, (_, s) in predicted.items()}
    found["sum"] = tuple(map(sum, zip(*found.values(), strict=True)))
    for rule, (before, after) in found.items():
        assert after < 60 or abs(before / after - 1) < 0.3, (rule, before, after)


@pytest.mark.parametrize(
    ("throughput", "words"),
    [
        ({"device": "x"}, "no measured or assumed throughput"),
        (None, "missing.json"),
    ],
)
def test_no_throughput_is_told_in_one_line(root, tmp_path, monkeypatch, throughput, words):
    path = tmp_path / "missing.json"
    if throughput is not None:
        path.write_text(json.dumps(throughput), encoding="utf-8")
    given = ["plan_run", "--scale", "smoke", "--throughput", str(path), "search"]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit) as told:
        runpy.run_path(str(root / "scripts" / "plan_run.py"), run_name="__main__")
    assert str(told.value).startswith("plan_run: ")
    assert words in str(told.value)
    assert "\n" not in str(told.value)
