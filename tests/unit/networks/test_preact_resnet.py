"""PreAct ResNet-18: size, shapes, padding and order of operations."""

import pytest
import torch
from torch.nn import functional as F

from contrastdp.networks.build import build_network

SMALL = {"channels": 3, "classes": 5, "image_size": 32, "width": 4}
PIXELS = {"mean": [0.3403, 0.3121, 0.3214], "std": [0.2724, 0.2608, 0.2669]}


def resnet(**change):
    return build_network("preact_resnet", **{**SMALL, **PIXELS, **change})


def test_parameter_count_by_formula():
    with torch.device("meta"):
        network = resnet(classes=10, width=64)
    count, inside = 27 * 64, 64
    for outside in (64, 128, 256, 512):
        count += 2 * inside + 9 * inside * outside + 2 * outside + 9 * outside**2  # first block
        count += inside * outside if inside != outside else 0  # its shortcut
        count += 2 * (2 * outside + 9 * outside**2)  # second block
        inside = outside
    count += 2 * 512 + 512 * 10 + 10  # last BatchNorm, logits
    assert count == 11_172_170
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(("channels", "side"), [(3, 32), (1, 28)])
def test_shapes(channels, side):
    network = resnet(
        channels=channels, image_size=side, mean=[0.1] * channels, std=[0.3] * channels
    )
    x = torch.rand(2, channels, side, side)
    assert network.features(x).shape == (2, 32)
    assert network(x).shape == (2, 5)
    torch.testing.assert_close(network(x), network.logits(network.features(x)))


def test_striding_block_by_hand():
    block = resnet().layer[1].block[0].eval()
    generator = torch.Generator().manual_seed(1)
    for norm in (block.batchnorm_0, block.batchnorm_1):
        norm.running_mean.copy_(torch.rand(norm.num_features, generator=generator))
        norm.running_var.copy_(torch.rand(norm.num_features, generator=generator) + 0.5)

    def norm_and_relu(h, norm):
        shape = (1, -1, 1, 1)
        h = h - norm.running_mean.view(shape)
        return (h / (norm.running_var + 1e-5).sqrt().view(shape)).clamp(min=0)

    x = torch.randn(2, 4, 8, 8, generator=generator)
    h = norm_and_relu(x, block.batchnorm_0)
    short = F.conv2d(h[:, :, ::2, ::2], block.shortcut.weight)
    full = F.conv2d(F.pad(h, (1, 1, 1, 1)), block.conv_0.weight)[:, :, ::2, ::2]
    full = F.conv2d(norm_and_relu(full, block.batchnorm_1), block.conv_1.weight, padding=1)
    with torch.no_grad():
        torch.testing.assert_close(block(x), short + full, rtol=1e-4, atol=1e-5)


def test_groups_stride_after_the_first():
    network = resnet().eval()
    h, sides = network.init_conv(torch.rand(1, 3, 32, 32)), []
    for group in network.layer:
        h = group(h)
        sides.append(tuple(h.shape[1:3]))
    assert sides == [(4, 32), (8, 16), (16, 8), (32, 4)]
