"""The program behind `make show`, as a person runs it."""

import subprocess

import pytest


@pytest.fixture
def show(root, planning_python):
    def run(*arguments):
        command = [planning_python, str(root / "scripts" / "show_settings.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    return run


def columns(line):
    return [part.strip() for part in line.split("  ") if part.strip()]


def test_an_arms_settings_are_shown_with_their_origin(show):
    done = show("--arm", "ddim", "--scale", "smoke", "--config", 'training={"shift": 1}')
    assert done.returncode == 0, done.stderr
    lines = [columns(line) for line in done.stdout.splitlines()]
    assert lines[0] == ["arm ddim, scale smoke"]
    assert ["training.steps", "20", "scales/smoke.yaml, datasets.digits"] in lines
    assert ["training.shift", "1", "command line"] in lines
    assert ["training.momentum", "0.9", "config.yaml"] in lines
    assert ["dataset.classes", "10", "datasets/digits.yaml"] in lines
    assert ["row.dataset", "digits", "arms.tsv row ddim"] in lines


def test_a_generators_settings_are_shown_for_each_data_set_that_uses_it(show):
    done = show("--generator", "contrastive_ddpm_conditional", "--scale", "reduced")
    assert done.returncode == 0, done.stderr
    for dataset in ("gtsrb", "mnist"):
        title = f"generator contrastive_ddpm_conditional, data set {dataset}, scale reduced"
        assert title in done.stdout.splitlines()
    assert "lambda" in done.stdout


def test_what_does_not_exist_is_told_in_one_line(show):
    done = show("--arm", "ddin", "--scale", "smoke")
    assert done.returncode == 1
    assert done.stderr.startswith("show_settings: scale smoke: arm 'ddin' does not exist")
    assert len(done.stderr.splitlines()) == 1
    done = show("--generator", "ddim", "--scale", "smokey")
    assert "did you mean smoke?" in done.stderr
    done = show("--arm", "ddim", "--scale", "smoke", "--config", "training.steps=3")
    assert done.stderr.startswith("show_settings: --config: 'training.steps' has a point")
