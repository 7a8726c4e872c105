"""The time-dependent classifier h(x_t, t): the encoder half of the ADM U-Net.

Dhariwal & Nichol (2021) guide with it, Kawar, Ganz & Elad (2023) train it robustly. The blocks are
diffusers', the pooling is CLIP's.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from contrastdp.errors import InputError
from contrastdp.networks.classifier import Classifier
from contrastdp.networks.levels import check_levels, level_sides

EPS = 1e-5  # of GroupNorm


class AttentionPool(nn.Module):
    """What the token of the spatial mean reads from a feature map (Radford et al. 2021)."""

    def __init__(self, channels: int, side: int, heads: int):
        super().__init__()
        self.heads = heads
        self.position = nn.Parameter(torch.randn(side**2 + 1, channels) / channels**0.5)
        self.qkv = nn.Linear(channels, 3 * channels)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """(N, channels, side, side) to (N, channels)."""
        places = h.flatten(2).transpose(1, 2)
        tokens = torch.cat([places.mean(1, keepdim=True), places], dim=1) + self.position
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(tokens).chunk(3, dim=2)
        )
        # of the first token alone, as no other is read
        return F.scaled_dot_product_attention(q[:, :, :1], k, v).transpose(1, 2).flatten(1)


class Block(nn.Module):
    """A residual block that is told t, then attention, where there is any."""

    def __init__(self, residual: nn.Module, attention: nn.Module | None):
        super().__init__()
        self.residual, self.attention = residual, attention

    def forward(self, h: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Features (N, channels, H, W) and the embedding of t (N, D) to features."""
        h = self.residual(h, embedding)
        return h if self.attention is None else self.attention(h)


class TimeUNet(Classifier):
    """Noisy images x_t (N, channels, H, W) in [-1, 1] and t (N,) to logits (N, classes).

    A convolution; levels of `depth` residual blocks, attention after each where the level's side is
    among `attention`, and a residual block that halves the side between two levels; a residual
    block, attention, another; GroupNorm, SiLU, AttentionPool, linear. t enters each residual block
    as scale and shift of its second norm. Convolutions and projections that end a residual branch
    begin at 0.

    width * multipliers: channels of each level; head_size: channels of a head of attention; groups:
    of GroupNorm; num_train_timesteps: T. `abar` (T,) is the noise schedule that it was trained
    under, 1 until training sets it. 42,568,040 parameters for the ImageNet-128 settings and
    2,065,546 for the CIFAR-10 settings of Kawar et al. Raises InputError as check_levels does.
    """

    time_dependent = True
    abar: torch.Tensor

    def __init__(
        self,
        *,
        channels: int,
        classes: int,
        image_size: int,
        width: int,
        depth: int,
        multipliers: Sequence[int],
        attention: Sequence[int],
        head_size: int = 64,
        groups: int = 32,
        num_train_timesteps: int = 1000,
    ):
        # it takes seconds to import, and other classifiers do not need it
        from diffusers.models.attention_processor import Attention
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps
        from diffusers.models.resnet import ResnetBlock2D

        check_levels(
            "architecture 'time_unet'",
            image_size=image_size,
            width=width,
            multipliers=multipliers,
            attention=attention,
            head_size=head_size,
            groups=groups,
        )
        super().__init__()

        def block(inside: int, outside: int, *, attends: bool = False, down: bool = False) -> Block:
            residual = ResnetBlock2D(
                in_channels=inside,
                out_channels=outside,
                temb_channels=4 * width,
                groups=groups,
                eps=EPS,
                time_embedding_norm="scale_shift",
                down=down,
            )
            nn.init.zeros_(residual.conv2.weight)
            nn.init.zeros_(residual.conv2.bias)
            if down:
                # an even side as in their code; an odd one loses no row
                residual.downsample.conv = nn.AvgPool2d(2, ceil_mode=True)
            if not attends:
                return Block(residual, None)
            attending = Attention(
                query_dim=outside,
                heads=outside // head_size,
                dim_head=head_size,
                bias=True,
                norm_num_groups=groups,
                eps=EPS,
                residual_connection=True,
            )
            nn.init.zeros_(attending.to_out[0].weight)
            nn.init.zeros_(attending.to_out[0].bias)
            return Block(residual, attending)

        sides = level_sides(image_size, len(multipliers))
        count = width * multipliers[0]
        blocks = []
        for level, (factor, side) in enumerate(zip(multipliers, sides, strict=True)):
            if level:
                blocks.append(block(count, count, down=True))
            for _ in range(depth):
                blocks.append(block(count, width * factor, attends=side in attention))
                count = width * factor
        blocks += [block(count, count, attends=True), block(count, count)]

        self.register_buffer("abar", torch.ones(num_train_timesteps))
        self.waves = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.embedding = TimestepEmbedding(width, 4 * width)
        self.init_conv = nn.Conv2d(channels, width * multipliers[0], 3, padding=1)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.GroupNorm(groups, count, eps=EPS)
        self.pool = AttentionPool(count, sides[-1], count // head_size)
        self.logits = nn.Linear(count, classes)

    def features(self, x: torch.Tensor, t: torch.Tensor | None = None) -> torch.Tensor:
        """Penultimate features (N, D) of x_t and t; InputError where it is given no t."""
        if t is None:
            raise InputError(
                "a time-dependent classifier (time_unet) is given images without t; name one of "
                "another architecture here"
            )
        embedding = self.embedding(self.waves(t).to(x.dtype))
        h = self.init_conv(x)
        for block in self.blocks:
            h = block(h, embedding)
        return self.pool(F.silu(self.norm(h)))

    def forward(self, x: torch.Tensor, t: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (N, classes); x, t: as `features` says."""
        return self.logits(self.features(x, t))
