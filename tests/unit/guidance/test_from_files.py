"""A generator's guidance from files: which networks and images it reads, and how."""

import numpy as np
import pytest
import torch

from contrastdp.data.images import write_images
from contrastdp.data.tensors import draw_subset, read_tensors
from contrastdp.errors import InputError
from contrastdp.guidance.classifier import ClassifierGuidance
from contrastdp.guidance.contrastive import ContrastiveGuidance
from contrastdp.guidance.from_files import load_guidance, real_features
from contrastdp.networks.build import build_network
from contrastdp.networks.checkpoint import load_network, save_network
from contrastdp.streams import derive_seed

HNM = {"loss": "hnm", "lambda": 1.0, "tau": 1.0, "head": 0}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An encoder, a labeler and 60 training images of three classes, class-sorted."""
    folder = tmp_path_factory.mktemp("files")
    for seed, name in enumerate(("encoder", "labeler")):
        network = build_network(
            "small_cnn", channels=1, classes=3, image_size=8, width=4, features=8, seed=seed
        )
        save_network(folder / f"{name}.safetensors", network)
    image = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
    write_images(folder / "train.npz", image=image, label=np.repeat(np.arange(3), 20))
    return {
        "encoder": str(folder / "encoder.safetensors"),
        "labeler": str(folder / "labeler.safetensors"),
        "train": str(folder / "train.npz"),
    }


def load(settings, files, **changed):
    known = {"classes": 3, "real": 30, "batch": 12, "seed": 4, "abar": lambda t: 0.5}
    known |= {"device": torch.device("cpu")} | changed
    return load_guidance(settings, **files, **known)


def test_no_settings_no_guidance(files):
    assert load(None, dict.fromkeys(files)) is None


@pytest.mark.parametrize("view", ["unit", "raw"])
def test_real_features_are_of_a_balanced_fixed_part_of_the_known_images(files, view):
    settings = HNM | {"pairs": "real_negative", "encoder_input": view}
    found = load(settings, files).real
    assert torch.equal(found, load(settings, files).real)
    assert not torch.equal(found, load(settings, files, seed=5).real)
    assert len(found) == 12
    x, y = read_tensors(files["train"], classes=3, device="cpu", real=30, seed=4)
    chosen = draw_subset(y.numpy(), 12, derive_seed(4, "guidance real"))
    assert y[chosen].bincount().tolist() == [4, 4, 4]
    seen = x[chosen] if view == "unit" else 2 * x[chosen] - 1
    with torch.no_grad():
        expected = load_network(files["encoder"]).features(seen)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_there_are_no_more_real_features_than_real_images(files):
    assert len(load(HNM | {"pairs": "real_positive"}, files, real=9).real) == 9


def test_real_features_are_rounded_in_bfloat16(files):
    features = load_network(files["encoder"]).features
    x = torch.rand(5, 1, 8, 8)
    exact, rough = real_features(features, x), real_features(features, x, precision="bfloat16")
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(exact, rough, rtol=0.05, atol=0.01)


def test_networks_are_frozen_and_the_labeler_is_read_where_it_is_needed(files):
    guidance = load(HNM | {"pairs": "class_conditional"}, files)
    assert isinstance(guidance, ContrastiveGuidance)
    for function in (guidance.features.__self__, guidance.labeler):
        assert not any(p.requires_grad for p in function.parameters())
    assert load(HNM, files).labeler is None


def test_a_classifier_guides_by_its_logits(files):
    settings = {"loss": "classifier", "lambda": 3.0, "window_low": 100}
    guidance = load(settings, files, micro_batch=2)
    assert isinstance(guidance, ClassifierGuidance)
    assert (guidance.lambda_, guidance.window[0], guidance.micro_batch) == (3.0, 100, 2)
    guidance.start([0, 1, 2], [500, 100])
    assert guidance(torch.zeros(3, 1, 8, 8), 500).shape == (3, 1, 8, 8)


@pytest.mark.parametrize(
    ("settings", "missing"),
    [(HNM, "encoder"), (HNM | {"pairs": "real_positive"}, "train")],
)
def test_a_file_that_is_not_given_is_named(files, settings, missing):
    with pytest.raises(InputError, match=f"needs the file '{missing}'"):
        load(settings, files | {missing: None})
