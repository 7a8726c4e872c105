"""Scripts from real images to an attack's outcomes, on tiny input, and with damaged files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from attack_shard import attack_shard
from contrastdp.attack import gate
from contrastdp.attack.pgd import PGD
from contrastdp.data.images import read_images, write_images
from contrastdp.data.tensors import to_tensor
from contrastdp.errors import InputError
from contrastdp.evidence.outcomes import read_shards
from contrastdp.files import read_csv
from contrastdp.networks.checkpoint import load_network, save_network
from contrastdp.streams import generator
from contrastdp.synthesis.scoring import robust_gradient_norm
from extract_features import extract_features
from label_images import label_images
from prepare_data import prepare_data
from select_images import select_images
from train_classifier import train_classifier
from train_robust import train_robust

CLASSIFIER = {"network": {"architecture": "small_cnn", "width": 8, "features": 24}, "steps": 100}
CLASSIFIER |= {"batch": 32}
CLASSIFIER |= {"learning_rate": 1e-2, "weight_decay": 0.01, "shift": 1}
TRAINING = {"network": {"architecture": "small_cnn", "width": 4, "features": 8}, "steps": 8}
TRAINING |= {"batch": 20, "synthetic_share": 0.5, "learning_rate": 0.1, "momentum": 0.9}
TRAINING |= {"weight_decay": 5e-4, "warmup": 0.1, "averaging": 0.9, "label_smoothing": 0.0}
TRAINING |= {"shift": 0, "validate_every": 4}
TRADES = {"loss": "trades", "beta": 6.0, "attack_steps": 2}
EPS = {"eps": "1/10", "step_size": "1/40"}
ATTACK = {"norm": "Linf", "eps": "1/5", "version": "standard", "seed": 0}
ATTACK |= {"shard": 8, "batch": 8}
BUDGET = {"apgd_restarts": 1, "apgd_steps": 2, "mt_restarts": 1, "mt_steps": 2}
SHORT = ATTACK | {"version": "aa+mt", "budget": BUDGET}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The whole chain, run once: every file by its name."""
    folder = tmp_path_factory.mktemp("chain")

    def at(name):
        return str(folder / name)

    splits = {name: at(f"{name}.npz") for name in ("train", "validation", "test")}
    prepare_data(
        dataset="digits",
        title="digits",
        sizes={"train": 200, "validation": 40, "test": 12},
        seed=0,
        archives={},
        origins=[],
        origin=at("origin.json"),
        **splits,
    )
    for name in ("labeler", "encoder"):
        train_classifier(
            train=splits["train"],
            validation=splits["validation"],
            real=80,
            classes=10,
            settings=CLASSIFIER,
            seed=0,
            model=at(f"{name}.safetensors"),
            metrics=at(f"{name}.json"),
        )
    image = read_images(splits["train"])["image"]
    for shard, (start, stop) in enumerate(((0, 60), (60, 100))):
        write_images(
            at(f"sampled{shard}.npz"),
            image=image[start:stop],
            label=np.full(stop - start, -1),
            index=np.arange(start, stop),
        )
        label_images(
            images=at(f"sampled{shard}.npz"),
            labeler=at("labeler.safetensors"),
            conditional=False,
            labelled=at(f"labelled{shard}.npz"),
        )
    select(at, images=at("selected.npz"))
    robust(at)
    return at


def select(at, **change):
    options = {"shards": [at("labelled1.npz"), at("labelled0.npz")], "rule": "none"}
    options |= {"synthetic": 50, "candidates": 90, "classes": 10, "real": 80, "seed": 0, **EPS}
    options |= {"attack_steps": 2, "train": at("train.npz")}
    options |= {name: at(f"{name}.safetensors") for name in ("labeler", "encoder")}
    select_images(**options | change)


def robust(at, **change):
    options = {name: at(f"{name}.npz") for name in ("train", "validation")}
    options |= {"synthetic": at("selected.npz"), "real": 80, "classes": 10, "trainer": TRADES}
    options |= {"settings": TRAINING, **EPS, "seed": 0}
    options |= {"best": at("best.safetensors"), "last": at("last.safetensors")}
    options |= {"history": at("history.csv"), "training": at("training.json")}
    train_robust(**options | change)


def attacked(at, start, stop, **change):
    options = {"model": at("best.safetensors"), "test": at("test.npz"), "attack": ATTACK}
    options |= {"classes": 10, "start": start, "stop": stop, "shard": at(f"shard{start}.json")}
    options |= {"adversarial": at(f"shard{start}_adversarial.npz")}
    attack_shard(**options | change)


# ---------------------------------------------------------------- what is written
def test_classifier_learns_and_says_what_it_is(files):
    metrics = json.loads(Path(files("labeler.json")).read_text())
    assert metrics["validation_accuracy"] > 0.5
    assert metrics["n_train"] == 80
    assert metrics["n_validation"] == 40
    assert metrics["provenance"]["settings"] == CLASSIFIER
    assert load_network(files("labeler.safetensors")).settings["width"] == 8


