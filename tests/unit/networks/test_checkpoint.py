"""Checkpoints: what is written is read back; damage is told in one line."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from contrastdp.errors import InputError
from contrastdp.networks.build import build_network
from contrastdp.networks.checkpoint import load_network, save_network

SIZES = {"channels": 1, "classes": 4, "image_size": 8, "width": 2, "features": 6}


@pytest.fixture
def saved(tmp_path):
    network = build_network("small_cnn", **SIZES, seed=3)
    path = tmp_path / "model.safetensors"
    save_network(path, network)
    return path, network


def refused(path, match):
    with pytest.raises(InputError, match=match) as caught:
        load_network(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_round_trip_gives_the_same_function_and_settings(saved):
    path, network = saved
    read = load_network(path)
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(read(x), network(x))
    assert read.settings == {"architecture": "small_cnn", **SIZES}
    assert not read.training
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


def test_batch_norm_statistics_and_pixel_settings_round_trip(tmp_path):
    network = build_network(
        "wide_resnet",
        channels=3,
        classes=4,
        image_size=8,
        depth=10,
        width=1,
        mean=[0.4914, 0.4822, 0.4465],
        std=[0.2471, 0.2435, 0.2616],
        momentum=0.5,
    )
    x = torch.rand(6, 3, 8, 8)
    network.train()(x)
    path = tmp_path / "model.safetensors"
    save_network(path, network)
    read = load_network(path)
    assert read.settings == network.settings
    assert torch.equal(read(x), network.eval()(x))
    assert read.batchnorm.num_batches_tracked == 1
    assert {"mean", "std"}.isdisjoint(load_file(path))


def test_missing(tmp_path):
    refused(tmp_path / "none.safetensors", "no such file")


@pytest.mark.parametrize("keep", [0, 4, 100, -50])
def test_truncated(saved, keep):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "damaged")


def test_other_file(saved):
    path, _ = saved
    path.write_text("weights?" * 20)
    refused(path, "damaged")


def metadata():
    return {"network": json.dumps({"architecture": "small_cnn", **SIZES})}


def test_wrong_keys_shapes_and_values(saved):
    path, _ = saved
    state = load_file(path)
    save_file({k: v for k, v in state.items() if k != "logits.bias"}, path, metadata())
    refused(path, "no weight 'logits.bias'")
    save_file(state | {"module.x": torch.zeros(2)}, path, metadata())
    refused(path, "unknown weight 'module.x'")
    save_file(state | {"logits.bias": torch.zeros(5)}, path, metadata())
    refused(path, "'logits.bias' is \\(5,\\)")
    save_file(state | {"logits.bias": torch.full((4,), torch.nan)}, path, metadata())
    refused(path, "not finite; if a job wrote it, delete it")


def test_no_or_bad_settings(saved):
    path, _ = saved
    state = load_file(path)
    save_file(state, path)
    refused(path, "no usable network settings")
    save_file(state, path, {"network": "{"})
    refused(path, "no usable network settings")
    save_file(state, path, {"network": json.dumps({"architecture": "wide_resnet", **SIZES})})
    refused(path, "missing a required")
