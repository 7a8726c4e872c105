"""The classifier of the paper's experiments on MNIST: two convolutions and two linear maps.

So few channels keep a processor's convolutions idle, and pooling spends most of its time in the
backward pass. On the CPU each convolution, its pooling and its ReLU are therefore one matrix
product and a maximum of four (pooled_convolution), which gives the same function and the same
gradients up to rounding, an attack's step in about a quarter of the time.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from contrastdp.errors import InputError
from contrastdp.networks.classifier import Classifier

IMAGES_AT_ONCE = 256  # as many as the processor's cache holds the columns of
positive_part = torch.ops.aten.threshold_backward  # (g, x, 0): g where x > 0, else 0


class MnistCNN(Classifier):
    """conv 5x5 (4) - ReLU - pool - conv 5x5 (10) - ReLU - pool - linear (100) - ReLU - linear.

    Nothing is padded and nothing normalised, neither pixels nor batches. 18,224 parameters for 28 x
    28 pixels of one channel and 10 classes. Raises InputError for images under 16 x 16 pixels.
    """

    def __init__(self, *, channels: int, classes: int, image_size: int):
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        if side < 1:
            raise InputError(
                f"architecture 'mnist_cnn': image_size is {image_size}; its convolutions need 16"
            )
        self.conv_0 = nn.Conv2d(channels, 4, 5)
        self.conv_1 = nn.Conv2d(4, 10, 5)
        self.linear = nn.Linear(10 * side * side, 100)
        self.logits = nn.Linear(100, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate features: (N, channels, H, W) in [0, 1] to (N, 100), not negative."""
        # ASSUME: the features that contrast compares are taken after the ReLU, as other networks'.
        layers = self.by_layers or x.device.type != "cpu" or torch.is_autocast_enabled("cpu")
        if not layers:
            h = self._pooled_in_columns(x)
        else:
            h = F.relu(F.max_pool2d(self.conv_0(x), 2))  # before ReLU, with which it commutes
            h = F.relu(F.max_pool2d(self.conv_1(h), 2)).flatten(1)
        return F.relu(self.linear(h))

    def _pooled_in_columns(self, x: torch.Tensor) -> torch.Tensor:
        """Both convolutions with their pooling, (N, channels, H, W) to (N, 10 * side * side)."""
        # Blocks of 4 x 4 pixels make blocks of 2 x 2 after the first pooling, and pixels after the
        # second. What does not fill a block no output depends on.
        channels = x.shape[1]
        blocks = ((x.shape[-1] - 4) // 2 - 4) // 2 + 3
        first = convolution_matrix(self.conv_0.weight, 8)  # of 2 x 2 blocks
        second = convolution_matrix(self.conv_1.weight, 6)  # of 3 x 3 blocks
        pooled = []
        assert self.conv_0.bias is not None and self.conv_1.bias is not None
        for part in x[:, :, : 4 * blocks, : 4 * blocks].split(IMAGES_AT_ONCE):
            h = part.reshape(len(part), channels, blocks, 4, blocks, 4).permute(1, 3, 5, 2, 4, 0)
            h = pooled_convolution(h, first, self.conv_0.bias, 2)
            h = pooled_convolution(h, second, self.conv_1.bias, 3)
            pooled.append(h.flatten(0, 4).t())  # (10, 1, 1, side, side, N) -> (N, 10 side side)
        return torch.cat(pooled)


# ---------------------------------------------------------------- convolutions in columns
def convolution_matrix(weight: torch.Tensor, side: int) -> torch.Tensor:
    """A convolution of a square of side x side pixels as a matrix.

    weight: (outputs, channels, 5, 5). Its rows are ordered (place in the pooled square of 2 x 2,
    output, pooled pixel), its columns (channel, pixel).
    """
    outputs, channels, area, _ = weight.shape
    half = (side - area + 1) // 2
    pixels = torch.eye(channels * side**2, dtype=weight.dtype, device=weight.device)
    images = F.conv2d(pixels.view(-1, channels, side, side), weight)
    images = images.view(-1, outputs, half, 2, half, 2)
    return images.permute(3, 5, 1, 2, 4, 0).reshape(4 * outputs * half**2, -1)


def pooled_convolution(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, blocks: int
) -> torch.Tensor:
    """ReLU of the maximum over 2 x 2 of a convolution plus bias, of images that lie in columns.

    x: (channels, side, side, n, n, N), the pixels of n x n blocks of N images; weight: of
    convolution_matrix for blocks * side pixels; bias: (outputs,). Returns (outputs, half, half, m,
    m, N) with m = n - blocks + 1. Of equal values the first takes the gradient, as in max_pool2d.
    It is differentiable once.
    """
    return _PooledConvolution.apply(x, weight, bias, blocks)


class _PooledConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, blocks: int):
        # A window's pixels in the order of its rows: so the four places of a pooled square sum in
        # one order, and are equal where the image is even.
        windows = x.unfold(3, blocks, 1).unfold(4, blocks, 1).permute(0, 6, 1, 7, 2, 3, 4, 5)
        shape = windows.shape[5:]  # (m, m, N)
        columns = windows.reshape(weight.shape[1], -1)
        places = torch.mm(weight, columns).view(4, len(bias), -1)  # of the pooled square
        upper = torch.maximum(places[0], places[1])
        lower = torch.maximum(places[2], places[3])
        out = torch.maximum(upper, lower).add_(bias[:, None]).relu_()
        if any(ctx.needs_input_grad):
            # where these are positive, the later of two values is the larger
            right = places[1::2].sub_(places[::2])
            down = lower.sub_(upper)
            ctx.save_for_backward(
                weight, columns if ctx.needs_input_grad[1] else None, right, down, out
            )
            ctx.blocks, ctx.shape = blocks, x.shape
        half = math.isqrt(len(weight) // (4 * len(bias)))
        return out.view(len(bias), half, half, *shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor):
        weight, columns, right, down, out = ctx.saved_tensors
        gradient = positive_part(gradient.reshape(out.shape), out, 0)
        rows = gradient.new_empty(2, *out.shape)
        positive_part.grad_input(gradient, down, 0, grad_input=rows[1])
        torch.sub(gradient, rows[1], out=rows[0])
        places = gradient.new_empty(2, 2, *out.shape)  # (y, x) of the pooled square
        positive_part.grad_input(rows, right, 0, grad_input=places[:, 1])
        torch.sub(rows, places[:, 1], out=places[:, 0])
        places = places.view(len(weight), -1)
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_x = _unfolded_back(weight.t().contiguous() @ places, ctx.shape, ctx.blocks)
        if ctx.needs_input_grad[1]:
            to_weight = places @ columns.t()
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum(dim=1)
        return to_x, to_weight, to_bias, None


def _unfolded_back(columns: torch.Tensor, shape: torch.Size, blocks: int) -> torch.Tensor:
    """Sum what all windows hold of a block; columns: as in forward; shape: of its x."""
    channels, side, _, n, _, images = shape
    m = n - blocks + 1
    windows = columns.view(channels, blocks, side, blocks, side, m, m, images)
    total = columns.new_zeros(shape)
    for y in range(blocks):
        for x in range(blocks):
            total[..., y : y + m, x : x + m, :] += windows[:, y, :, x]
    return total
