"""make plan, as a user calls it: its jobs are Snakemake's, and bad records are told in one line."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from job_counts import planned


def plan_run(root, *arguments):
    command = [sys.executable, "scripts/plan_run.py", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def copied(workflow_copy, tmp_path_factory, root):
    """A checkout in which nothing was run yet."""
    workflow = workflow_copy(tmp_path_factory.mktemp("plan"))
    record = "results/reference/times.csv"
    (workflow.folder / record).parent.mkdir(parents=True)
    shutil.copy2(root / record, workflow.folder / record)
    return workflow


def test_its_jobs_are_those_of_the_dry_run(copied):
    done = plan_run(copied.folder, "--scale", "smoke", "evidence")
    assert done.returncode == 0, done.stderr
    shown = {rule: int(jobs) for rule, jobs in re.findall(r"^(\w+) +(\d+)  ", done.stdout, re.M)}
    dry = copied.run("-n", "--cores", "1", "evidence", "--config", "scale=smoke").stdout
    expected = planned(dry)
    assert shown.pop("sum") == expected.pop("total") > 20
    assert shown == expected
    assert "hours if the likely sum holds" in done.stdout


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"device": "x"}, "no record of throughput"),
        (None, "missing.json"),
    ],
)
def test_a_record_that_is_none_is_told_in_one_line(copied, tmp_path, record, words):
    path = tmp_path / "missing.json"
    if record is not None:
        path.write_text(json.dumps(record), encoding="utf-8")
    done = plan_run(copied.folder, "--scale", "smoke", "--record", str(path), "search")
    assert done.returncode == 1
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
