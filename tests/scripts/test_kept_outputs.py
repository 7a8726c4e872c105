"""Reruns that fail under Snakemake: earlier outputs survive, and come back with the settings."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from code_graph import ROOT
from forked_python import EXECUTABLE

RULES = """
config.update({"resume": {"minutes": 10}, "mirror": None})
config.update({"gpus": {"names": [], "allocation": "", "locks": "."}})

rule train:
    input: source="results/source.txt"
    output: best="results/a/best.txt", model=directory("results/a/model")
    log: "logs/train.log"
    resources: gpu=1
    params: code="0", value=config["value"], end=config["end"]
    script: "train.py"

rule evaluate:
    input: best="results/a/best.txt"
    output: told="results/a/told.txt"
    log: "logs/evaluate.log"
    params: code="0"
    script: "evaluate.py"
"""
TRAIN = """
import os, signal, sys, time
from pathlib import Path
from contrastdp.errors import InputError
from contrastdp.files import replacing_folder, write_text
from contrastdp.jobs.run import run

def train(*, source, best, model, value, end):
    Path("calls.txt").open("a").write("x")
    write_text(best, value)
    if end == "bad input":
        raise InputError("value: is wrong; correct it")
    if end in ("SIGTERM", "SIGKILL"):
        os.kill(os.getpid(), getattr(signal, end))
    if end == "waits":
        Path("waits.txt").touch()
        time.sleep(60)
    with replacing_folder(model) as folder:
        write_text(folder / "unet" / "weights.txt", value)

run(train, snakemake)
"""
EVALUATE = """
from pathlib import Path
from contrastdp.files import write_text
from contrastdp.jobs.run import run

def evaluate(*, best, told):
    write_text(told, "told " + Path(best).read_text())

run(evaluate, snakemake)
"""
FILES = ("best.txt", "model/unet/weights.txt")
COMMAND = ("-m", "snakemake", "--cores", "1", "--nolock", "--rerun-incomplete")


def begun(folder, target="results/a/model", *, value="good", end="well", more=(), python=None):
    """Snakemake's process; value, end: the settings; python: what runs it, or else a fork."""
    given = ["--config", f"value={value}", f"end={end}", "--", target]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts"), "OMP_NUM_THREADS": "1"}
    python = python or str(folder / "python")
    environment |= {"XDG_CACHE_HOME": str(folder / "cache"), EXECUTABLE: python}
    return subprocess.Popen(
        [python, *COMMAND, *more, *given], cwd=folder, env=environment, text=True,
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def snakemake(folder, target="results/a/model", **given):
    running = begun(folder, target, **given)
    told = running.communicate(timeout=120)[0]
    return running.returncode, told


def calls(folder):
    return len((folder / "calls.txt").read_text())


def log(folder):
    return (folder / "logs" / "train.log").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def done(planning_python, tmp_path_factory):
    """A workflow that has run well."""
    folder = tmp_path_factory.mktemp("done")
    (folder / "python").symlink_to(planning_python)
    for name, text in {"Snakefile": RULES, "train.py": TRAIN, "evaluate.py": EVALUATE}.items():
        (folder / name).write_text(text)
    (folder / "results").mkdir()
    (folder / "results" / "source.txt").write_text("source")
    status, told = snakemake(folder)
    assert status == 0, told
    return folder


@pytest.fixture
def folder(done, tmp_path):
    return shutil.copytree(done, tmp_path / "run", copy_function=shutil.copy2)


def assert_back(folder, count):
    """The earlier settings bring the earlier files back, without the work."""
    status, told = snakemake(folder)
    assert status == 0, told
    assert "outputs put back from results/a/.best.kept" in log(folder)
    assert [(folder / "results/a" / name).read_text() for name in FILES] == ["good", "good"]
    assert calls(folder) == count


@pytest.mark.parametrize("end", ["bad input", "SIGTERM", "SIGKILL"])
def test_a_failed_rerun_loses_nothing(folder, end):
    status, told = snakemake(folder, value="slip", end=end)
    assert status == 1, told
    kept = folder / "results/a/.best.kept"
    assert [(kept / name).read_text() for name in FILES] == ["good", "good"]
    assert not (folder / "results/a/best.txt").exists()
    assert "results/a/.best.kept keeps the earlier outputs (other settings) until" in log(folder)
    assert "train" in snakemake(folder, value="slip", more=["-n"])[1]  # it has to run again
    assert_back(folder, count=2)


def test_a_killed_snakemake_loses_nothing(folder):
    running = begun(folder, value="slip", end="waits", python=sys.executable)
    limit = time.monotonic() + 120
    while not (folder / "waits.txt").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert (folder / "results/a/best.txt").read_text() == "slip"
    assert "train" in snakemake(folder, value="slip", end="waits", more=["-n"])[1]
    assert_back(folder, count=2)


def test_a_job_that_never_began_loses_nothing(folder):
    """As one that waits in a queue and is cancelled: Snakemake has deleted its outputs before."""
    for path in (folder / "results/a").glob("[!.]*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert_back(folder, count=1)


def test_outputs_of_other_settings_take_the_place_of_the_kept(folder):
    assert snakemake(folder, value="better")[0] == 0
    kept = folder / "results/a/.best.kept"
    assert [(kept / name).read_text() for name in FILES] == ["better", "better"]
    assert json.loads((kept / ".receipt.json").read_text())["rule"] == "train"
    assert snakemake(folder)[0] == 0
    assert calls(folder) == 3


def test_a_file_of_other_work_is_refused_where_it_is_read(folder):
    assert snakemake(folder, "results/a/told.txt")[0] == 0
    (folder / "results/a/best.txt").write_text("foreign")
    forced = ["--allowed-rules", "evaluate", "--force"]
    status, told = snakemake(folder, "results/a/told.txt", more=forced)
    assert status == 1
    assert "error in evaluate: results/a/best.txt: is another file, not what train wrote" in told
    assert "Traceback" not in told
