"""Provenance says what made a number."""

import json
import os
import shutil
import subprocess

import pytest

from contrastdp.jobs import provenance


def test_provenance_says_what_made_a_number():
    found = provenance.provenance(seed=3, settings={"beta": 6}, device="cpu", precision="bfloat16")
    assert found["seed"] == 3
    assert found["settings"] == {"beta": 6}
    assert found["precision"] == "bfloat16"
    assert set(found["versions"]) == {"python", *provenance.PACKAGES}
    assert json.loads(json.dumps(found)) == found


# ---------------------------------------------------------------- whose commit
def git(folder, *arguments):
    told = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *told, *arguments]
    done = subprocess.run(command, env=kept, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with this module in it, which takes the place of the checkout's."""
    folder = tmp_path / "own"
    folder.mkdir()
    git(folder, "init", "-q")
    monkeypatch.setattr(provenance, "__file__", shutil.copy(provenance.__file__, folder))
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "own")
    return folder


VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")


@pytest.mark.parametrize("names", [*((name,) for name in VARIABLES), VARIABLES[:3]])
def test_variables_of_a_hook_send_git_nowhere_else(repository, tmp_path, monkeypatch, names):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "other")
    places = {"GIT_WORK_TREE": "", "GIT_INDEX_FILE": ".git/index"}
    places["GIT_OBJECT_DIRECTORY"] = ".git/objects"
    for name in names:
        monkeypatch.setenv(name, str(other / places.get(name, ".git")))
    assert provenance.commit() == git(repository, "rev-parse", "HEAD")


def test_every_variable_that_git_knows_is_dropped(tmp_path):
    known = git(tmp_path, "rev-parse", "--local-env-vars").split()
    assert set(known) <= set(provenance.GIT_VARIABLES)


def test_an_edited_file_shows(repository):
    with open(provenance.__file__, "a", encoding="utf-8") as file:
        file.write("# edited\n")
    assert provenance.commit() == git(repository, "rev-parse", "HEAD") + "+"


def test_a_copy_below_another_repository_has_no_commit(repository, monkeypatch):
    """As an environment in the folder of a project has an installed copy."""
    copy = repository / "site-packages"
    copy.mkdir()
    monkeypatch.setattr(provenance, "__file__", shutil.copy(provenance.__file__, copy))
    assert provenance.commit() == "unknown"
