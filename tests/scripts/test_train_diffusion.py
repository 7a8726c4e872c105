"""train_diffusion: what it trains on, what it writes, and a model that others trained."""

import hashlib
import json

import numpy as np
import pytest
import torch

from contrastdp.data.images import write_images
from contrastdp.data.tensors import draw_subset
from contrastdp.diffusion.denoisers import build_denoiser, load_denoiser, save_denoiser
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.errors import InputError
from contrastdp.files import read_csv
from contrastdp.streams import derive_seed
from train_diffusion import train_diffusion

SCHEDULE = {"num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2", "clip_sample": True}
NETWORK = {"architecture": "small_denoiser", "width": 8, "inner": 8, "depth": 1, "patch": 2}
TRAINING = {"steps": 12, "batch": 8, "learning_rate": 1e-2, "warmup": 2, "clip_norm": 1.0}
TRAINING |= {"averaging": 0.9, "shift": 1, "flip": True, "micro_batch": 4, "decay": "constant"}


@pytest.fixture
def images(tmp_path):
    """40 images of three classes, in a file; those drawn under seed 5 are grey, the rest black."""
    label = np.arange(40) % 3
    image = np.zeros((40, 8, 8, 3), dtype=np.uint8)
    image[draw_subset(label, 30, derive_seed(5, "subset"))] = 200
    write_images(tmp_path / "train.npz", image=image, label=label)
    return tmp_path / "train.npz"


def train(images, folder, *, training=TRAINING, network=NETWORK, **changed):
    known = {"classes": 3, "conditional": True, "schedule": SCHEDULE, "real": 30, "seed": 5}
    train_diffusion(
        train=str(images),
        network=network,
        training=training,
        model=str(folder / "model"),
        history=str(folder / "history.csv"),
        metrics=str(folder / "metrics.json"),
        device="cpu",
        **(known | changed),
    )
    return json.loads((folder / "metrics.json").read_text())


def test_a_model_its_history_and_its_metrics(images, tmp_path):
    found = train(images, tmp_path / "a")
    model, scheduler = load_denoiser(tmp_path / "a" / "model")
    assert (model.config.num_class_embeds, model.config.channels) == (3, 3)
    assert (model.config.image_size, model.config.beta_schedule) == (8, "squaredcos_cap_v2")
    assert scheduler.config.clip_sample is True
    history = read_csv(tmp_path / "a" / "history.csv")
    assert [int(row["step"]) for row in history] == list(range(1, 13))
    assert found["loss"] == float(history[-1]["loss"])
    assert found["pretrained"] is None
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["provenance"]["settings"]["training"] == TRAINING
    train(images, tmp_path / "b")
    for name in ("model/unet/diffusion_pytorch_model.safetensors", "history.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_it_sees_the_drawn_images_alone(images, tmp_path, monkeypatch):
    seen = {}

    def keep(denoiser, image, label, **options):
        seen.update(options, image=image, label=label)
        yield {"step": 1, "loss": 0.5}

    monkeypatch.setattr("train_diffusion.train_denoiser", keep)
    told = train(images, tmp_path, training=TRAINING | {"precision": "bfloat16"})
    assert seen["image"].shape == (30, 3, 8, 8)
    torch.testing.assert_close(seen["image"], torch.full((30, 3, 8, 8), 200 / 255))
    assert seen["label"].bincount().tolist() == [10, 10, 10]
    assert torch.equal(seen["abar"], SubsequenceScheduler(**SCHEDULE).alphas_cumprod)
    assert told["provenance"]["precision"] == "bfloat16"
    train(images, tmp_path, conditional=False)
    assert seen["label"] is None


@pytest.fixture
def theirs(tmp_path):
    """A conditional model as diffusers saves it, and its weights' file."""
    torch.manual_seed(0)
    blocks = {"block_out_channels": [8], "norm_num_groups": 4, "layers_per_block": 1}
    blocks |= {"down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}
    unet = build_denoiser("unet2d", image_size=8, channels=3, classes=3, **blocks)
    save_denoiser(tmp_path / "theirs", unet, SubsequenceScheduler(**SCHEDULE))
    return tmp_path / "theirs"


def test_a_pretrained_model_stands_in_the_place_of_training(images, tmp_path, theirs):
    found = train(images, tmp_path, pretrained=str(theirs), network=None, training=None)
    weights = theirs / "unet" / "diffusion_pytorch_model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert found["pretrained"]["source"] == str(theirs)
    assert found["pretrained"]["sha256"] == digest
    assert found["loss"] is None
    assert read_csv(tmp_path / "history.csv") == []
    x, label = torch.randn(3, 3, 8, 8), torch.arange(3)
    outputs = [
        load_denoiser(folder)[0](x, 7, class_labels=label).sample
        for folder in (theirs, tmp_path / "model")
    ]
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"conditional": False}, "number of classes"),
        ({"schedule": SCHEDULE | {"beta_schedule": "linear"}}, "squaredcos_cap_v2"),
        ({"pretrained": "no/such/folder"}, "no such folder"),
    ],
)
def test_a_pretrained_model_that_does_not_fit_writes_nothing(
    images, tmp_path, theirs, changed, words
):
    with pytest.raises(InputError, match=words):
        train(images, tmp_path / "out", **({"pretrained": str(theirs)} | changed))
    assert not (tmp_path / "out").exists()


def test_a_skip_that_disagrees_with_the_schedule_is_refused(images, tmp_path):
    with pytest.raises(InputError, match="beta_schedule is linear"):
        train(images, tmp_path, network=NETWORK | {"beta_schedule": "linear"})
