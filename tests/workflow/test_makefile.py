"""What `make` does before it installs anything, before Snakemake begins, and after a kill."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder, *arguments, **environment):
    """Run make in `folder`, free of what a surrounding make hands down; environment: beside it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFL"))}
    kept |= environment
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def clone(tmp_path, root):
    for name in ("Makefile", "requirements.txt"):
        shutil.copy2(root / name, tmp_path / name)
    return tmp_path


def prepare(folder, root):
    """Make and an environment whose Python is this one."""
    for name in ("Makefile", "requirements.txt"):
        shutil.copy2(root / name, folder)
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (folder / ".venv" / ".installed").touch()


@pytest.mark.parametrize("python", ["false", "no-such-python"])
def test_an_old_or_missing_python_is_told_in_one_line(clone, python):
    done = make(clone, f"PYTHON={python}")
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if "***" not in line]
    assert told == [
        f'make: needs Python 3.11 or newer, "{python}" is not; name one: make PYTHON=python3.12'
    ]
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [("two words", "has a space"), ("{x}", "a brace"), ("a{b", "a brace"), ("a}b", "a brace")],
)
def test_a_path_that_stops_snakemake_is_refused_in_one_line(clone, name, words):
    folder = clone / name
    folder.mkdir()
    shutil.copy2(clone / "Makefile", folder)
    done = make(folder)
    assert done.returncode != 0
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_packages_go_into_the_environment_whatever_pip_is_told_elsewhere(clone, tmp_path):
    """A python of our own says what its environment is, and takes every other order as done."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncase "$*" in *install*) env | grep -E "^(PIP_|PYTHONH)";; esac\n')
    python.chmod(0o755)
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "python").symlink_to(python)
    elsewhere = dict.fromkeys(("TARGET", "PREFIX", "ROOT", "PYTHON", "DRY_RUN"), "/nowhere")
    given = {f"PIP_{name}": value for name, value in elsewhere.items()} | {"PIP_USER": "1"}
    done = make(clone, "setup", PYTHONHOME="/nowhere", PIP_EXTRA_INDEX_URL="https://a", **given)
    assert done.returncode == 0, done.stderr
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert found["PIP_USER"] == "0"
    assert found["PIP_EXTRA_INDEX_URL"] == "https://a"
    assert not found.keys() & {"PYTHONHOME", *(f"PIP_{name}" for name in elsewhere)}


def test_settings_are_checked_before_snakemake_begins(clone, root):
    shutil.copytree(root / "scripts", clone / "scripts")
    prepare(clone, root)
    done = make(clone, "ARGS=-n --config training.steps=3")
    assert done.returncode != 0
    line, _ = done.stderr.splitlines()
    assert line.startswith("error in settings: --config: 'training.steps' has a point")


def test_the_lock_of_a_killed_run_is_taken_away(workflow_copy, tmp_path, root):
    workflow = workflow_copy(tmp_path)
    prepare(workflow.folder, root)
    command = (
        "--cores",
        "1",
        "--config",
        "scale=smoke",
        "--",
        "results/smoke/digits/data/train.npz",
    )
    running = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *command],
        cwd=workflow.folder,
        env=workflow.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    locks, limit = workflow.folder / ".snakemake" / "locks", time.monotonic() + 120
    while not any(locks.glob("*.lock")) and time.monotonic() < limit:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert "cannot be locked" in workflow.run(*command).stdout
    done = make(workflow.folder, "unlock", **workflow.environment)
    assert done.returncode == 0, done.stderr
    done = workflow.run(*command)
    assert done.returncode == 0, done.stdout


def test_without_a_home_folder_caches_stand_in_the_workflow(clone):
    python = clone / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\ncase "$*" in *snakemake*) echo "in $XDG_CACHE_HOME";; esac\n')
    python.chmod(0o755)
    (clone / ".venv" / ".installed").touch()
    (clone / "file").touch()

    def told(**environment):
        return make(clone, XDG_CACHE_HOME="", **environment).stdout

    assert told(HOME=str(clone / "file")) == f"in {clone}/.snakemake/cache\n"
    assert told(HOME=str(clone / "home")) == "in \n"


def test_nothing_is_installed_twice(clone):
    stamp = clone / ".venv" / ".installed"
    assert "pip install" in make(clone, "--dry-run", "setup").stdout
    stamp.parent.mkdir()
    stamp.touch()
    assert "pip install" not in make(clone, "--dry-run", "setup").stdout
    os.utime(clone / "requirements.txt", (2**31, 2**31))
    assert "pip install" in make(clone, "--dry-run", "setup").stdout


def test_help_lists_every_public_target(clone):
    text = (clone / "Makefile").read_text(encoding="utf-8")
    (phony,) = [line for line in text.splitlines() if line.startswith(".PHONY:")]
    listed = [line.split()[0] for line in make(clone, "help").stdout.splitlines()]
    assert sorted(listed) == sorted(phony.split()[1:])
