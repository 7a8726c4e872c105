"""train_time_classifier: what it trains on, what it writes, and the vanilla twin."""

import json

import numpy as np
import pytest
import torch

import train_time_classifier as script
from contrastdp.data.images import write_images
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.files import read_csv
from contrastdp.networks.checkpoint import load_network
from train_time_classifier import train_time_classifier

SCHEDULE = {"num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2", "clip_sample": True}
NETWORK = {"architecture": "time_unet", "width": 4, "depth": 1, "multipliers": [1, 2]}
NETWORK |= {"attention": [], "head_size": 4, "groups": 2}
ATTACK = {"norm": "L2", "eps": 0.5, "steps": 2, "step_size": "2.5 eps/steps"}
SETTINGS = {"network": NETWORK, "steps": 3, "batch": 8, "learning_rate": 1e-3, "shift": 1}
SETTINGS |= {"weight_decay": 0.05, "attack": ATTACK}


@pytest.fixture
def images(tmp_path):
    draw = np.random.default_rng(0)
    for name, count in (("train", 40), ("validation", 15)):
        image = draw.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        write_images(tmp_path / f"{name}.npz", image=image, label=np.arange(count) % 3)
    return tmp_path


def train(images, name, **changed):
    names = ("model.safetensors", "history.csv", "metrics.json")
    made = {file.split(".")[0]: str(images / name / file) for file in names}
    train_time_classifier(
        **{split: str(images / f"{split}.npz") for split in ("train", "validation")},
        **made,
        settings=SETTINGS | changed,
        schedule=SCHEDULE,
        real=30,
        classes=3,
        seed=5,
        device="cpu",
    )
    return json.loads((images / name / "metrics.json").read_text(encoding="utf-8"))


def test_a_network_its_history_and_its_accuracies(images):
    found = train(images, "a")
    network = load_network(images / "a" / "model.safetensors")
    abar = SubsequenceScheduler(**SCHEDULE).alphas_cumprod
    assert torch.equal(network.abar, abar)
    assert network.settings["num_train_timesteps"] == 100
    history = read_csv(images / "a" / "history.csv")
    assert [int(row["step"]) for row in history] == [1, 2, 3]
    assert found["loss"] == float(history[-1]["loss"])
    bands = found["bands"]
    edges = [(0, 19), (20, 39), (40, 59), (60, 79), (80, 99)]
    assert [(band["t_low"], band["t_high"]) for band in bands] == edges
    assert all(0 <= band["robust"] <= band["clean"] <= 1 for band in bands)
    assert (found["n_validation"], found["n_train"], found["seed"]) == (15, 30, 5)
    assert found["passes"] >= 3 * 8
    assert found["parameters"] == sum(p.numel() for p in network.parameters())
    assert found["provenance"]["settings"] == SETTINGS | {"schedule": SCHEDULE}
    train(images, "b")
    for name in ("model.safetensors", "history.csv"):
        assert (images / "a" / name).read_bytes() == (images / "b" / name).read_bytes()


def test_the_twin_is_measured_under_its_siblings_attack(images, monkeypatch):
    seen = []
    measure = script.training.accuracy_by_band
    monkeypatch.setattr(
        script.training,
        "accuracy_by_band",
        lambda *given, **named: (seen.append(named["attack"]), measure(*given, **named))[1],
    )
    robust = train(images, "robust")
    twin = train(images, "twin", attack=ATTACK | {"steps": 0}, validation_attack=ATTACK)
    assert seen[0] == seen[1]
    assert (twin["passes"], twin["attacked"]) == (0, 0)
    assert robust["passes"] > 0
    assert all(band["robust"] is not None for band in twin["bands"])
