"""profiles/slurm and profiles/default: what they name exists, and sites are named nowhere else."""

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import code_graph
import pytest
import yaml
from code_graph import ROOT

SLURM = ROOT / "profiles" / "slurm" / "config.yaml"
NETWORK_STEPS = {
    *("train_classifier", "train_diffusion", "train_robust", "sample_images", "label_images"),
    *("select_images", "attack_shard", "attack_last", "audit_network", "measure_samples"),
    *("validate_network", "extract_features", "train_time_classifier"),
    *("measure_generator", "measure_gradients", "picture_gradients"),
}
SITE = re.compile(r"slurm_partition|slurm_account|slurm_extra")


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def profile():
    return read(SLURM)


@cache
def options():
    """Long options of snakemake, with the plugin's where it is installed."""
    from snakemake.cli import get_argument_parser

    return {
        option.lstrip("-")
        for action in get_argument_parser()._actions
        for option in action.option_strings
    }


# ---------------------------------------------------------------- names
@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*/config.yaml")), ids=str)
def test_every_key_is_an_option(path):
    try:
        version("snakemake-executor-plugin-slurm")
    except PackageNotFoundError:
        pytest.skip("snakemake-executor-plugin-slurm is not installed (make setup)")
    assert read(path).keys() - options() == set()


def test_every_rule_exists(profile):
    named = [*profile["set-resources"], *profile["groups"]]
    assert set(named) - code_graph.rule_names() == set()
    assert set(profile["group-components"]) <= set(profile["groups"].values())


def test_each_step_with_a_network_asks_for_one_gpu(profile):
    assert profile["set-resources"].keys() == NETWORK_STEPS
    assert {step["gpu"] for step in profile["set-resources"].values()} == {1}
    # Not two machines for two GPUs of a job, which the step inside the job asks for on one.
    assert {step["nodes"] for step in profile["set-resources"].values()} == {1}
    # `gpus` reaches only the step inside the job, not the job.
    assert {name for step in profile["set-resources"].values() for name in step} == {
        "gpu",
        "nodes",
        "mem_mb",
        "runtime",
    }


def test_every_step_that_loads_torch_asks_for_one_gpu_but_those_known_to_be_small():
    small = {"prepare_data", "sample_toy", "trace_image", "plot_toy"}
    with_torch = {
        name
        for name, directives in code_graph.rules().items()
        if "envs/torch.yaml" in directives["conda"]
    }
    assert with_torch - NETWORK_STEPS <= small


# ---------------------------------------------------------------- what retries need
def test_every_step_grows_with_each_attempt_threefold_at_most(profile):
    """At most, so that where nodes preempt, --retries 20 does not ask for 20 times the memory."""
    for step in profile["set-resources"].values():
        for name in ("mem_mb", "runtime"):
            first, *later = (eval(step[name], {"attempt": n}) for n in (1, 2, 3, 4, 20))
            assert first > 0
            assert later == [2 * first, 3 * first, 3 * first, 3 * first]
    asked = re.compile(r"\s*\*\*asking\(mem_mb=[1-9]\d*, minutes=[1-9]\d*(, gpu=1)?\),\s*")
    faults = {
        name: directives["resources"]
        for name, directives in code_graph.rules().items()
        if not asked.fullmatch(directives["resources"])
    }
    assert not faults
    common = (ROOT / "rules" / "common.smk").read_text(encoding="utf-8")
    assert 'return {"mem_mb": growing(mem_mb), "runtime": growing(minutes), **gpu}' in common
    assert "min(attempt, 3) * amount" in common
    assert profile["retries"] == 2
    # In a rule, retries would multiply with the profile's at each level.
    assert [n for n, found in code_graph.rules().items() if "retries" in found] == []


# ---------------------------------------------------------------- what breaks runs
def test_the_profile_avoids_what_breaks_runs(profile):
    assert profile["executor"] == "slurm"
    assert profile["slurm-status-command"] == "squeue"
    assert not any("array" in key for key in profile)
    assert profile["latency-wait"] >= 30
    assert profile["slurm-delete-logfiles-older-than"] == 0
    default = read(ROOT / "profiles" / "default" / "config.yaml")
    assert {key: profile[key] for key in default} == default


def test_grouped_steps_neither_need_a_gpu_nor_come_before_those_that_do(profile):
    """Else a group could wait for itself, or hold a GPU while it draws."""
    grouped = set(profile["groups"])
    assert not grouped & NETWORK_STEPS
    upstream = NETWORK_STEPS | {"prepare_data", "download_data"}
    assert not grouped & upstream


def test_sites_are_named_in_the_profile_alone():
    lines = SLURM.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if SITE.search(line) and not line.startswith("#")] == []
    faults = []
    for path in [*code_graph.workflow_files(), *(ROOT / "config").rglob("*.*")]:
        text = path.read_text(encoding="utf-8")
        faults += [f"{path.name}: {found[0]}" for found in SITE.finditer(text)]
    assert not faults
    for path in [*code_graph.library_files(), *code_graph.script_files()]:
        assert not SITE.search(path.read_text(encoding="utf-8"))
    assert SITE.search(SLURM.read_text(encoding="utf-8")), "the profile shows where they go"
