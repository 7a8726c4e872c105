"""Noise predictors eps_theta(x_t, t): a small one for tiny images, and diffusers' UNet2DModel."""

import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.upsampling import Upsample2D
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from safetensors import SafetensorError
from torch import Tensor, nn

from contrastdp.diffusion.schedulers import PREDICTIONS, SubsequenceScheduler
from contrastdp.errors import InputError
from contrastdp.files import digest, read_json, replacing_folder, write_json
from contrastdp.streams import derive_seed

# what fixes abar_t, in the order of the scheduler's arguments
BETA_SCHEDULES = ("linear", "squaredcos_cap_v2")
BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
WEIGHTS = "diffusion_pytorch_model.safetensors"
OURS = SubsequenceScheduler.__name__
AGAIN = "train it again, or name a whole model"


@dataclass
class DenoiserOutput(BaseOutput):
    """sample: the predicted noise (N, C, H, W); with a learned variance, 2C channels."""

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
        assert self.conv_2.bias is not None
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
    prediction train like v-prediction. patch: side of the squares of pixels that become channels,
    so that 'full resolution' is image_size / patch, which must be even; num_class_embeds > 0 makes
    it class-conditional. num_train_timesteps and the betas fix abar_t as the scheduler does.
    learned_variance: as many channels again, of net alone, say where the variance lies between
    beta~ and beta (SubsequenceScheduler.variance).
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
        beta_schedule: str = "linear",
        patch: int = 1,
        learned_variance: bool = False,
    ):
        super().__init__()
        if image_size % (2 * patch) or width % groups or inner % groups:
            raise InputError(
                f"image_size {image_size} must be a multiple of {2 * patch}, twice the patch, and "
                f"width {width} and inner {inner} multiples of groups {groups}; correct the "
                "denoiser's settings"
            )
        if beta_schedule not in BETA_SCHEDULES:
            raise InputError(
                f"beta_schedule '{beta_schedule}' is unknown; choose {' or '.join(BETA_SCHEDULES)}"
            )
        side, channels = image_size // patch, channels * patch**2
        scheduler = SubsequenceScheduler(num_train_timesteps, beta_start, beta_end, beta_schedule)
        self.register_buffer("abar", scheduler.alphas_cumprod, persistent=False)
        half = torch.arange(embedding // 2) / (embedding // 2)
        self.register_buffer("frequencies", (-math.log(10_000) * half).exp(), persistent=False)
        self.time = nn.Sequential(
            nn.Linear(embedding, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.label = nn.Embedding(num_class_embeds, embedding) if num_class_embeds else None
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(1, width, side, side))
        self.before = FilmBlock(width, embedding, groups)
        self.down = nn.Conv2d(4 * width, inner, 1)
        self.inner_position = nn.Parameter(torch.zeros(1, inner, side // 2, side // 2))
        self.blocks = nn.ModuleList(FilmBlock(inner, embedding, groups) for _ in range(depth))
        self.up = nn.Conv2d(inner, 4 * width, 1)
        self.after = FilmBlock(width, embedding, groups)
        self.norm = nn.GroupNorm(groups, width)
        self.leave = nn.Conv2d(width, channels * (1 + learned_variance), 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
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
        patch = self.config.patch
        pixels = F.pixel_unshuffle(sample, patch)  # (N, C patch^2, H / patch, W / patch)
        entered = self.enter(pixels) + self.position  # (N, width, H / patch, W / patch)
        entered = self.before(entered, embedding)
        # (N, inner, H / patch / 2, W / patch / 2)
        inner = self.down(F.pixel_unshuffle(entered, 2)) + self.inner_position
        for block in self.blocks:
            inner = block(inner, embedding)
        entered = entered + F.pixel_shuffle(self.up(inner), 2)
        entered = self.after(entered, embedding)
        net = F.pixel_shuffle(self.leave(F.silu(self.norm(entered))), patch)
        abar = self.abar[timestep].view(-1, 1, 1, 1)
        net, *learned = net.split(sample.shape[1], dim=1)
        predicted = (1 - abar).sqrt() * sample + abar.sqrt() * net
        if learned:
            predicted = torch.cat([predicted, *learned], dim=1)
        return DenoiserOutput(sample=predicted) if return_dict else (predicted,)


# ---------------------------------------------------------------- building
def build_denoiser(
    architecture: str,
    *,
    image_size: int,
    channels: int,
    classes: int | None,
    schedule: Mapping[str, Any] | None = None,
    learned_variance: bool = False,
    **sizes: Any,
) -> ModelMixin:
    """A denoiser by name: `small_denoiser`, or `unet2d` (diffusers' UNet2DModel).

    classes: number of labels of a class-conditional model, None for an unconditional one; schedule:
    settings of the scheduler that it is trained with, whose betas small_denoiser takes over;
    learned_variance: it predicts as many channels again, which say its variance; sizes: further
    arguments of the class. Raises InputError for an unknown name or argument, and for betas
    that differ from the schedule's.
    """
    try:
        if architecture == "small_denoiser":
            config = SubsequenceScheduler(**schedule).config if schedule else {}
            betas = {key: config[key] for key in BETAS if key in config}
            for key in betas:
                if sizes.get(key, betas[key]) != betas[key]:
                    raise InputError(
                        f"denoiser '{architecture}': {key} is {sizes[key]}, the noise schedule's "
                        f"is {betas[key]}; leave it out of the denoiser's settings"
                    )
            return SmallDenoiser(
                image_size=image_size,
                channels=channels,
                num_class_embeds=classes,
                learned_variance=learned_variance,
                **sizes | betas,
            )
        if architecture == "unet2d":
            from diffusers import UNet2DModel

            unet = UNet2DModel(
                sample_size=image_size,
                in_channels=channels,
                out_channels=channels * (1 + learned_variance),
                num_class_embeds=classes,
                **sizes,
            )
            return fit_odd_sides(unet)
    except TypeError as error:
        raise InputError(f"denoiser '{architecture}': {error}; correct its settings") from None
    except ValueError as error:  # diffusers' own checks, such as block lists of unequal length
        if isinstance(error, InputError):
            raise
        line = " ".join(str(error).split())
        raise InputError(f"denoiser '{architecture}': {line}; correct its settings") from None
    raise InputError(f"denoiser '{architecture}' is unknown; choose small_denoiser or unet2d")


def untrained_denoiser(
    network: Mapping[str, Any], *, seed: int, schedule: Mapping[str, Any], **sizes: Any
) -> tuple[ModelMixin, SubsequenceScheduler]:
    """A denoiser whose weights are drawn under (seed, 'denoiser'), and the scheduler to train with.

    network, schedule, sizes: of build_denoiser. Torch's global stream is left where the weights end
    in it; dropout draws on from there.
    """
    torch.manual_seed(derive_seed(seed, "denoiser"))
    denoiser = build_denoiser(**network, schedule=schedule, **sizes)
    return denoiser, SubsequenceScheduler(**schedule)


def fit_odd_sides(unet: ModelMixin) -> ModelMixin:
    """Let a UNet2DModel take a side that its halvings do not divide, such as 28 by 8; in place.

    28 halves to 14, 7 and 3, and 3 doubles to 6 where the skip connection has 7. A row and a column
    of zeros are put at the top and left once the state is doubled, before the convolution that
    follows: in both branches of an up-sampling residual block, as the official code does for MNIST.
    A side halved upwards, 7 to 4, doubles to 8 and loses its first row and column. The weights and
    the saved files stay those of diffusers, which by itself refuses such a side. Twice is as once.
    """
    size = unet.config.sample_size  # a side, or height and width, or not known
    given = [size] if size is None or isinstance(size, int) else size
    if any(side and side % 2 ** (len(unet.up_blocks) - 1) for side in given):
        sides: dict[int, torch.Size] = {}  # of each level, by the forward pass that is under way
        for level, block in enumerate(unet.down_blocks):
            block.register_forward_hook(partial(_keep_sides, sides, level))
        for level, block in enumerate(reversed(unet.up_blocks)):
            for layer in block.modules():
                if isinstance(layer, Upsample2D):
                    fit = partial(_fit_sides, sides, level - 1)
                    if layer.use_conv:
                        layer.conv.register_forward_pre_hook(fit)
                    else:
                        layer.register_forward_hook(fit)
    return unet


def _keep_sides(
    sides: dict[int, torch.Size], level: int, block: nn.Module, given: tuple, found: tuple
) -> None:
    sides[level] = found[1][0].shape[2:]  # the level's first skip


def _fit_sides(
    sides: dict[int, torch.Size], level: int, layer: nn.Module, given: tuple, *found: Tensor
) -> Tensor:
    """A doubled state (N, C, h, w), padded with zeros or cut at top and left to a level's sides.

    The state is what a convolution is given, or what a layer without one has found.
    """
    (state,) = found or given
    height, width = (want - have for want, have in zip(sides[level], state.shape[2:], strict=True))
    return F.pad(state, (width, 0, height, 0))


# ---------------------------------------------------------------- files
def save_denoiser(folder: str | Path, denoiser: ModelMixin, scheduler: SchedulerMixin) -> None:
    """Write both in diffusers' layout (unet/, scheduler/), whole or not at all."""
    with replacing_folder(folder) as temporary:
        denoiser.save_pretrained(temporary / "unet", safe_serialization=True)
        scheduler.save_pretrained(temporary / "scheduler")


def load_denoiser(
    folder: str | Path, device: torch.device | str = "cpu"
) -> tuple[ModelMixin, SubsequenceScheduler]:
    """Read a denoiser, in evaluation mode and frozen, and its scheduler from a diffusers folder.

    Raises InputError in one line for a missing or damaged file, an unknown class, and a skip
    (SmallDenoiser) with another abar than the scheduler's.
    """
    folder = Path(folder)
    denoiser = _read_unet(folder / "unet")
    scheduler = _read_scheduler(folder / "scheduler")
    if isinstance(denoiser, SmallDenoiser) and not _same_abar(denoiser.abar, scheduler):
        raise InputError(
            f"{folder}: the betas of unet/ and scheduler/ differ; train the model again"
        )
    return denoiser.to(device).eval().requires_grad_(False), scheduler


def load_pretrained(
    source: str,
    *,
    image_size: int,
    channels: int,
    classes: int | None,
    schedule: Mapping[str, Any],
    learned_variance: bool = False,
) -> tuple[ModelMixin, SubsequenceScheduler, dict[str, str]]:
    """A denoiser that others trained, a scheduler for it, and its origin {source, weights, sha256}.

    source: a folder, or a name on the Hugging Face Hub, of a diffusers pipeline (unet/ and
    scheduler/) or of diffusers' older flat layout; weights as safetensors only. classes: labels to
    sample, None for an unconditional model; one label more than them is 'no class'. schedule:
    settings of the scheduler, whose betas must be the checkpoint's; what is predicted (noise, v or
    x_0) is the checkpoint's. learned_variance: whether it predicts its variance, too. Raises
    InputError in one line for what is missing or does not fit.
    """
    folder = _local_folder(source)
    nested = (folder / "unet").is_dir()
    unet, beside = (folder / "unet", folder / "scheduler") if nested else (folder, folder)
    if not (unet / WEIGHTS).is_file():
        pickles = sorted(path.name for path in unet.glob("*.bin"))
        found = f"{pickles[0]} is a pickle, which is not loaded" if pickles else "not found"
        raise InputError(
            f"{source}: no {WEIGHTS} ({found}); convert the weights with diffusers' "
            "save_pretrained(safe_serialization=True) and name that folder"
        )
    denoiser = _read_unet(unet).requires_grad_(False)

    # what the images and labels ask for
    config = denoiser.config
    side = config.get("sample_size", config.get("image_size"))
    if not isinstance(side, int) and side and len(set(side)) == 1:
        side = side[0]
    inside = config.get("in_channels", config.get("channels"))
    for what, got, wanted in (
        ("image size", side, (image_size,)),
        ("input channels", inside, (channels,)),
        ("output channels", _channels_out(config, inside), (channels * (1 + learned_variance),)),
        (
            "number of classes",
            config.num_class_embeds,
            (None,) if classes is None else (classes, classes + 1),
        ),
        ("class_embed_type", config.get("class_embed_type"), (None,)),
    ):
        if got not in wanted:
            raise InputError(
                f"{source}: its {what} is {got}, the data set and the denoiser's settings need "
                f"{' or '.join(map(str, wanted))}; name another model"
            )

    # its noise schedule
    own = _own_scheduler(beside)
    abar, known = getattr(own, "alphas_cumprod", None), own.config
    kind = known.get("prediction_type", "epsilon")
    if abar is None or kind not in PREDICTIONS:
        raise InputError(
            f"{source}: {type(own).__name__} with prediction_type '{kind}' is not sampled with; "
            "name a model of a DDPM or DDIM scheduler"
        )
    scheduler = SubsequenceScheduler(**{**schedule, "prediction_type": kind})
    if not _same_abar(abar, scheduler):
        beyond = {"trained_betas": None, "rescale_betas_zero_snr": False}
        others = [key for key, usual in beyond.items() if known.get(key, usual) is not usual]
        sayable = known.get("beta_schedule", "linear") in BETA_SCHEDULES and not others
        told = ", ".join([*(f"{key} {known.get(key)}" for key in BETAS), *others])
        advice = "set the same in noise_schedule, or" if sayable else "noise_schedule has no such;"
        raise InputError(f"{source}: was trained with {told}; {advice} name another model")
    origin = {"source": source, "weights": WEIGHTS, "sha256": digest(unet / WEIGHTS)}
    return denoiser, scheduler, origin


def _channels_out(config: Any, inside: int) -> int:
    """Channels that a denoiser predicts, by its config."""
    return config.get("out_channels", inside * (1 + config.get("learned_variance", False)))


def _local_folder(source: str) -> Path:
    """The folder named, or that of a model of the Hub, fetched where it is not there yet."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(source, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"pretrained '{source}': no such folder, and not to be had from the Hugging Face Hub "
            f"({type(error).__name__}: {reason}); name a folder that holds the model"
        ) from None


def _same_abar(abar: Tensor, scheduler: SubsequenceScheduler) -> bool:
    return abar.shape == scheduler.alphas_cumprod.shape and torch.allclose(
        abar, scheduler.alphas_cumprod, rtol=1e-4, atol=1e-7
    )


@contextmanager
def _told_in_one_line(folder: Path) -> Iterator[None]:
    """Turns what diffusers raises for missing or damaged files into one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        line = str(error).strip().splitlines()[0]
        raise InputError(f"{folder}: damaged model ({line}); {AGAIN}") from None


def _class_name(file: Path) -> Any:
    """The class that a config of diffusers names; InputError where it is no config."""
    config = read_json(file)
    if not isinstance(config, dict):
        raise InputError(f"{file}: is no config of diffusers; {AGAIN}")
    return config.get("_class_name")


def _read_unet(folder: Path) -> ModelMixin:
    """A denoiser in evaluation mode; InputError where it is damaged or of an unknown class."""
    name = _class_name(folder / "config.json")
    if name == "SmallDenoiser":
        kind: Any = SmallDenoiser
    elif name == "UNet2DModel":
        from diffusers import UNet2DModel

        kind = UNet2DModel
    else:
        raise InputError(
            f"{folder}/config.json: class {name} is no UNet2DModel or SmallDenoiser; name another "
            "model"
        )
    with _told_in_one_line(folder):
        denoiser, fit = kind.from_pretrained(
            folder,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            local_files_only=True,
            output_loading_info=True,
        )
    # diffusers would leave a missing weight at its random start, with a warning alone
    for kind_of_misfit in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if fit[kind_of_misfit]:
            name = sorted(map(str, fit[kind_of_misfit]))[0]
            raise InputError(f"{folder}: {kind_of_misfit.replace('_', ' ')} ({name}); {AGAIN}")
    return denoiser if kind is SmallDenoiser else fit_odd_sides(denoiser)


def _read_scheduler(folder: Path) -> SubsequenceScheduler:
    _check_scheduler(folder)
    with _told_in_one_line(folder):
        return SubsequenceScheduler.from_pretrained(folder, local_files_only=True)


def _own_scheduler(folder: Path) -> SchedulerMixin:
    """The scheduler of a folder of others, of diffusers' class that it names."""
    import diffusers

    name = _check_scheduler(folder)
    kind = getattr(diffusers, str(name), SubsequenceScheduler)
    with _told_in_one_line(folder):
        return kind.from_pretrained(folder, local_files_only=True)


def _check_scheduler(folder: Path) -> Any:
    """The class that a scheduler's config names; InputError where there is no config."""
    file = folder / "scheduler_config.json"
    if file.is_file():
        return _class_name(file)
    beside = (
        "; the averaged weights of unet_ema/ beside it are read where they are named unet/"
        if (folder.parent / "unet_ema").is_dir()
        else ""
    )
    raise InputError(
        f"{file}: no such file, so the noise schedule is not known; save there, with diffusers' "
        f"save_pretrained, the scheduler that the model was trained with{beside}"
    )


@contextmanager
def with_index(folder: Path, *, scheduler: bool) -> Iterator[Path]:
    """A folder of unet/ and scheduler/ as diffusers' loader wants it, with model_index.json.

    scheduler: whether it is read, too. The parts are links; the folder itself stays as it is.
    Raises InputError for what is missing, damaged or unknown.
    """
    import diffusers

    unet = _read_unet(folder / "unet")
    ours = isinstance(unet, SmallDenoiser)
    module = SmallDenoiser.__module__ if ours else "diffusers"
    index: dict[str, Any] = {
        "_class_name": "DDIMPipeline",
        "_diffusers_version": diffusers.__version__,
    }
    index |= {"unet": [module, type(unet).__name__], "scheduler": [None, None]}
    if scheduler:
        name = type(_own_scheduler(folder / "scheduler")).__name__
        # diffusers has no name for ours, which is its DDIMScheduler but for its steps
        index["scheduler"] = ["diffusers", "DDIMScheduler" if name == OURS else name]
        if ours:
            load_denoiser(folder)
    with tempfile.TemporaryDirectory() as temporary:
        for part in [name for name in ("unet", "scheduler") if (folder / name).is_dir()]:
            (Path(temporary) / part).symlink_to((folder / part).resolve())
        write_json(Path(temporary) / "model_index.json", index)
        yield Path(temporary)
