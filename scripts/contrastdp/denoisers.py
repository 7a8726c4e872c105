"""Noise predictors eps_theta(x_t, t): a small one for tiny images, and diffusers' UNet2DModel."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from safetensors import SafetensorError
from torch import Tensor, nn

from contrastdp.records import InputError, read_json, replacing_folder
from contrastdp.schedulers import SubsequenceScheduler


@dataclass
class DenoiserOutput(BaseOutput):
    """sample: the predicted noise, (N, C, H, W)."""

    sample: Tensor


class FilmBlock(nn.Module):
    """Residual block whose second normalisation is scaled and shifted by the time embedding."""

    def __init__(self, channels: int, embedding: int, groups: int):
        super().__init__()
        self.norm_1 = nn.GroupNorm(groups, channels)
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * channels)
        self.norm_2 = nn.GroupNorm(groups, channels)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x: (N, channels, h, w); embedding: (N, embedding), already activated."""
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        inner = self.conv_1(F.silu(self.norm_1(x)))
        inner = self.norm_2(inner) * (1 + scale) + shift
        return x + self.conv_2(F.silu(inner))


class SmallDenoiser(ModelMixin, ConfigMixin):
    """A noise predictor for tiny images, saved and loaded as a diffusers model.

    A FiLM residual block at full resolution with `width` channels, `depth` of them at half
    resolution with `inner` channels, one more at full resolution; learned position maps. The
    prediction is eps = sqrt(1 - abar_t) x + sqrt(abar_t) net(x, t): the skip makes plain noise
    prediction train like v-prediction. image_size must be even; num_class_embeds > 0 makes it
    class-conditional.
    """

    @register_to_config
    def __init__(
        self,
        image_size: int = 8,
        channels: int = 1,
        width: int = 16,
        inner: int = 48,
        depth: int = 2,
        embedding: int = 64,
        groups: int = 8,
        num_class_embeds: int | None = None,
        num_train_timesteps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
    ):
        super().__init__()
        if image_size % 2 or width % groups or inner % groups:
            raise InputError(
                f"image_size {image_size} must be even, width {width} and inner {inner} multiples "
                f"of groups {groups}; correct the denoiser's settings"
            )
        betas = torch.linspace(beta_start, beta_end, num_train_timesteps)
        self.register_buffer("abar", (1 - betas).cumprod(0), persistent=False)
        half = torch.arange(embedding // 2) / (embedding // 2)
        self.register_buffer("frequencies", (-math.log(10_000) * half).exp(), persistent=False)
        self.time = nn.Sequential(
            nn.Linear(embedding, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.label = nn.Embedding(num_class_embeds, embedding) if num_class_embeds else None
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(1, width, image_size, image_size))
        self.before = FilmBlock(width, embedding, groups)
        self.down = nn.Conv2d(4 * width, inner, 1)
        self.inner_position = nn.Parameter(torch.zeros(1, inner, image_size // 2, image_size // 2))
        self.blocks = nn.ModuleList(FilmBlock(inner, embedding, groups) for _ in range(depth))
        self.up = nn.Conv2d(inner, 4 * width, 1)
        self.after = FilmBlock(width, embedding, groups)
        self.norm = nn.GroupNorm(groups, width)
        self.leave = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | int,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> DenoiserOutput | tuple[Tensor]:
        """sample: x_t (N, C, H, W); timestep: int or (N,); class_labels: (N,) int64."""
        if (class_labels is None) != (self.label is None):
            raise InputError("class_labels go with a class-conditional denoiser, and only with one")
        timestep = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        angle = timestep[:, None] * self.frequencies  # (N, embedding / 2)
        embedding = self.time(torch.cat([angle.sin(), angle.cos()], dim=1))
        if self.label is not None:
            embedding = embedding + self.label(class_labels)
        embedding = F.silu(embedding)
        entered = self.enter(sample) + self.position  # (N, width, H, W)
        entered = self.before(entered, embedding)
        inner = (
            self.down(F.pixel_unshuffle(entered, 2)) + self.inner_position
        )  # (N, inner, H/2, W/2)
        for block in self.blocks:
            inner = block(inner, embedding)
        entered = entered + F.pixel_shuffle(self.up(inner), 2)
        entered = self.after(entered, embedding)
        net = self.leave(F.silu(self.norm(entered)))
        abar = self.abar[timestep].view(-1, 1, 1, 1)
        predicted = (1 - abar).sqrt() * sample + abar.sqrt() * net
        return DenoiserOutput(sample=predicted) if return_dict else (predicted,)


def build_denoiser(
    architecture: str, *, image_size: int, channels: int, classes: int | None, **sizes: Any
) -> ModelMixin:
    """A denoiser by name: `small_denoiser`, or `unet2d` (diffusers' UNet2DModel).

    classes: number of labels of a class-conditional model, None for an unconditional one; sizes:
    further arguments of the class. Raises InputError for an unknown name or argument.
    """
    try:
        if architecture == "small_denoiser":
            return SmallDenoiser(
                image_size=image_size, channels=channels, num_class_embeds=classes, **sizes
            )
        if architecture == "unet2d":
            from diffusers import UNet2DModel

            return UNet2DModel(
                sample_size=image_size,
                in_channels=channels,
                out_channels=channels,
                num_class_embeds=classes,
                **sizes,
            )
    except TypeError as error:
        raise InputError(f"denoiser '{architecture}': {error}; correct its settings") from None
    raise InputError(f"denoiser '{architecture}' is unknown; choose small_denoiser or unet2d")


def save_denoiser(folder: str | Path, denoiser: ModelMixin, scheduler: SchedulerMixin) -> None:
    """Write both in diffusers' layout (unet/, scheduler/), whole or not at all."""
    with replacing_folder(folder) as temporary:
        denoiser.save_pretrained(temporary / "unet", safe_serialization=True)
        scheduler.save_pretrained(temporary / "scheduler")


def load_denoiser(
    folder: str | Path, device: torch.device | str = "cpu"
) -> tuple[ModelMixin, SubsequenceScheduler]:
    """Read a denoiser, in evaluation mode and frozen, and its scheduler from a diffusers folder.

    Raises InputError in one line for a missing or damaged file or an unknown class.
    """
    folder = Path(folder)
    name = read_json(folder / "unet" / "config.json").get("_class_name")
    try:
        if name == "SmallDenoiser":
            kind = SmallDenoiser
        elif name == "UNet2DModel":
            from diffusers import UNet2DModel as kind
        else:
            raise InputError(f"{folder}/unet/config.json: unknown class {name}; retrain the model")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            denoiser, fit = kind.from_pretrained(
                folder / "unet",
                use_safetensors=True,
                low_cpu_mem_usage=False,
                local_files_only=True,
                output_loading_info=True,
            )
        # diffusers would leave a missing weight at its random start, with a warning alone
        for kind_of_misfit in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if fit[kind_of_misfit]:
                name = sorted(map(str, fit[kind_of_misfit]))[0]
                raise InputError(
                    f"{folder}: {kind_of_misfit.replace('_', ' ')} ({name}); train the model again"
                )
        scheduler = SubsequenceScheduler.from_pretrained(
            folder / "scheduler", local_files_only=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        line = str(error).strip().splitlines()[0]
        raise InputError(f"{folder}: damaged model ({line}); delete it and run again") from None
    return denoiser.to(device).eval().requires_grad_(False), scheduler
