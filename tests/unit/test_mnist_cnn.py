"""The paper's MNIST classifier: its size and its function, written out in the paper's order."""

import pytest
import torch
from torch.nn import functional as F

from contrastdp.networks import build_network
from contrastdp.records import InputError

SIZES = {"channels": 1, "classes": 10, "image_size": 28}


def in_the_papers_order(network, x):
    """Features and logits with ReLU before the pooling."""
    h = F.max_pool2d(F.conv2d(x, network.conv_0.weight, network.conv_0.bias).relu(), 2)
    h = F.max_pool2d(F.conv2d(h, network.conv_1.weight, network.conv_1.bias).relu(), 2)
    features = F.linear(h.flatten(1), network.linear.weight, network.linear.bias).relu()
    return features, F.linear(features, network.logits.weight, network.logits.bias)


def test_parameter_count():
    network = build_network("mnist_cnn", **SIZES)
    by_hand = (25 * 4 + 4) + (25 * 4 * 10 + 10) + (160 * 100 + 100) + (100 * 10 + 10)
    assert by_hand == 18_224
    assert sum(p.numel() for p in network.parameters()) == by_hand


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (1, 17)])
def test_same_function_as_in_the_papers_order(channels, side):
    network = build_network(
        "mnist_cnn", **SIZES | {"channels": channels, "image_size": side}
    ).double()
    x = torch.rand(4, channels, side, side, dtype=torch.double, requires_grad=True)
    features, logits = in_the_papers_order(network, x)
    assert features.shape == (4, 100)
    torch.testing.assert_close(network.features(x), features)
    torch.testing.assert_close(network(x), logits)
    wanted = [x, *network.parameters()]
    expected = torch.autograd.grad(logits.square().sum(), wanted)
    found = torch.autograd.grad(network(x).square().sum(), wanted)
    torch.testing.assert_close(found, expected)


def test_images_too_small():
    assert build_network("mnist_cnn", **SIZES | {"image_size": 16})
    with pytest.raises(InputError, match="image_size is 15") as caught:
        build_network("mnist_cnn", **SIZES | {"image_size": 15})
    assert "\n" not in str(caught.value)
