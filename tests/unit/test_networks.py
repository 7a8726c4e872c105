"""Networks: shapes, reproducible initialisation, and refused settings."""

import pytest
import torch

from contrastdp.device import device
from contrastdp.networks import build_network
from contrastdp.records import InputError

SIZES = {"channels": 1, "classes": 10, "image_size": 8, "width": 4, "features": 6}


def test_forward_is_logits_of_features():
    network = build_network("small_cnn", **SIZES)
    x = torch.rand(3, 1, 8, 8)
    assert network.features(x).shape == (3, 6)
    assert network(x).shape == (3, 10)
    torch.testing.assert_close(network(x), network.logits(network.features(x)))


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
    ],
)
def test_bad_settings_are_one_line(name, change, message):
    with pytest.raises(InputError, match=message) as caught:
        build_network(name, **SIZES | change)
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
