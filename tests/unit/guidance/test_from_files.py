"""A generator's guidance from files: which networks and images it reads, and how."""

import numpy as np
import pytest
import torch

from contrastdp.data.images import write_images
from contrastdp.data.tensors import draw_subset, read_tensors
from contrastdp.errors import InputError
from contrastdp.guidance import from_files
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


# ---------------------------------------------------------------- sums
def test_a_sum_has_each_parts_own_networks(files):
    """encoder: a file for each different name, in the order of the parts; labeler likewise."""
    by_classes = HNM | {"pairs": "class_conditional", "encoder": "second"}
    parts = {
        "logits": {"loss": "classifier", "lambda": 3.0, "classifier": "first"},
        "classes": by_classes,
        "again": by_classes | {"encoder": "first", "pairs": "previous"},
    }
    given = {
        "encoder": [files["labeler"], files["encoder"]],
        "labeler": [files["labeler"]],
        "train": None,
    }
    whole = load({"loss": "sum", "parts": parts, "direction": "random"}, given)
    assert whole.direction == "random"
    logits, classes, again = whole.parts
    state = torch.rand(3, 1, 8, 8)
    first, second = (load_network(path) for path in given["encoder"])
    with torch.no_grad():
        torch.testing.assert_close(logits.classifier(state), first(state))
        torch.testing.assert_close(classes.features(state), second.features(state))
        torch.testing.assert_close(again.features(state), first.features(state))
        torch.testing.assert_close(classes.labeler(state), first(state))
    assert again.labeler is None
    # the same seeds as alone
    alone = load(by_classes, {"encoder": files["encoder"], "labeler": None, "train": None})
    assert classes.seed == alone.seed


@pytest.mark.parametrize("count", [1, 3])
def test_a_sum_is_given_a_file_for_each_classifier_that_it_reads(files, count):
    """Else a file would be left out, or taken for another classifier's, in silence."""
    parts = {"one": HNM | {"encoder": "first"}, "two": HNM | {"encoder": "second"}}
    encoder = [files["encoder"]] * count if count > 1 else files["encoder"]
    words = rf"'encoder' of 2 classifiers \(first, second\), and {count} are given"
    with pytest.raises(InputError, match=words):
        load({"loss": "sum", "parts": parts}, {"encoder": encoder, "labeler": None, "train": None})


def test_a_sum_with_a_file_too_few(files):
    parts = {"one": HNM | {"encoder": "first"}, "two": HNM | {"encoder": "second"}}
    given = {"encoder": [files["encoder"]], "labeler": None, "train": None}
    with pytest.raises(InputError, match="needs the file 'encoder'"):
        load({"loss": "sum", "parts": parts}, given)
    with pytest.raises(InputError, match="of a guidance that is no sum"):
        load(HNM, given)


# ---------------------------------------------------------------- time-dependent classifiers
class OfTime(torch.nn.Module):
    """What a file of a time-dependent classifier holds, as far as guidance knows it."""

    time_dependent = True

    def __init__(self, abar, classes=3):
        super().__init__()
        self.register_buffer("abar", abar)
        self.settings = {"classes": classes}

    def forward(self, x, t):
        return x.flatten(1)[:, : self.settings["classes"]] * (1 + t[:, None])

    def features(self, x, t):
        return x.flatten(1)


ABAR = torch.linspace(0.99, 0.01, 10, dtype=torch.float64)


@pytest.fixture
def timed(files, monkeypatch):
    """Loading, where the encoder's file holds a time-dependent classifier."""

    def loading(network):
        read = from_files.load_network
        wanted = lambda path, device: network if path == "timed" else read(path, device)  # noqa: E731
        monkeypatch.setattr(from_files, "load_network", wanted)
        return files | {"encoder": "timed"}

    return loading


LOGITS = {"loss": "classifier", "lambda": 2.0, "encoder_input": "raw", "moves": "mean"}


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_time_dependent_classifier_is_told_t(timed, kind):
    network = OfTime(ABAR.to(kind))
    guidance = load(LOGITS, timed(network), schedule=ABAR.float())
    state = torch.randn(3, 1, 2, 2)
    guidance.start([0, 1, 2], [7, 3])
    for t in (7, 3):
        p = (state.flatten(1)[:, :3] * (1 + t)).softmax(1)
        slope = torch.zeros(3, 4)
        slope[:, :3] = (1 + t) * (torch.eye(3) - p)
        torch.testing.assert_close(guidance(state, t, 0.25), 0.5 * slope.view(3, 1, 2, 2))


@pytest.mark.parametrize(
    ("network", "settings", "words"),
    [
        (OfTime(ABAR[:9]), LOGITS, "timed: was trained for 9 timesteps, the denoiser for 10"),
        (OfTime(ABAR**2), LOGITS, "timed: was trained under another noise schedule"),
        (OfTime(torch.ones(10)), LOGITS, "timed: was trained under another noise schedule"),
        (OfTime(ABAR, classes=2), LOGITS, "timed: has 2 classes, the images 3"),
        (OfTime(ABAR), LOGITS | {"encoder_input": "unit"}, "sees x_t as it is"),
        (OfTime(ABAR), HNM, "encoder timed is a time-dependent classifier"),
        (OfTime(ABAR), HNM | {"pairs": "real_negative"}, "is a time-dependent classifier"),
    ],
)
def test_a_time_dependent_classifier_that_does_not_fit(timed, network, settings, words):
    with pytest.raises(InputError, match=words) as caught:
        load(settings, timed(network), schedule=ABAR)
    assert "\n" not in str(caught.value)


def test_a_time_dependent_labeler_is_refused(timed, files):
    given = timed(OfTime(ABAR)) | {"encoder": files["encoder"], "labeler": "timed"}
    with pytest.raises(InputError, match="the labeler is a time-dependent classifier"):
        load(HNM | {"pairs": "class_conditional"}, given)
