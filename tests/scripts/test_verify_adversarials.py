"""The verifier on a small network whose adversarial images come from plain gradient ascent."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from code_graph import ROOT
from torch.nn import functional as F

from contrastdp.attack.adversarial_images import write_adversarial_images
from contrastdp.data.images import write_images
from contrastdp.data.tensors import to_tensor
from contrastdp.files import read_json, write_json
from contrastdp.networks.build import build_network
from contrastdp.networks.checkpoint import save_network
from verify_adversarials import SLACK, logits, read_model, verify

EPS, CLASSES = 0.02, 4
NETWORK = {"architecture": "small_cnn", "width": 4, "features": 8}
NETWORK |= {"channels": 2, "classes": CLASSES, "image_size": 8}


def ascended(network, x, y):
    """Twenty steps of PGD on the cross entropy."""
    found = x.clone()
    for _ in range(20):
        found.requires_grad_(True)
        (g,) = torch.autograd.grad(F.cross_entropy(network(found), y), found)
        found = (found.detach() + 0.005 * g.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Files of 30 test images in shards of 12, and the accuracies counted by hand."""
    folder = tmp_path_factory.mktemp("verified")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (30, 8, 8, 2), dtype=np.uint8)
    x = to_tensor(image)
    network = build_network(**NETWORK).eval()
    with torch.no_grad():
        z = network(x)
        # every class about as often, and every tenth image of another class than predicted
        network.logits.bias -= z.mean(dim=0)
        y = network(x).argmax(dim=1)
    y[::10] = (y[::10] + 1) % CLASSES
    x_adv = ascended(network, x, y)
    with torch.no_grad():
        right, held = network(x).argmax(1) == y, network(x_adv).argmax(1) == y
    broken = ["clean" if not r else "" if h else "pgd" for r, h in zip(right, held, strict=True)]
    save_network(folder / "model.safetensors", network)
    write_images(folder / "test.npz", image=image, label=y.numpy())
    for number, start in enumerate((0, 12, 24)):
        part = slice(start, min(start + 12, 30))
        images = {"index": list(range(30))[part], "label": y[part].tolist()}
        images["broken_by"] = broken[part]
        write_adversarial_images(
            folder / f"shard{number}.npz",
            images,
            x_adv[part],
            folder / "model.safetensors",
            {"norm": "Linf", "eps": "2/100"},
            30,
        )
    robust = broken.count("") / 30
    assert 3 < broken.count("pgd") < 26
    assert robust > 0
    found = {"clean_accuracy": 27 / 30, "robust_accuracy": robust, "attack": {"eps": "0.02"}}
    write_json(folder / "evaluation.json", found)
    return SimpleNamespace(folder=folder, x_adv=x_adv, broken=broken, network=network, x=x, y=y)


@pytest.fixture
def folder(made, tmp_path):
    """A copy of the files, to be tampered with."""
    return shutil.copytree(made.folder, tmp_path / "copy")


def checked(folder, eps="1/50", evaluation=None, shards=(0, 1, 2)):
    """The verifier's headline and faults, with the folder's name taken out."""
    paths = [str(folder / f"shard{number}.npz") for number in shards]
    files = [str(folder / "model.safetensors"), str(folder / "test.npz"), paths]
    line, faults = verify(*files, eps, evaluation and str(folder / evaluation))
    return line, [fault.replace(f"{folder}/", "") for fault in faults]


def change(path, **arrays):
    """Replace arrays of an npz by what functions make of them."""
    with np.load(path) as file:
        content = dict(file)
    content |= {name: made(content[name].copy()) for name, made in arrays.items()}
    np.savez_compressed(path, **content)


# ---------------------------------------------------------------- what is true
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_headline_is_that_counted_by_hand(made, order):
    line, faults = checked(made.folder, shards=order)
    count = made.broken.count("")
    assert not faults
    assert line == (
        f"clean accuracy 90.00%, robust accuracy {count / 30:.2%} ({count} of 30 test images), "
        "Linf, eps = 1/50"
    )
    assert checked(made.folder, eps=None) == (line, [])
    assert checked(made.folder, eps=None, evaluation="evaluation.json") == (line, [])


def test_images_are_kept_float_for_float(made):
    with np.load(made.folder / "shard1.npz") as file:
        index, image = file["index"], file["image"]
    assert index.tolist() == [i for i in range(12, 24) if made.broken[i] == "pgd"]
    assert image.dtype == np.float32
    assert torch.equal(torch.from_numpy(image).permute(0, 3, 1, 2), made.x_adv[index])


def test_a_model_with_statistics_is_read_bit_for_bit(tmp_path):
    settings = {"architecture": "wide_resnet", "depth": 10, "width": 1, "channels": 3}
    settings |= {"classes": 5, "image_size": 8, "mean": [0.5] * 3, "std": [0.2] * 3}
    network = build_network(**settings)
    x = torch.rand(6, 3, 8, 8)
    network.train()(x)  # moves the statistics of BatchNorm
    save_network(tmp_path / "model.safetensors", network)
    found, _ = read_model(tmp_path / "model.safetensors")
    assert not found.training
    with torch.no_grad():
        expected = network.eval()(x).double().numpy()
    assert np.array_equal(logits(found, x.permute(0, 2, 3, 1).numpy()), expected)


