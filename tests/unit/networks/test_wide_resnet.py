"""WideResNet: sizes, names and arithmetic against counts and a slow version written out here."""

import numpy as np
import pytest
import torch

from contrastdp.errors import InputError
from contrastdp.networks.build import build_network

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]
SMALL = {"channels": 3, "classes": 5, "image_size": 8, "depth": 10, "width": 2}
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

# RobustBench's DMWideResNet, depth 10, any width from 2 on
NAMES = {
    "init_conv.weight",
    *(f"batchnorm.{part}" for part in NORM),
    "logits.weight",
    "logits.bias",
    "layer.0.block.0.conv_0.weight",
    "layer.0.block.0.conv_1.weight",
    "layer.0.block.0.shortcut.weight",
    *(f"layer.0.block.0.batchnorm_0.{part}" for part in NORM),
    *(f"layer.0.block.0.batchnorm_1.{part}" for part in NORM),
    "layer.1.block.0.conv_0.weight",
    "layer.1.block.0.conv_1.weight",
    "layer.1.block.0.shortcut.weight",
    *(f"layer.1.block.0.batchnorm_0.{part}" for part in NORM),
    *(f"layer.1.block.0.batchnorm_1.{part}" for part in NORM),
    "layer.2.block.0.conv_0.weight",
    "layer.2.block.0.conv_1.weight",
    "layer.2.block.0.shortcut.weight",
    *(f"layer.2.block.0.batchnorm_0.{part}" for part in NORM),
    *(f"layer.2.block.0.batchnorm_1.{part}" for part in NORM),
}


def wide(**change):
    return build_network("wide_resnet", **{**SMALL, "mean": MEAN, "std": STD, **change})


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.fixture
def used():
    """A network whose BatchNorm weights and statistics are not their initial zeros and ones."""
    network = wide().double()
    generator = torch.Generator().manual_seed(2)
    for name, value in network.state_dict().items():
        if "batchnorm" in name and value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator, dtype=torch.double) + 0.5)
    return network.eval()


# ---------------------------------------------------------------- a slow version
def convolve(x, weight, stride, pad):
    """(N, C, H, W) with (K, C, a, a); pad: before and after, of both axes."""
    x = np.pad(x, ((0, 0), (0, 0), pad, pad))
    area = weight.shape[-1]
    side = (x.shape[-1] - area) // stride + 1
    out = np.empty((len(x), len(weight), side, side))
    for i in range(side):
        for j in range(side):
            patch = x[:, :, i * stride : i * stride + area, j * stride : j * stride + area]
            out[:, :, i, j] = np.tensordot(patch, weight, axes=((1, 2, 3), (1, 2, 3)))
    return out


