"""Shards of an attack as processes: in any order, several at once, killed and started again."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from code_graph import ROOT

from attack_shard import attack_shard
from contrastdp.files import digest, read_json
from prepare_data import prepare_data
from train_classifier import train_classifier
from verify_adversarials import verify

ATTACK = {"norm": "Linf", "eps": "1/10", "version": "aa+mt", "seed": 0}
ATTACK |= {"budget": {"apgd_restarts": 2, "apgd_steps": 10, "mt_restarts": 1, "mt_steps": 10}}
ATTACK |= {"shard": 20, "batch": 12}
TRAINING = {"network": {"architecture": "small_cnn", "width": 8, "features": 24}, "steps": 100}
TRAINING |= {"batch": 32, "learning_rate": 1e-2, "weight_decay": 0.01, "shift": 1}
STARTS = (0, 20, 40)

# says when the first attack of a shard has ended, and when the images are written but not the JSON;
# what is told to stop there waits to be killed
PROCESS = """
import json, sys, time
import attack_shard as script
from contrastdp.attack import autoattack as attack

stop, options = sys.argv[1], json.loads(sys.argv[2])

def tell(point, function):
    def told(*arguments):
        if point == "write_json" == stop:
            print(point, flush=True)
            time.sleep(600)
        found = function(*arguments)
        if point == "_attack" == stop:
            print(point, flush=True)
            time.sleep(600)
        return found
    return told

attack._attack = tell("_attack", attack._attack)
script.write_json = tell("write_json", script.write_json)
script.attack_shard(**options)
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A model and 50 test images."""
    folder = tmp_path_factory.mktemp("given")
    splits = {name: str(folder / f"{name}.npz") for name in ("train", "validation", "test")}
    prepare_data(
        dataset="digits",
        title="digits",
        sizes={"train": 200, "validation": 40, "test": 50},
        seed=0,
        archives={},
        origins=[],
        origin=str(folder / "origin.json"),
        **splits,
    )
    train_classifier(
        train=splits["train"],
        validation=splits["validation"],
        real=200,
        classes=10,
        settings=TRAINING,
        seed=0,
        model=str(folder / "model.safetensors"),
        metrics=str(folder / "metrics.json"),
    )
    return {"model": str(folder / "model.safetensors"), "test": splits["test"], "classes": 10}


def options(given, folder, start, **change):
    folder.mkdir(exist_ok=True)
    outputs = {"shard": str(folder / f"shard{start}.json")}
    outputs |= {"adversarial": str(folder / f"shard{start}.npz")}
    return given | outputs | {"start": start, "stop": start + 20, "attack": ATTACK | change}


@pytest.fixture
def process(working_python, tmp_path_factory):
    """A function: a process that attacks one shard."""
    program = tmp_path_factory.mktemp("program") / "program.py"
    program.write_text(PROCESS, encoding="utf-8")

    def begun(options, stop=""):
        command = [working_python, program, stop, json.dumps(options)]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    return begun


def killed(attacking, stop):
    """Send SIGKILL when a shard has come so far."""
    assert attacking.stdout.readline() == f"{stop}\n"
    attacking.kill()
    attacking.communicate()
    return attacking.returncode


def found(folder, start):
    """What a shard found: all of its JSON but times, and the digest of its images."""
    shard = read_json(folder / f"shard{start}.json")
    assert shard["sha256"]["adversarial"] == digest(folder / f"shard{start}.npz")
    return {key: shard[key] for key in shard if key not in ("seconds", "provenance")}


@pytest.fixture(scope="module")
def expected(given, tmp_path_factory):
    """What the shards find one after another in this process."""
    folder = tmp_path_factory.mktemp("expected")
    for start in STARTS:
        attack_shard(**options(given, folder, start))
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- the same in any order
def test_order_and_number_of_workers_change_nothing(given, expected, process, tmp_path):
    attack_shard(**options(given, tmp_path, 40))
    workers = [process(options(given, tmp_path, start)) for start in (20, 0)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    for worker in workers:
        worker.stdout.close()
    for start in STARTS:
        assert found(tmp_path, start) == found(expected, start)


def test_micro_batches_change_no_flag(given, expected, tmp_path):
    attack_shard(**options(given, tmp_path, 0, micro_batch=5))
    one, other = found(tmp_path, 0), found(expected, 0)
    assert one["images"] == other["images"]
    assert one["attack"] == other["attack"]
    assert read_json(tmp_path / "shard0.json")["provenance"]["settings"]["micro_batch"] == 5


# ---------------------------------------------------------------- killed and started again
def test_a_killed_attack_starts_again_and_finds_the_same(given, expected, process, tmp_path):
    shard = options(given, tmp_path, 20)
    assert killed(process(shard, "_attack"), "_attack") == -9
    assert names(tmp_path) == []
    assert killed(process(shard, "write_json"), "write_json") == -9
    assert names(tmp_path) == ["shard20.npz"]  # whole, and without its JSON of no rule's use
    assert digest(tmp_path / "shard20.npz") == digest(expected / "shard20.npz")
    again = process(shard)
    again.communicate(timeout=120)
    assert again.returncode == 0
    assert names(tmp_path) == ["shard20.json", "shard20.npz"]
    assert found(tmp_path, 20) == found(expected, 20)


# ---------------------------------------------------------------- and a stranger agrees
def test_the_verifier_finds_the_accuracy_of_the_shards(given, expected):
    broken = [by for start in STARTS for by in found(expected, start)["images"]["broken_by"]]
    assert len(set(broken)) >= 3
    files = [str(expected / f"shard{start}.npz") for start in STARTS]
    line, faults = verify(given["model"], given["test"], files, "1/10", None)
    assert not faults
    assert f"({broken.count('')} of 50 test images)" in line
    assert Path(files[0]).stat().st_size < 20 * 64 * 4 + 4000
