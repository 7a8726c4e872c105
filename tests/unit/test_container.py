"""The Dockerfile read as text: its pins, its Python, its user, and what goes into the image."""

import re
import tomllib

import pytest
import yaml
from code_graph import ROOT


@pytest.fixture(scope="module")
def instructions():
    """(name, text) of each instruction, continued lines joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def texts(instructions, name):
    return [text for found, text in instructions if found == name]


def place(instructions, name, word):
    """Index of the first instruction `name` that holds `word`."""
    return next(i for i, (n, text) in enumerate(instructions) if n == name and word in text)


def test_the_base_is_an_argument_that_meets_pyproject_and_the_environments(instructions):
    assert instructions[:2] == [
        ("ARG", "BASE=python:3.11-slim-bookworm"),
        ("FROM", "${BASE}"),
    ]
    python = re.search(r"python:(3\.\d+)-", instructions[0][1])[1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={python}"
    assert f"Python {python} or newer" in (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "envs").glob("*.yaml"):
        dependencies = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
        assert f"python={python}" in dependencies


def test_packages_come_from_requirements_alone(instructions):
    """No version stands in the Dockerfile, so none can differ from requirements.txt."""
    runs = " ".join(texts(instructions, "RUN"))
    assert "make setup" in runs
    assert not re.search(r"pip install|conda |curl |wget |uv ", runs)
    assert "==" not in runs
    assert "-r requirements.txt" in (ROOT / "Makefile").read_text(encoding="utf-8")
    copied = texts(instructions, "COPY")
    assert copied[0].split()[1:] == ["Makefile", "requirements.txt", "./"]
    assert place(instructions, "COPY", "requirements.txt") < place(instructions, "RUN", "setup")


def test_packages_are_installed_once_and_make_finds_them(instructions):
    touched = place(instructions, "RUN", "touch .venv/.installed")
    assert touched > place(instructions, "COPY", ". .")
    assert "stamp := .venv/.installed" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_a_user_without_rights_owns_and_runs_it(instructions):
    (user,) = texts(instructions, "USER")
    assert user not in {"root", "0"}
    assert place(instructions, "USER", user) < place(instructions, "RUN", "make setup")
    assert all(f"--chown={user}:{user}" in text for text in texts(instructions, "COPY"))
    after = instructions[place(instructions, "USER", user) :]
    assert not any("apt-get" in text for name, text in after if name == "RUN")


def test_it_ends_with_make_and_no_network(instructions):
    assert instructions[-1] == ("CMD", '["make"]')
    assert "HF_HUB_OFFLINE=1" in texts(instructions, "ENV")
    assert not texts(instructions, "ADD"), "ADD may fetch"


def test_the_context_leaves_out_what_git_leaves_out():
    def lines(name):
        text = (ROOT / name).read_text(encoding="utf-8")
        found = (line for line in text.splitlines() if line and not line.startswith("#"))
        return {line.replace("**/", "").strip("/").replace("!/", "!") for line in found}

    assert lines(".gitignore") == lines(".dockerignore")


def test_the_cuda_base_has_the_cuda_version_that_torch_names():
    """torch's own packages of CUDA 13 carry the suffix cu13 (pyproject lists them)."""
    base = re.search(r"nvidia/cuda:(\d+)\.", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert set(re.findall(r"-cu(\d+)\"", project)) == {base[1]}