def activated(x, state, name):
    """BatchNorm with running statistics, then x * sigmoid(x)."""
    mean, var, scale, shift = (
        state[f"{name}.{part}"][None, :, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    x = (x - mean) / np.sqrt(var + 1e-5) * scale + shift
    return x / (1 + np.exp(-x))


def slow_wide_resnet(state, x):
    """Features and logits of a WideResNet of depth 10."""
    mean, std = (np.float32(values).astype(float)[:, None, None] for values in (MEAN, STD))
    x = (x - mean) / std
    x = convolve(x, state["init_conv.weight"], 1, (1, 1))
    for group, stride in enumerate((1, 2, 2)):
        name = f"layer.{group}.block.0"
        h = activated(x, state, f"{name}.batchnorm_0")
        short = convolve(h, state[f"{name}.shortcut.weight"], stride, (0, 0))
        pad = (1, 1) if stride == 1 else (0, 1)
        h = convolve(h, state[f"{name}.conv_0.weight"], stride, pad)
        h = activated(h, state, f"{name}.batchnorm_1")
        x = short + convolve(h, state[f"{name}.conv_1.weight"], 1, (1, 1))
    features = activated(x, state, "batchnorm").mean(axis=(2, 3))
    return features, features @ state["logits.weight"].T + state["logits.bias"]


def test_features_and_logits_equal_the_slow_version(used):
    x = torch.rand(2, 3, 8, 8, dtype=torch.double)
    state = {name: value.numpy() for name, value in used.state_dict().items()}
    features, logits = slow_wide_resnet(state, x.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(used.features(x), features, rtol=1e-9)
        np.testing.assert_allclose(used(x), logits, rtol=1e-9)


def test_block_without_change_of_channels_keeps_its_input():
    network = wide(depth=16).eval()
    block = network.layer[1].block[1]
    assert block.shortcut is None
    torch.nn.init.zeros_(block.conv_1.weight)
    x = torch.randn(2, 64, 4, 4)
    assert torch.equal(block(x), x)


# ---------------------------------------------------------------- sizes and names
def test_parameter_counts_of_the_papers_networks():
    # on the meta device a network takes no memory
    with torch.device("meta"):
        large = wide(classes=10, image_size=32, depth=28, width=10)
        signs = wide(classes=43, image_size=32, depth=28, width=10)
    assert parameters(large) == 36_479_194
    assert parameters(signs) == 36_500_347
    norms = [p for name, p in large.named_parameters() if "batchnorm" in name]
    assert sum(p.numel() for p in norms) == 17_952


def test_names_are_robustbenchs():
    assert set(wide().state_dict()) == NAMES


def test_names_of_depth_28():
    with torch.device("meta"):
        names = set(wide(depth=28, width=10).state_dict())
    expected = {"init_conv.weight", "logits.weight", "logits.bias"}
    expected |= {f"batchnorm.{part}" for part in NORM}
    for group in range(3):
        expected.add(f"layer.{group}.block.0.shortcut.weight")
        for block in range(4):
            for i in range(2):
                name = f"layer.{group}.block.{block}."
                expected.add(f"{name}conv_{i}.weight")
                expected |= {f"{name}batchnorm_{i}.{part}" for part in NORM}
    assert names == expected


@pytest.mark.parametrize(("channels", "side"), [(3, 32), (1, 28), (1, 32), (3, 28), (3, 30)])
def test_sides_and_channels(channels, side):
    network = wide(
        channels=channels, image_size=side, mean=[0.5] * channels, std=[0.25] * channels, width=1
    )
    x = torch.rand(2, channels, side, side)
    assert network.features(x).shape == (2, 64)
    assert network(x).shape == (2, 5)


@pytest.mark.parametrize("depth", [4, 12, 27])
def test_impossible_depth(depth):
    with pytest.raises(InputError, match=f"depth is {depth}") as caught:
        wide(depth=depth)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- settings
def test_pixels_are_normalised_inside():
    ours = wide().eval()
    neutral = wide(mean=[0.0] * 3, std=[1.0] * 3).eval()
    x = torch.rand(2, 3, 8, 8)
    normalised = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(ours(x), neutral(normalised), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours(x), neutral(x), atol=1e-3)


@pytest.mark.parametrize("momentum", [0.01, 0.3])
def test_momentum_of_running_statistics(momentum):
    network = wide(momentum=momentum).train()
    x = torch.rand(4, 3, 8, 8)
    first = network.layer[0].block[0].batchnorm_0
    h = network.init_conv(network.normalised(x)).detach()
    network(x)
    torch.testing.assert_close(first.running_mean, momentum * h.mean(dim=(0, 2, 3)))
    before = first.running_mean.clone()
    network.eval()(x)
    assert torch.equal(first.running_mean, before)


def test_default_momentum_and_eps_of_every_norm():
    norms = [m for m in wide().modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 7
    assert {(m.momentum, m.eps) for m in norms} == {(0.01, 1e-5)}


def test_activation_is_a_setting():
    x = torch.rand(2, 3, 8, 8)
    assert (wide(activation="relu").features(x) >= 0).all()
    assert (wide().features(x) < 0).any()


def test_initial_weights():
    network = wide(width=8)
    weight = network.layer[2].block[0].conv_1.weight  # 512 x 512 x 3 x 3
    assert weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert not network.logits.bias.any()
