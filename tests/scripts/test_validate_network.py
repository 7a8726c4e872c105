"""validate_network: which images it looks at, and what it says of them."""

import numpy as np
import pytest

from contrastdp.data.images import write_images
from contrastdp.data.tensors import to_tensor
from contrastdp.errors import InputError
from contrastdp.files import read_json
from contrastdp.networks.build import build_network
from contrastdp.networks.checkpoint import load_network, save_network
from contrastdp.report.tables import caption, read_evaluations, robustness_table
from validate_network import validate_network

ATTACK = {"norm": "Linf", "eps": "1/10", "seed": 3, "batch": 7}
ROW = {"dataset": "toy", "arm": "plain", "generator": None, "real": 10, "synthetic": 0}
ROW |= {"trainer": "trades", "selection": None}


@pytest.fixture
def inputs(tmp_path):
    sizes = {"channels": 1, "classes": 3, "image_size": 4, "width": 8, "features": 16}
    paths = {name: str(tmp_path / name) for name in ("model", "train")}
    save_network(paths["model"], build_network("small_cnn", **sizes, seed=1))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 4, 4, 1), dtype=np.uint8)
    guess = load_network(paths["model"])(to_tensor(image)).argmax(dim=1).numpy()
    wrong = rng.random(40) < 0.3
    write_images(paths["train"], image=image, label=np.where(wrong, (guess + 1) % 3, guess))
    return paths


def run(inputs, folder, seed=7, images=100, step_size="1/40", **changes):
    path = folder / f"evaluation{seed}.json"
    validate_network(
        **inputs,
        classes=3,
        attack=ATTACK | changes,
        step_size=step_size,
        steps=5,
        images=images,
        identity=ROW | {"seed": seed},
        evaluation=str(path),
        device="cpu",
    )
    return read_json(path)


def test_accuracies_are_of_the_images_that_the_seed_left_out(inputs, tmp_path, monkeypatch):
    import validate_network as script

    seen = {}
    measure = script.accuracies

    def watched(network, x, y, attack, batch):
        seen.update(vars(attack), x=x, y=y, batch=batch)
        return measure(network, x, y, attack, batch)

    monkeypatch.setattr(script, "accuracies", watched)
    found = run(inputs, tmp_path)
    assert found["n_test"] == len(seen["y"]) == 30
    assert (seen["eps"], seen["step_size"], seen["steps"], seen["batch"]) == (0.1, 0.025, 5, 7)
    guess = load_network(inputs["model"])(seen["x"]).argmax(dim=1)
    assert found["clean_accuracy"] == pytest.approx(float((guess == seen["y"]).float().mean()))
    assert 0 <= found["robust_accuracy"] <= found["clean_accuracy"] < 1


def test_a_ball_of_no_size_breaks_nothing_and_the_whole_range_nearly_all(inputs, tmp_path):
    tiny = run(inputs, tmp_path, eps="1/1000000", step_size="1/1000000")
    assert tiny["robust_accuracy"] == tiny["clean_accuracy"] > 0.5
    assert run(inputs, tmp_path, eps="99/100", step_size="1/4")["robust_accuracy"] < 0.2


def test_a_table_names_images_and_attack(inputs, tmp_path):
    for seed in (7, 8):
        run(inputs, tmp_path, seed=seed, images=20)
    paths = [str(tmp_path / f"evaluation{seed}.json") for seed in (7, 8)]
    found = read_evaluations(paths)
    table = robustness_table(found, [ROW | {"seeds": [7, 8], "title": "Plain"}])
    assert list(table["n_test"]) == [20]
    said = caption(found, table)
    assert "20 held-out training images; PGD on the margin (pgd 5), Linf ball of eps = 1/10" in said


def test_a_seed_that_was_trained_on_all_images_has_none_left(inputs, tmp_path):
    with pytest.raises(InputError, match="all its 40 images are trained on"):
        validate_network(
            **inputs,
            classes=3,
            attack=ATTACK,
            step_size="1/40",
            steps=5,
            images=10,
            identity=ROW | {"seed": 0, "real": 40},
            evaluation=str(tmp_path / "none.json"),
        )
    assert not (tmp_path / "none.json").exists()
