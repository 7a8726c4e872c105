"""The time-dependent U-Net encoder against sums and passes that are written out by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from contrastdp.errors import InputError
from contrastdp.networks.build import build_network
from contrastdp.networks.checkpoint import load_network, save_network
from contrastdp.networks.time_dependent import TimeUNet

SMALL = {"channels": 2, "classes": 3, "image_size": 7, "width": 8, "depth": 2, "groups": 4}
SMALL |= {"multipliers": [1, 2], "attention": [4], "head_size": 8, "num_train_timesteps": 50}
IMAGENET = {"channels": 3, "classes": 1000, "image_size": 128, "width": 128, "depth": 2}
IMAGENET |= {"multipliers": [1, 1, 2, 3, 4], "attention": [32, 16, 8], "head_size": 64}
CIFAR = {"channels": 3, "classes": 10, "image_size": 32, "width": 32, "depth": 2}
CIFAR |= {"multipliers": [1, 2, 2, 4], "attention": [16, 8], "head_size": 64}


def shaken(settings, seed=0):
    """A network whose branches do not begin at 0."""
    network = build_network("time_unet", **settings, seed=seed).eval()
    stream = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=stream)
    return network


def noisy(settings, count=3):
    side = settings["image_size"]
    x = torch.randn(count, settings["channels"], side, side, generator=torch.Generator())
    return x, torch.arange(count) * 7


# ---------------------------------------------------------------- parameters
def parameters(*, channels, classes, image_size, width, depth, multipliers, attention, head_size):
    """A sum over the layers, each biased: weights + biases."""
    told = 4 * width

    def convolution(inside, outside, side):
        return side * side * inside * outside + outside

    def linear(inside, outside):
        return inside * outside + outside

    def residual(inside, outside):
        short = 0 if inside == outside else convolution(inside, outside, 1)
        norms = 2 * inside + 2 * outside
        both = convolution(inside, outside, 3) + convolution(outside, outside, 3)
        return norms + both + linear(told, 2 * outside) + short

    def attending(count):
        return 2 * count + linear(count, 3 * count) + linear(count, count)

    total = linear(width, told) + linear(told, told)
    last, side = multipliers[0] * width, image_size
    total += convolution(channels, last, 3)
    for level, factor in enumerate(multipliers):
        if level:
            side //= 2
            total += residual(last, last)
        for place in range(depth):
            total += residual(last if place == 0 else factor * width, factor * width)
            total += attending(factor * width) if side in attention else 0
        last = factor * width
    total += 2 * residual(last, last) + attending(last)
    total += 2 * last
    total += (side * side + 1) * last + linear(last, 3 * last)
    return total + linear(last, classes)


@pytest.mark.parametrize(
    ("settings", "count", "millions"), [(IMAGENET, 42568040, 42.57), (CIFAR, 2065546, 2.07)]
)
def test_parameters_of_the_papers_settings(settings, count, millions):
    with torch.device("meta"):
        network = TimeUNet(**settings)
    found = sum(p.numel() for p in network.parameters())
    assert found == parameters(**settings) == count
    assert round(found / 1e6, 2) == millions


# ---------------------------------------------------------------- a pass, by hand
def by_hand(network, settings, x, t):
    """The logits from the weights, in plain operations."""
    w = network.state_dict()
    groups, head = settings["groups"], settings["head_size"]

    def norm(h, name):
        n, c, *place = h.shape
        parts = h.reshape(n, groups, -1)
        mean, var = parts.mean(2, keepdim=True), parts.var(2, correction=0, keepdim=True)
        h = ((parts - mean) / (var + 1e-5).sqrt()).reshape(n, c, *place)
        return h * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]

    def linear(h, name):
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def convolution(h, name):
        weight = w[f"{name}.weight"]
        return F.conv2d(h, weight, w[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def silu(h):
        return h / (1 + (-h).exp())

    def halved(h):
        side = (h.shape[-1] + 1) // 2
        rows = [[h[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3)) for j in range(side)]
                for i in range(side)]  # fmt: skip
        return torch.stack([torch.stack(row, -1) for row in rows], -2)

    def heads(q, k, v):
        out = torch.zeros_like(q)
        for start in range(0, q.shape[-1], head):
            part = slice(start, start + head)
            weight = (q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(head)).softmax(-1)
            out[..., part] = weight @ v[..., part]
        return out

    def residual(h, name, down):
        short, h = h, silu(norm(h, f"{name}.norm1"))
        if down:
            short, h = halved(short), halved(h)
        h = convolution(h, f"{name}.conv1")
        scale, shift = linear(silu(embedding), f"{name}.time_emb_proj")[..., None, None].chunk(2, 1)
        h = norm(h, f"{name}.norm2") * (1 + scale) + shift
        h = convolution(silu(h), f"{name}.conv2")
        if f"{name}.conv_shortcut.weight" in w:
            short = convolution(short, f"{name}.conv_shortcut")
        return short + h

    def attention(h, name):
        tokens = norm(h, f"{name}.group_norm").flatten(2).transpose(1, 2)
        q, k, v = (linear(tokens, f"{name}.to_{which}") for which in "qkv")
        out = linear(heads(q, k, v), f"{name}.to_out.0")
        return h + out.transpose(1, 2).reshape(h.shape)

    half = settings["width"] // 2
    angle = t[:, None] * torch.tensor([10000 ** (-k / half) for k in range(half)])
    waves = torch.cat([angle.cos(), angle.sin()], 1)
    embedding = linear(silu(linear(waves, "embedding.linear_1")), "embedding.linear_2")
    h = convolution(x, "init_conv")
    first = settings["depth"]  # the block that halves the side
    for place in range(2 * settings["depth"] + 3):
        h = residual(h, f"blocks.{place}.residual", place == first)
        if f"blocks.{place}.attention.to_q.weight" in w:
            h = attention(h, f"blocks.{place}.attention")
    places = silu(norm(h, "norm")).flatten(2).transpose(1, 2)
    tokens = torch.cat([places.mean(1, keepdim=True), places], 1) + w["pool.position"]
    q, k, v = linear(tokens, "pool.qkv").chunk(3, 2)
    return linear(heads(q, k, v)[:, 0], "logits")


def test_a_pass_by_hand():
    network, (x, t) = shaken(SMALL), noisy(SMALL)
    expected = by_hand(network, SMALL, x, t)
    torch.testing.assert_close(network(x, t), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.01


def test_attention_stands_where_the_sides_say():
    network = build_network("time_unet", **CIFAR)
    found = [block.attention is not None for block in network.blocks]
    level = [False, True, True]
    assert found == [False, False, *level, *level, False, False, False, True, False]


def test_each_image_has_its_own_t():
    network, (x, t) = shaken(SMALL), noisy(SMALL)
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(x, t), alone)
    assert (network(x, t) - network(x, t + 20)).abs().min() > 1e-6


@pytest.mark.parametrize("side", [8, 28])
def test_small_images_pass_both_ways(side):
    settings = SMALL | {"image_size": side, "multipliers": [1, 2, 2, 2], "attention": []}
    network, (x, t) = shaken(settings), noisy(settings)
    z = network(x.requires_grad_(), t)
    assert z.shape == (3, 3)
    z.square().sum().backward()
    assert x.grad.abs().amin() > 0
    assert all(p.grad.isfinite().all() and p.grad.any() for p in network.parameters())
    assert network.pool.position.shape == ((side // 8 + (side % 8 > 0)) ** 2 + 1, 16)


def test_residual_branches_begin_at_zero():
    network = build_network("time_unet", **SMALL).eval()
    x, t = noisy(SMALL)
    torch.testing.assert_close(network(x, t), network(x, t + 20), rtol=0, atol=0)


# ---------------------------------------------------------------- its place in the house
def test_without_t_is_one_line():
    network = build_network("time_unet", **SMALL)
    with pytest.raises(InputError, match="is given images without t") as caught:
        network(noisy(SMALL)[0])
    assert "\n" not in str(caught.value)


def test_a_file_tells_its_schedule(tmp_path):
    network = shaken(SMALL)
    assert torch.equal(network.abar, torch.ones(50))
    network.abar.copy_(torch.linspace(1, 0, 50))
    save_network(tmp_path / "a.safetensors", network)
    again, given = load_network(tmp_path / "a.safetensors"), noisy(SMALL)
    assert again.time_dependent
    assert again.settings == {"architecture": "time_unet", **SMALL}
    assert torch.equal(again.abar, network.abar)
    assert torch.equal(again(*given), network(*given))