def test_labels_are_the_labeler_s_and_records_are_kept(files):
    found = read_images(files("labelled1.npz"), classes=10)
    assert found["index"].tolist() == list(range(60, 100))
    assert found["confidence"].dtype == np.float32
    assert (found["confidence"] >= 0.1).all()
    assert np.array_equal(
        found["image"], read_images(files("sampled1.npz"), labelled=False)["image"]
    )


def test_own_labels_are_kept(files, tmp_path):
    data = read_images(files("train.npz"))
    own = str(tmp_path / "own.npz")
    write_images(own, image=data["image"], label=data["label"], index=data["index"])
    options = {"labeler": files("labeler.safetensors"), "labelled": str(tmp_path / "out.npz")}
    label_images(images=own, conditional=True, **options)
    assert np.array_equal(read_images(options["labelled"])["label"], data["label"])
    with pytest.raises(InputError, match="without a label"):
        label_images(images=files("sampled0.npz"), conditional=True, **options)


def test_none_selects_the_first_candidates(files):
    found = read_images(files("selected.npz"), classes=10)
    assert found["index"].tolist() == list(range(50))
    assert set(found) == {"image", "label", "index", "confidence", "score"}


@pytest.mark.parametrize(
    "rule", ["separability", "gradient_norm", "robust_gradient_norm", "entropy"]
)
def test_rules_select_balanced_images_among_the_candidates(files, tmp_path, rule):
    out = str(tmp_path / "images.npz")
    select(files, rule=rule, synthetic=20, images=out)
    found = read_images(out, classes=10)
    assert len(found["label"]) == 20
    assert found["index"].max() < 90
    assert np.bincount(found["label"]).max() <= 4
    assert np.isfinite(found["score"]).all()


def test_robust_rule_attacks_as_it_is_told(files, tmp_path):
    out = str(tmp_path / "images.npz")
    select(files, rule="robust_gradient_norm", synthetic=90, images=out)
    found = read_images(out)
    stream = generator(0, "selection")
    expected = robust_gradient_norm(
        load_network(files("encoder.safetensors")),
        to_tensor(found["image"]),
        torch.from_numpy(found["label"]),
        PGD(eps=0.1, step_size=0.025, steps=2, generator=stream),
    )
    np.testing.assert_allclose(found["score"], expected, rtol=1e-4)


def test_robust_training_writes_all_that_it_promises(files):
    training = json.loads(Path(files("training.json")).read_text())
    assert training["steps"] == 8
    assert training["best_step"] in (4, 8)
    made = training["provenance"]
    assert made["settings"]["real"] == 80
    assert made["precision"] == "float32"
    assert made["normalised_over"] is None
    rows = read_csv(files("history.csv"))
    assert [row["step"] for row in rows] == ["4", "8"]
    load_network(files("best.safetensors"))
    load_network(files("last.safetensors"))


def test_without_synthetic_and_without_real_images(files, tmp_path):
    outputs = {name: str(tmp_path / name) for name in ("best", "last", "history", "training")}
    robust(files, synthetic=None, **outputs)
    robust(files, real=0, trainer=TRADES | {"loss": "pgd"}, **outputs)
    assert load_network(outputs["best"]).settings["classes"] == 10
    refused(
        lambda: robust(files, real=0, synthetic=None, **outputs), "no images to train on", tmp_path
    )


def test_the_recipe_of_the_paper_in_small(files, tmp_path):
    outputs = {name: str(tmp_path / name) for name in ("best", "last", "history", "training")}
    network = {"architecture": "wide_resnet", "depth": 10, "width": 1, "mean": [0.3], "std": [0.4]}
    settings = TRAINING | {"network": network, "steps": 4, "shift": 1, "flip": True, "cutmix": 1.0}
    settings |= {"schedule": "one_cycle", "epoch_steps": 2, "cycle_momentum": True}
    settings |= {"micro_batch": 8, "precision": "bfloat16", "channels_last": True}
    settings |= {"averaged_statistics": "recomputed", "statistics_batches": 2}
    settings |= {"first_norm_momentum": 1.0, "validation_images": 10, "validation_steps": 2}
    # what the trainer's row says comes before the common settings
    trainer = TRADES | {"label_smoothing": 0.1}
    robust(files, settings=settings, trainer=trainer, **outputs)
    made = json.loads(Path(outputs["training"]).read_text())["provenance"]
    assert made["settings"]["label_smoothing"] == 0.1
    assert made["precision"] == "bfloat16"
    assert made["channels_last"] is True
    assert made["normalised_over"] == 8
    assert load_network(outputs["best"]).settings["architecture"] == "wide_resnet"


def test_shards_of_an_attack_fit_together(files):
    attacked(files, 0, 8)
    attacked(files, 8, 16)
    shards = read_shards([files("shard8.json"), files("shard0.json")])
    assert [(s["start"], s["stop"]) for _, s in shards] == [(0, 8), (8, 12)]
    first = shards[0][1]
    assert first["attack"]["eps"] == "1/5"
    assert first["images"]["label"] == read_images(files("test.npz"))["label"][:8].tolist()
    assert set(first["seconds"]) == {"apgd-ce", "apgd-t", "fab-t", "square"}


