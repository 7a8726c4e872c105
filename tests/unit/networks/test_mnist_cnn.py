"""The paper's MNIST classifier: its size and its function, written out in the paper's order."""

import pytest
import torch
from torch.nn import functional as F

from contrastdp.errors import InputError
from contrastdp.networks import mnist_cnn
from contrastdp.networks.build import build_network
from contrastdp.networks.mnist_cnn import convolution_matrix, pooled_convolution

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


def test_batches_of_any_size(monkeypatch):
    network = build_network("mnist_cnn", **SIZES)
    x = torch.rand(7, 1, 28, 28)
    expected = network(x)
    monkeypatch.setattr(mnist_cnn, "IMAGES_AT_ONCE", 3)
    torch.testing.assert_close(network(x), expected)
    assert network(x[:0]).shape == (0, 10)


def test_without_columns_under_autocast():
    network = build_network("mnist_cnn", **SIZES)
    x = torch.rand(3, 1, 28, 28, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = network(x)
    assert z.dtype == torch.bfloat16
    torch.testing.assert_close(z.float(), network(x), rtol=0.05, atol=0.02)
    z.sum().backward()
    assert x.grad.isfinite().all()


# ---------------------------------------------------------------- convolutions in columns
def test_pooled_convolution_passes_gradcheck():
    generator = torch.Generator().manual_seed(3)
    x, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.double, requires_grad=True)
        for shape in ((1, 2, 2, 4, 4, 2), (12, 16), (3,))
    )
    assert torch.autograd.gradcheck(lambda *a: pooled_convolution(*a, 2), (x, weight, bias))


def test_the_first_of_equal_values_takes_the_gradient():
    # an even image makes every window's four values equal
    network = build_network("mnist_cnn", **SIZES)
    x = torch.zeros(2, 1, 28, 28, requires_grad=True)
    (expected,) = torch.autograd.grad(in_the_papers_order(network, x)[1][:, 3].sum(), x)
    (found,) = torch.autograd.grad(network(x)[:, 3].sum(), x)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected)


def test_convolution_matrix_is_the_convolution():
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(3, 2, 5, 5, generator=generator)
    x = torch.randn(1, 2, 8, 8, generator=generator)
    expected = F.conv2d(x, weight)  # (1, 3, 4, 4)
    found = (convolution_matrix(weight, 8) @ x.flatten()).view(2, 2, 3, 2, 2)
    for row in range(2):
        for column in range(2):
            torch.testing.assert_close(found[row, column], expected[0, :, row::2, column::2])


def test_images_too_small():
    assert build_network("mnist_cnn", **SIZES | {"image_size": 16})
    with pytest.raises(InputError, match="image_size is 15") as caught:
        build_network("mnist_cnn", **SIZES | {"image_size": 15})
    assert "\n" not in str(caught.value)
