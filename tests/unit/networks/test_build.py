"""Networks: shapes, reproducible initialisation, and refused settings."""

import json

import pytest
import torch

from contrastdp.errors import InputError
from contrastdp.jobs.device import device
from contrastdp.networks.build import ARCHITECTURES, build_network, frozen

SIZES = {"channels": 1, "classes": 10, "image_size": 8, "width": 4, "features": 6}
COLOUR = {"channels": 3, "classes": 4, "image_size": 8, "mean": [0.5] * 3, "std": [0.2] * 3}
ALL = {
    "small_cnn": SIZES,
    "mnist_cnn": {"channels": 1, "classes": 10, "image_size": 28},
    "wide_resnet": {**COLOUR, "depth": 10, "width": 1},
    "preact_resnet": {**COLOUR, "width": 2},
    "time_unet": {"channels": 1, "classes": 10, "image_size": 8, "width": 8, "depth": 1},
}
ALL["time_unet"] |= {"multipliers": [1, 2], "attention": [4], "head_size": 8, "groups": 4}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_forward_is_logits_of_features(name):
    network = build_network(name, **ALL[name]).eval()
    x = torch.rand(3, *(ALL[name][side] for side in ("channels", "image_size", "image_size")))
    given = (x, torch.arange(3)) if network.time_dependent else (x,)
    assert network.features(*given).shape == (3, network.logits.in_features)
    assert network(*given).shape == (3, ALL[name]["classes"])
    torch.testing.assert_close(network(*given), network.logits(network.features(*given)))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_settings_pass_through_json_and_build_the_same_network(name):
    network = build_network(name, **ALL[name], seed=4)
    again = build_network(**json.loads(json.dumps(network.settings)), seed=4)
    assert again.settings == network.settings
    assert again.settings.items() >= ALL[name].items()
    for a, b in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert "seed" not in network.settings


def test_defaults_are_among_the_settings():
    # so that a later default does not change a network on disk
    settings = build_network("wide_resnet", **ALL["wide_resnet"]).settings
    assert (settings["activation"], settings["momentum"]) == ("silu", 0.01)
    settings = build_network("wide_resnet", **ALL["wide_resnet"], activation="relu").settings
    assert settings["activation"] == "relu"


def test_networks_with_batch_norm_are_frozen_as_they_are():
    network = build_network("wide_resnet", **ALL["wide_resnet"]).eval()
    assert frozen(network) is network


def test_small_cnn_parameter_count_by_hand():
    network = build_network("small_cnn", **SIZES)
    by_hand = (9 * 4 + 4) + (9 * 4 * 8 + 8) + (8 * 16 * 6 + 6) + (6 * 10 + 10)
    assert sum(p.numel() for p in network.parameters()) == by_hand


def test_odd_image_size_and_colour():
    network = build_network("small_cnn", **SIZES | {"image_size": 7, "channels": 3})
    assert network(torch.rand(2, 3, 7, 7)).shape == (2, 10)


def test_seed_decides_the_weights_and_leaves_the_global_stream_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = (build_network("small_cnn", **SIZES, seed=s).linear.weight for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("small_cn", {}, "small_cnn"),
        ("small_cnn", {"widht": 4}, "widht"),
        ("small_cnn", {"width": 0}, "width is 0"),
        ("small_cnn", {"width": "4"}, "width is '4'"),
        ("small_cnn", {"features": 2.0}, "features is 2.0"),
        ("small_cnn", {"classes": True}, "classes is True"),
        ("mnist_cnn", {"width": 4}, "width"),
        ("wide_resnet", {"mean": [0.5]}, "mean is \\[0.5\\], must be a list of 3 numbers"),
        ("wide_resnet", {"mean": 0.5}, "mean is 0.5"),
        ("wide_resnet", {"std": [0.2, 0.2, "a"]}, "std is"),
        ("wide_resnet", {"std": [0.2, 0.2, float("nan")]}, "std is"),
        ("wide_resnet", {"std": [0.2, 0.0, 0.2]}, "std is .*, must be above 0"),
        ("wide_resnet", {"channels": 1}, "mean is .*, must be a list of 1 numbers"),
        ("wide_resnet", {"activation": "swish"}, "activation is 'swish', must be relu or silu"),
        ("wide_resnet", {"momentum": 0.0}, "momentum is 0.0"),
        ("preact_resnet", {"momentum": 1.5}, "momentum is 1.5"),
        ("preact_resnet", {"depth": 18}, "depth"),
        ("time_unet", {"multipliers": 2}, "multipliers is 2, must be a list of whole numbers"),
        ("time_unet", {"attention": [4, 0]}, "attention is \\[4, 0\\]"),
        ("time_unet", {"attention": [5]}, "attention is at 5 pixels a side, .* have 8, 4; choose"),
        ("time_unet", {"groups": 3}, "groups is 3, which does not divide 8"),
        ("time_unet", {"head_size": 5}, "head_size is 5, which does not divide 16"),
        ("time_unet", {"multipliers": [1] * 5}, "images of 8 pixels a side can be halved 3 times"),
        ("time_unet", {"num_train_timesteps": 0}, "num_train_timesteps is 0"),
    ],
)
def test_bad_settings_are_one_line(name, change, message):
    with pytest.raises(InputError, match=message) as caught:
        build_network(name, **ALL.get(name, SIZES) | change)
    assert "\n" not in str(caught.value)


def test_missing_size_is_one_line():
    with pytest.raises(InputError, match="features"):
        build_network("small_cnn", channels=1, classes=10, image_size=8, width=4)


def test_device():
    assert device("cpu") == torch.device("cpu")
    assert device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InputError, match="tpu"):
        device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no usable GPU"):
            device("cuda")
