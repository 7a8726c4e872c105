"""A GPU for each job, with GPUs that are names alone: holders, those that wait, killed ones."""

import fcntl
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from contrastdp.errors import InputError
from contrastdp.jobs import run as job
from contrastdp.jobs.gpus import held_gpus, visible_gpus

SCRIPTS = Path(__file__).parents[3] / "scripts"
# Holds GPUs, tells which, and goes on until its input ends; before that, whether it waits.
HOLDER = """
import json, logging, sys
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
from contrastdp.jobs.gpus import held_gpus
names, count, locks = json.loads(sys.argv[1])
with held_gpus(names, count, locks=locks, pause=0.02) as held:
    print(",".join(held.names), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds GPUs; returns it and its first line: names, or that it waits."""
    started = []

    def start(names, count=1):
        given = json.dumps([names, count, str(tmp_path)])
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, given],
            env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def free(names, folder):
    """Those of the GPUs that nobody holds."""
    found = []
    for name in names:
        with open(folder / f"contrastdp-gpu-{name}.lock", "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            found.append(name)
    return found


# ---------------------------------------------------------------- which there are
@pytest.mark.parametrize(
    ("environment", "names", "allocation"),
    [
        ({}, ["0", "1"], ""),
        ({"SLURM_JOB_ID": "7"}, ["0", "1"], ""),
        ({"CUDA_VISIBLE_DEVICES": "1, GPU-8a5f,0"}, ["1", "GPU-8a5f", "0"], ""),
        ({"CUDA_VISIBLE_DEVICES": "1,2,0"}, ["1"], ""),
        ({"CUDA_VISIBLE_DEVICES": "7"}, [], ""),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, ["0"], ""),
        ({"CUDA_VISIBLE_DEVICES": ""}, [], ""),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles", "SLURM_JOB_ID": "7"}, [], "7"),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_ID": "7"}, ["0", "1"], "7"),
    ],
)
def test_what_is_to_be_seen(tmp_path, environment, names, allocation):
    for name in ("nvidia2", "nvidia5", "nvidiactl", "nvidia-uvm", "nvidia-caps", "null"):
        (tmp_path / name).touch()
    assert visible_gpus(environment, tmp_path) == {"names": names, "allocation": allocation}


@pytest.mark.parametrize("named", [None, "0", "0,1", "GPU-8a5f", "MIG-1", "all", "-1", ""])
def test_a_machine_without_gpus(tmp_path, named):
    environment = {} if named is None else {"CUDA_VISIBLE_DEVICES": named}
    assert visible_gpus(environment, tmp_path)["names"] == []


def test_gpus_without_files_are_as_they_are_named(tmp_path):
    (tmp_path / "dxg").touch()
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0,1"}, tmp_path)["names"] == ["0", "1"]
    assert visible_gpus({}, tmp_path)["names"] == []


# ---------------------------------------------------------------- whose they are
def test_two_jobs_never_have_the_same(holder):
    found = [holder(["a", "b", "c"])[1] for _ in range(3)]
    assert sorted(found) == ["a", "b", "c"]


def test_one_job_more_than_gpus_waits_for_one_that_is_killed(holder, tmp_path):
    first, name = holder(["a", "b"])
    assert holder(["a", "b"])[1] == "b"
    third, line = holder(["a", "b"])
    assert line == "waits for 1 of the GPUs a, b, which other jobs hold"
    assert not free(["a", "b"], tmp_path)
    assert third.poll() is None
    first.kill()
    first.wait()
    assert third.stdout.readline().strip() == name == "a"


def test_waiting_is_told_once_and_ends_when_the_holder_does(holder, tmp_path, caplog):
    other, _ = holder(["a"])
    threading.Timer(0.3, other.stdin.close).start()
    with (
        caplog.at_level(logging.INFO),
        held_gpus(["a"], 1, locks=tmp_path, pause=0.02) as held,
    ):
        assert held.names == ["a"]
    assert [r.message for r in caplog.records] == [
        "waits for 1 of the GPUs a, which other jobs hold"
    ]


def test_a_job_of_two_holds_none_while_it_waits(holder, tmp_path):
    other, _ = holder(["a"])
    waiting, line = holder(["a", "b"], count=2)
    assert line.startswith("waits for 2")
    with held_gpus(["b"], 1, locks=tmp_path, pause=0.02) as held:
        assert held.names == ["b"]
        other.stdin.close()
        other.wait()
        assert waiting.poll() is None
    assert waiting.stdout.readline().strip() == "a,b"


def test_a_child_that_has_the_lock_keeps_it(tmp_path):
    with held_gpus(["a"], 1, locks=tmp_path) as held:
        child = subprocess.Popen(["sleep", "600"], pass_fds=held.descriptors)
    assert not free(["a"], tmp_path)
    child.kill()
    child.wait()
    with held_gpus(["a"], 1, locks=tmp_path, pause=0.01) as held:
        assert held.names == ["a"]


def test_names_are_no_paths(tmp_path):
    with held_gpus(["../a/b"], 1, locks=tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["contrastdp-gpu-.._a_b.lock"]


# ---------------------------------------------------------------- under SLURM
def test_slurm_gave_as_many_as_are_wanted(tmp_path):
    with held_gpus(["0", "1"], 2, locks=tmp_path, allocation="7") as held:
        assert held.names == ["0", "1"]
        assert not held.descriptors
    assert not list(tmp_path.iterdir())


def test_jobs_inside_one_allocation_share_it_out_but_not_with_another(tmp_path):
    with (
        held_gpus(["0", "1"], 1, locks=tmp_path, allocation="7") as one,
        held_gpus(["0", "1"], 1, locks=tmp_path, allocation="7") as two,
        held_gpus(["0", "1"], 1, locks=tmp_path, allocation="8") as other,
    ):
        assert (one.names, two.names, other.names) == (["0"], ["1"], ["0"])


# ---------------------------------------------------------------- one clear line
def test_more_than_there_are(tmp_path):
    with (
        pytest.raises(InputError, match=r"gpu 3: this machine has 2 \(a, b\); ask for fewer"),
        held_gpus(["a", "b"], 3, locks=tmp_path),
    ):
        pass


def test_a_lock_that_cannot_be_opened(tmp_path):
    (tmp_path / "contrastdp-gpu-a.lock").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(InputError, match=r"contrastdp-gpu-a\.lock: the lock of a GPU cannot be"),
        held_gpus(["a"], 1, locks=tmp_path),
    ):
        pass
    assert not (tmp_path / "elsewhere").exists()


# ---------------------------------------------------------------- jobs
def seen(*, found):
    """What the job's CUDA is told."""
    found.append(os.environ.get("CUDA_VISIBLE_DEVICES"))


@pytest.mark.parametrize(
    ("names", "count", "told"),
    [(["a", "b"], 1, "b"), (["a", "b"], 0, ""), ([], 1, "all"), (None, None, "all")],
)
def test_a_job_sees_its_own_gpus_alone(tmp_path, monkeypatch, names, count, told):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "all")
    gpus, found = None, []
    if names is not None:
        gpus = {"names": names, "count": count, "locks": str(tmp_path), "allocation": ""}
    handlers = list(job.logger.handlers)
    try:
        with held_gpus(["a"], 1, locks=tmp_path):
            job.execute(seen, log=str(tmp_path / "a.log"), threads=1, gpus=gpus, found=found)
    finally:
        job.logger.handlers = handlers
        logging.captureWarnings(False)
    assert found == [told]
