"""The real scripts, killed at random moments and run again: the same files to the byte."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path

import pytest
from code_graph import ROOT
from forked_python import EXECUTABLE
from long_jobs import JOBS, results, run_job, write_inputs

KILLS = 5  # of each kind of job, so 30 in all


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def processes():
    """Starts processes by a fork of one that has imported the scripts, which takes no time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["long_jobs", *JOBS, "pyautoattack"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    return context


@pytest.fixture(scope="module")
def whole(given, processes, tmp_path_factory):
    """What the jobs write without a kill, and how long each takes."""
    folder, seconds = tmp_path_factory.mktemp("whole"), {}
    for name in JOBS:
        job = begun(processes, name, given, folder, None)
        start = time.monotonic()
        job.join()
        assert job.exitcode == 0, name
        seconds[name] = time.monotonic() - start
    return folder, seconds


def begun(processes, *arguments):
    """A process that has begun a job."""
    event = processes.Event()
    job = processes.Process(target=run_job, args=(*arguments, event))
    job.start()
    assert event.wait(120)
    return job


def stamps(folder):
    found = {}
    for path in folder.rglob(".*.resume.pt"):
        with suppress(FileNotFoundError):  # replaced or removed meanwhile
            found[path] = path.stat().st_mtime_ns
    return found


def states(folder):
    return sorted(path.name for path in folder.rglob(".*.resume.pt"))


# ---------------------------------------------------------------- at random moments
@pytest.mark.parametrize("name", JOBS)
def test_killed_at_random_moments_a_job_ends_with_the_same_files(
    name, given, whole, processes, tmp_path
):
    folder, seconds = whole
    moments, kills, left = random.Random(name), 0, 0
    for _ in range(4 * KILLS):
        before = stamps(tmp_path)
        job = begun(processes, name, given, tmp_path, 0)
        while kills < KILLS and kills % 2 == 0 and job.is_alive() and stamps(tmp_path) == before:
            time.sleep(0.002)  # every other kill comes after a state of its own
        job.join(moments.uniform(0, 0.3) * seconds[name] if kills < KILLS else None)
        job.kill()
        job.join()
        if job.exitcode == 0:
            if kills == KILLS:
                break
            shutil.rmtree(tmp_path)  # done before it could be killed often enough: once more
            continue
        assert job.exitcode == -signal.SIGKILL
        kills += 1
        left += bool(states(tmp_path))
    assert kills == KILLS
    assert left
    assert results(name, tmp_path) == results(name, folder)
    assert states(tmp_path) == []


# ---------------------------------------------------------------- as Snakemake runs them
def snakefile(given):
    """A workflow of the jobs by the real scripts, each written as the rules write it."""
    config = {"resume": {"minutes": 0}, "gpus": {"names": [], "allocation": "", "locks": "."}}
    lines = [f"config.update({config})\nrule all:\n  input: {[*outputs()]}\n"]
    for name, (inputs, made, settings) in JOBS.items():
        read = {key: str(given / path) for key, path in inputs.items()}
        written = [f"{k}={'directory' if k == 'model' and 'diff' in v else ''}({v!r})"
                   for k, v in made.items()]  # fmt: skip
        lines.append(
            f"rule {name}:\n  input: **{read}\n  output: {', '.join(written)}\n"
            f"  log: 'logs/{name}.log'\n  resources: gpu=1\n  params: **{settings}\n"
            f"  script: {str(ROOT / 'scripts' / name)!r} + '.py'\n"
        )
    return "\n".join(lines)


def outputs():
    for _, made, _ in JOBS.values():
        yield from made.values()


class Killer(threading.Thread):
    """Ends each kind's script once, a moment after its first state has appeared."""

    def __init__(self, folder, how):
        super().__init__(daemon=True)
        self.folder, self.how, self.ended = folder, how, {}
        self.running = True

    def run(self):
        moments = random.Random(0)
        while self.running:
            time.sleep(0.01)
            for name, (_, made, _) in JOBS.items():
                place = (self.folder / next(iter(made.values()))).parent
                if name in self.ended or name not in self.how or not states(place):
                    continue
                time.sleep(moments.uniform(0, 0.1))
                for process in self.scripts(name):
                    os.kill(process, self.how[name])
                    self.ended[name] = states(place)

    def scripts(self, name):
        """The processes of a script, which our Snakemake has written to a folder of its own."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:  # has ended meanwhile
                continue
            program, script = words[0].decode(), words[-2:][0].decode()
            mine = script.startswith(f"{self.folder}/.snakemake/") and script.endswith(f"{name}.py")
            if mine and "python" in program:
                yield int(entry.name)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc")
def test_snakemake_runs_killed_jobs_again_and_keeps_their_states(
    given, whole, planning_python, working_python, tmp_path
):
    (tmp_path / "Snakefile").write_text(snakefile(given), encoding="utf-8")
    command = [planning_python, "-m", "snakemake", "--cores", "2", "--rerun-incomplete"]
    command += ["--keep-going", "--retries", "0"]

    def run(**how):
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        environment |= {EXECUTABLE: working_python}
        with open(tmp_path / "told.txt", "w+") as told:
            running = subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=told, stderr=subprocess.STDOUT
            )
            killer = Killer(tmp_path, how)
            killer.start()
            status = running.wait(timeout=300)
            killer.running = False
            killer.join()
            told.seek(0)
            return status, killer.ended, told.read()

    ways = dict.fromkeys(JOBS, signal.SIGKILL) | {"sample_images": signal.SIGTERM}
    status, ended, told = run(**ways)
    assert status == 1, told
    assert len(ended) >= 3, told  # on a busy machine a short job may end before its kill
    # Snakemake has removed the outputs of what failed, and left the states
    for name in ended:
        assert not any((tmp_path / path).exists() for path in JOBS[name][1].values())
    assert len(states(tmp_path)) == len(ended)
    stopped = (tmp_path / "logs/sample_images.log").read_text(encoding="utf-8")
    assert ("told to stop after batch" in stopped) == ("sample_images" in ended)

    status, _, told = run()
    assert status == 0, told
    for name in JOBS:
        log = (tmp_path / "logs" / f"{name}.log").read_text(encoding="utf-8")
        assert ("goes on after" in log) == (name in ended), name
        assert results(name, tmp_path) == results(name, whole[0])
    assert states(tmp_path) == []
    status, _, told = run()
    assert status == 0
    assert "Nothing to be done" in told