def test_the_gate_speaks_before_the_attack(files, tmp_path, monkeypatch):
    shard, seen = str(tmp_path / "shard.json"), []

    def looking(*given, **settings):
        seen.append(gate.rounded_parts("cuda"))
        return gate.check_network(*given, **settings)

    monkeypatch.setattr("attack_shard.check_network", looking)
    before = gate.rounded_parts("cuda")
    attacked(files, 0, 4, shard=shard, attack=SHORT)
    assert json.loads(Path(shard).read_text())["gate"] == []
    assert (seen, gate.rounded_parts("cuda")) == ([[]], before)

    loud = load_network(files("best.safetensors"))
    with torch.no_grad():
        loud.logits.weight *= 1e6
    model = str(tmp_path / "loud.safetensors")
    save_network(model, loud)
    attacked(files, 0, 4, model=model, shard=shard, attack=SHORT)
    (warning,) = json.loads(Path(shard).read_text())["gate"]
    assert (warning["name"], warning["of"]) == ("scaled-logits", 4)

    Path(shard).unlink()
    with torch.autocast("cpu", torch.bfloat16):
        refused(
            lambda: attacked(files, 0, 4, shard=shard, attack=SHORT), "gate .* autocast", tmp_path
        )


def test_features_of_the_test_images(files, tmp_path):
    out = str(tmp_path / "features.npz")
    extract_features(
        model=files("best.safetensors"), images=files("test.npz"), classes=10, features=out
    )
    with np.load(out) as found:
        assert found["feature"].shape == (12, 8)
        assert found["feature"].dtype == np.float32
        assert np.array_equal(found["label"], read_images(files("test.npz"))["label"])
        assert found["prediction"].shape == (12,)


# ---------------------------------------------------------------- bad input
def refused(call, match, folder):
    before = sorted(folder.iterdir())
    with pytest.raises(InputError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert sorted(folder.iterdir()) == before


def test_damaged_files_stop_in_one_line_and_leave_nothing(files, tmp_path):
    bad = tmp_path / "bad.npz"
    bad.write_bytes(Path(files("train.npz")).read_bytes()[:500])
    model = tmp_path / "bad.safetensors"
    model.write_bytes(Path(files("best.safetensors")).read_bytes()[:-100])
    out = {name: str(tmp_path / name) for name in ("best", "last", "history", "training")}
    shard = str(tmp_path / "shard.json")
    selected = str(tmp_path / "selected.npz")
    calls = [
        lambda: robust(files, train=str(bad), **out),
        lambda: robust(files, synthetic=str(bad), **out),
        lambda: select(files, shards=[str(bad)], images=selected),
        lambda: attacked(files, 0, 8, model=str(model), shard=shard),
        lambda: attacked(files, 0, 8, test=str(bad), shard=shard),
    ]
    for call in calls:
        refused(call, "damaged", tmp_path)


def test_other_faults_stop_in_one_line_and_leave_nothing(files, tmp_path):
    out = {name: str(tmp_path / name) for name in ("best", "last", "history", "training")}
    selected = str(tmp_path / "selected.npz")
    shard = str(tmp_path / "shard.json")
    small = tmp_path / "small.npz"
    write_images(
        small, image=np.zeros((4, 6, 6, 1), np.uint8), label=np.zeros(4, int), index=np.arange(4)
    )
    calls = [
        (lambda: robust(files, synthetic=str(small), **out), "images are"),
        (lambda: robust(files, real=201, **out), "training split has 200"),
        (lambda: robust(files, eps="8", **out), "eps is 8"),
        (lambda: robust(files, settings=TRAINING | {"learning_rate": 1e30}, **out), "loss is nan"),
        (lambda: select(files, rule="best", images=selected), "selection 'best'"),
        (lambda: select(files, candidates=101, images=selected), "101 candidates"),
        (lambda: select(files, synthetic=95, images=selected), "95 images to select"),
        (lambda: attacked(files, 16, 24, shard=shard), "none of the 12"),
        (lambda: attacked(files, 0, 8, attack=ATTACK | {"eps": "2"}, shard=shard), "eps"),
        (
            lambda: label_images(
                images=str(small),
                labeler=files("labeler.safetensors"),
                conditional=False,
                labelled=selected,
            ),
            "expected",
        ),
    ]
    for call, match in calls:
        refused(call, match, tmp_path)


def test_selecting_none_needs_no_torch(files, tmp_path):
    folder = Path(select_images.__globals__["__file__"]).parent
    code = (
        "import sys, select_images as s\n"
        f"s.select_images(shards=[{files('labelled0.npz')!r}], rule='none', synthetic=5, "
        "candidates=9, classes=10, real=1, seed=0, eps='1/10', step_size='1/40', "
        f"attack_steps=1, images={str(tmp_path / 'out.npz')!r})\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, check=False).returncode == 0