def test_the_program_needs_numpy_and_torch_alone(made):
    folder = made.folder
    absent = ("safetensors", "pyautoattack", "snakemake", "diffusers", "scipy", "yaml", "pandas")
    code = (
        f"import runpy, sys\nsys.modules.update(dict.fromkeys({absent}))\n"
        "sys.argv = sys.argv[1:]\nsys.path.insert(0, 'scripts')\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    files = [str(folder / f"{name}") for name in ("model.safetensors", "test.npz")]
    files += [str(folder / f"shard{number}.npz") for number in range(3)]
    command = [sys.executable, "-c", code, "scripts/verify_adversarials.py", *files]

    def ended(*more):
        done = subprocess.run(
            [*command, *more], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert not done.stderr
        return done.returncode, done.stdout

    status, said = ended("--evaluation", str(folder / "evaluation.json"))
    assert (status, said.count("\n")) == (0, 1)
    assert said.startswith("clean accuracy 90.00%")
    status, said = ended("--eps", "1/100")
    assert (status, said.count("\n")) == (1, 3)
    assert "eps is 1/50, not 1/100" in said


# ---------------------------------------------------------------- what is not
def test_an_image_that_is_none(made, folder):
    first = next(i for i in range(12, 24) if made.broken[i] == "pgd")
    clean = made.x[first].permute(1, 2, 0).numpy()

    def restored(image):
        image[0] = clean
        return image

    change(folder / "shard1.npz", image=restored)
    line, faults = checked(folder)
    assert faults == [f"shard1.npz: image {first} is classified correctly"]
    count = made.broken.count("") + 1  # it counts as robust again
    assert f"({count} of 30" in line


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        (np.nan, {"further", "range", "correctly"}),
        (np.float32(-1e-7), {"range"}),
        (np.float32(1 + 2e-7), {"range"}),
    ],
)
def test_pixels_that_cannot_be(made, folder, value, faults):
    with np.load(folder / "shard0.npz") as file:
        image = file["image"]
    dark, bright = np.argwhere(image == 0)[0], np.argwhere(image == 1)[0]
    place = tuple(bright if value > 0.5 else dark)

    def tampered(image):
        image[place] = value
        return image

    change(folder / "shard0.npz", image=tampered)
    found = checked(folder)[1]
    assert len(found) == len(faults)
    assert all(any(word in line for line in found) for word in faults)


@pytest.mark.parametrize(("beyond", "fails"), [(0.5 * SLACK, False), (3 * SLACK, True)])
def test_the_ball_ends_at_eps_and_its_tolerance(made, folder, beyond, fails):
    with np.load(folder / "shard0.npz") as file:
        image, index = file["image"], file["index"]
    clean = made.x[index].permute(0, 2, 3, 1).numpy().astype(np.float64)
    away = image - clean
    inner = (np.abs(away) > EPS - 1e-6) & (image > 0.1) & (image < 0.9)
    place = tuple(np.argwhere(inner)[0])

    def moved(image):
        image[place] = clean[place] + np.sign(away[place]) * (EPS + beyond)
        return image

    change(folder / "shard0.npz", image=moved)
    faults = checked(folder)[1]
    assert [f"shard0.npz: image {index[place[0]]} is further than eps = 1/50 from its clean image"][
        : int(fails)
    ] == faults


def test_an_enlarged_eps(folder):
    change(folder / "shard0.npz", eps=lambda _: "3/100")
    assert checked(folder)[1] == ["shard0.npz: eps is 3/100, not 1/50"]
    assert len(checked(folder, eps=None)[1]) == 2  # the first file's is taken for the others'
    for number in (1, 2):
        change(folder / f"shard{number}.npz", eps=lambda _: "3/100")
    assert not checked(folder, eps=None)[1]
    faults = checked(folder, eps=None, evaluation="evaluation.json")[1]
    assert faults == [f"shard{number}.npz: eps is 3/100, not 1/50" for number in range(3)]


def test_images_further_away_than_the_eps_that_is_claimed(made, folder):
    for number in range(3):
        change(folder / f"shard{number}.npz", eps=lambda _: "1/100")
    faults = checked(folder, eps="1/100")[1]
    assert len(faults) == made.broken.count("pgd")
    assert "further than eps = 1/100" in faults[0]


def test_another_model_also_where_its_digest_was_forged(made, folder):
    save_network(folder / "model.safetensors", build_network(**NETWORK, seed=1))
    faults = checked(folder)[1]
    assert len(faults) == 3
    assert all("model is" in fault for fault in faults)
    sha256 = read_model(folder / "model.safetensors")[1]
    for number in range(3):
        change(folder / f"shard{number}.npz", model=lambda _: sha256)
    faults = checked(folder)[1]
    assert faults
    assert all(fault.endswith("is classified correctly") for fault in faults)


def test_a_shard_that_is_missing_or_there_twice(folder):
    assert checked(folder, shards=(0, 2))[1] == ["images of no shard: 12, first 12"]
    assert checked(folder, shards=(0, 1))[1] == ["images of no shard: 6, first 24"]
    assert checked(folder, shards=(0, 1, 2, 1))[1] == ["images of several shards: 12, first 12"]


def test_an_index_that_is_repeated_or_of_another_shard(folder):
    change(folder / "shard0.npz", index=lambda index: np.r_[index[1], index[1:]])
    change(folder / "shard1.npz", index=lambda index: index + 12)
    fault = "lists an image twice, or one that is not of the shard"
    assert checked(folder)[1] == [f"shard0.npz: {fault}", f"shard1.npz: {fault}"]


def test_other_accuracies_than_are_said(folder):
    said = read_json(folder / "evaluation.json")
    write_json(folder / "evaluation.json", said | {"robust_accuracy": said["robust_accuracy"] / 2})
    faults = checked(folder, eps=None, evaluation="evaluation.json")[1]
    assert len(faults) == 1
    assert faults[0].startswith("evaluation.json: says other accuracies")


def test_nothing_is_unpickled(folder):
    with np.load(folder / "shard0.npz") as file:
        content = dict(file)
    np.savez(folder / "shard0.npz", **content | {"index": np.array([json], dtype=object)[:0]})
    with pytest.raises(ValueError, match="allow_pickle"):
        checked(folder)
