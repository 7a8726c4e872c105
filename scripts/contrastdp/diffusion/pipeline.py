"""Contrastive guidance as a diffusers pipeline, for any diffusion model of pixels.

The chain is sampling.sample_batch, the guidance is guidance.build_guidance; here is what ties them
to diffusers: models and schedulers of other make, generators, outputs. docs/guidance.md explains
every setting.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DModel
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import logging
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from contrastdp.diffusion.conditioning import UNCONDITIONAL, ClassLabel, Conditioning
from contrastdp.diffusion.denoisers import fit_odd_sides, load_denoiser
from contrastdp.diffusion.sampling import sample_batch
from contrastdp.diffusion.schedulers import (
    SPACINGS,
    VARIANCES,
    SubsequenceScheduler,
    subsequence,
)
from contrastdp.errors import InputError
from contrastdp.guidance.build import build_guidance
from contrastdp.guidance.protocol import Guidance
from contrastdp.networks.checkpoint import load_network, save_network
from contrastdp.networks.classifier import Classifier

logger = logging.get_logger(__name__)

Generators = torch.Generator | list[torch.Generator] | None
ENCODER_FILE = "encoder/model.safetensors"
TAU = {"hnm": 10.0, "infonce": 0.1}  # the paper's
OF_DIFFUSERS = ("leading", "trailing", "linspace")  # its own spacings
OUTPUTS = ("pil", "np", "pt")


class ContrastiveGuidancePipeline(DiffusionPipeline):
    """Sampling of images, plain as diffusers' DDIMPipeline does it, or with contrastive guidance.

    unet: predicts noise, x_0 or v of pixels, such as UNet2DModel or SmallDenoiser, unconditional or
    class-conditional; scheduler: diffusers' DDPMScheduler, DDIMScheduler or another of the same
    betas, of which the noise schedule and the options are taken and the rest is not; encoder: what
    the guidance compares images by, a module or function of (m, C, H, W) that returns features
    (m, ...). Of a network of contrastdp.networks the penultimate features are taken, anything
    else is called. Such a network is saved with the pipeline, any other encoder is not.
    """

    scheduler: SchedulerMixin
    encoder: Any

    def __init__(self, unet: nn.Module, scheduler: SchedulerMixin, encoder: object = None):
        super().__init__()
        if isinstance(unet, UNet2DModel):
            fit_odd_sides(unet)
        self.register_modules(unet=unet, scheduler=scheduler)
        self.encoder = encoder

    # ---------------------------------------------------------------- files
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Load a pipeline that diffusers or this class saved, or a model that train_diffusion did.

        pretrained_model_name_or_path: a folder or, as diffusers has it, a name on the Hub. options:
        of DiffusionPipeline.from_pretrained, and encoder.
        """
        folder = Path(pretrained_model_name_or_path)
        if (folder / "unet").is_dir() and not (folder / "model_index.json").exists():
            unet, scheduler = load_denoiser(folder)
            return cls(unet, scheduler, **options)
        pipeline = super().from_pretrained(pretrained_model_name_or_path, **options)
        if pipeline.encoder is None and (folder / ENCODER_FILE).exists():
            pipeline.encoder = load_network(folder / ENCODER_FILE)
        return pipeline

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Save as diffusers does, so that its DDPMPipeline and DDIMPipeline load the folder too.

        options: of DiffusionPipeline.save_pretrained.
        """
        if isinstance(self.scheduler, SubsequenceScheduler):
            self.scheduler = DDIMScheduler.from_config(self.scheduler.config)
        super().save_pretrained(save_directory, **options)
        file = Path(save_directory) / ENCODER_FILE
        if isinstance(self.encoder, Classifier):
            save_network(file, self.encoder)
            return
        file.unlink(missing_ok=True)
        if self.encoder is not None:
            logger.warning("The encoder is not saved; give it to from_pretrained again.")

    # ---------------------------------------------------------------- sampling
    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: Generators = None,
        eta: float = 0.0,
        num_inference_steps: int = 50,
        use_clipped_model_output: bool = False,
        output_type: str = "pil",
        return_dict: bool = True,
        *,
        spacing: str | None = None,
        timesteps: Sequence[int] | None = None,
        variance: str | None = None,
        class_labels: Tensor | Sequence[int] | int | None = None,
        encoder: Callable[[Tensor], Tensor] | None = None,
        loss: str = "hnm",
        lambda_: float = 0.0,
        tau: float | None = None,
        real_images: Tensor | None = None,
        guidance_batch: int | None = None,
        guidance: Guidance | None = None,
        micro_batch: int | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> ImagePipelineOutput | tuple:
        """Sample `batch_size` images; the first seven arguments are those of DDIMPipeline.

        generator: one for all images, or a list of one an image; eta: in [0, 1], 0 DDIM, 1 DDPM.
        use_clipped_model_output: recompute the noise from a clipped x_0; True with eta = 1 is
        DDPMPipeline. spacing: 'uniform', 'quadratic', 'even' (schedulers.subsequence), 'leading',
        'trailing' or 'linspace' (diffusers'), None for the scheduler's own; timesteps: the
        chain itself, descending. variance: of the noise that eta adds, 'small' or 'large', None for
        the scheduler's own. class_labels: one class for all images, or one an image.

        lambda_: factor of the guidance, 0 for plain sampling; it needs an encoder, the call's or
        the pipeline's. loss, tau and settings: as build_guidance takes them. real_images:
        (R, C, H, W) in [0, 1] for the pairs that use them. guidance_batch: images coupled, which
        divides batch_size; None for all. guidance: any guidance in the place of the contrastive
        one. micro_batch: images that pass the networks at once. seed: of the embedding head and of
        random directions.

        Returns images as PIL, as array (N, H, W, C) or as tensor (N, C, H, W), the last two in
        [0, 1]. Raises InputError in one line for settings that do not fit.
        """
        unet, device = self.unet, self._execution_device
        _check_choice(output_type, OUTPUTS, "output_type")
        if not 0 <= eta <= 1:
            raise InputError(f"eta is {eta}; it must lie in [0, 1]")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be 1 or more")
        if isinstance(generator, list) and len(generator) != batch_size:
            raise InputError(
                f"{len(generator)} generators for {batch_size} images; give one, or one an image"
            )
        shape = image_shape(unet)
        conditioning = _conditioning(unet, class_labels, batch_size, device)

        # the guidance, if any
        encoder = self.encoder if encoder is None else encoder
        if guidance is None and lambda_ != 0:
            if encoder is None:
                raise InputError(f"lambda_ is {lambda_} and there is no encoder; give one, or 0")
            features = features_of(encoder, device)
            if real_images is not None:
                settings["real"] = _real_features(features, real_images, settings, device)
            if (tau := TAU.get(loss) if tau is None else tau) is not None:
                settings["tau"] = tau
            guidance = build_guidance(
                features,
                loss=loss,
                lambda_=lambda_,
                seed=seed,
                micro_batch=micro_batch,
                **settings,
            )
        coupled = batch_size if guidance is None else guidance_batch or batch_size
        if batch_size % coupled:
            raise InputError(
                f"batch_size {batch_size} is no multiple of guidance_batch {coupled}; a smaller "
                "last batch would be guided otherwise than the rest"
            )

        # chain and noise predictor
        chain = _Chain.of(self.scheduler)
        chain.choose(num_inference_steps, spacing, timesteps)
        chain.clipped = use_clipped_model_output
        drawn: dict[str, Any] = (
            {"variance_type": _variance(variance, self.scheduler)} if eta > 0 else {}
        )
        predictor = _Predictor(unet, shape[0])

        # one guidance batch after the other
        start = randn_tensor((batch_size, *shape), generator=generator, device=device)
        states = []
        with ExitStack() as stack:
            bar = stack.enter_context(
                self.progress_bar(total=len(chain.timesteps) * (batch_size // coupled))
            )
            chain.progress = bar.update
            for network in (unet, encoder):
                stack.enter_context(_at_rest(network))
            for first in range(0, batch_size, coupled):
                piece = slice(first, first + coupled)
                own = generator[piece] if isinstance(generator, list) else generator
                states.append(
                    sample_batch(
                        predictor,
                        chain,
                        indices=range(first, first + coupled),
                        seed=seed,
                        shape=shape,
                        eta=eta,
                        guidance=guidance,
                        conditioning=conditioning,
                        micro_batch=micro_batch,
                        streams=_Streams(start[piece], own),
                        **drawn,
                    )
                )
        images = self._output((torch.cat(states) / 2 + 0.5).clamp(0, 1), output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _output(self, images: Tensor, output_type: str) -> Any:
        if output_type == "pt":
            return images
        array = images.cpu().permute(0, 2, 3, 1).numpy()  # (N, C, H, W) -> (N, H, W, C)
        return array if output_type == "np" else self.numpy_to_pil(array)


# ---------------------------------------------------------------- encoder
def features_of(
    encoder: Callable[[Tensor], Tensor], device: torch.device | str
) -> Callable[[Tensor], Tensor]:
    """The encoder as a function to features (m, D), moved to `device` where it is a module.

    Features of more dimensions are flattened. Raises InputError where it gives no tensor of one
    row an image.
    """
    if isinstance(encoder, nn.Module):
        encoder.to(device)
    function = encoder.features if isinstance(encoder, Classifier) else encoder

    def features(state: Tensor) -> Tensor:
        found = function(state)
        if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != len(state):
            given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"the encoder gives {given} for {len(state)} images; wrap it in a function that "
                "returns a tensor of one row an image"
            )
        return found.flatten(1)

    return features


@torch.no_grad()
def _real_features(
    features: Callable[[Tensor], Tensor],
    images: Tensor,
    settings: Mapping[str, Any],
    device: torch.device,
) -> Tensor:
    raw = settings.get("encoder_input") == "raw"
    images = images.to(device)
    return features(2 * images - 1 if raw else images)


@contextmanager
def _at_rest(network: object) -> Iterator[None]:
    """A module in evaluation mode and without gradients of its parameters, for a while."""
    if not isinstance(network, nn.Module):
        yield
        return
    training = [module for module in network.modules() if module.training]
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in trained:
            parameter.requires_grad_(True)


# ---------------------------------------------------------------- diffusion model
def image_shape(unet: nn.Module) -> tuple[int, int, int]:
    """(C, H, W) of what a model of pixels samples, by its config.

    Raises InputError where its output is neither as large as its input nor, with a learned
    variance, twice that.
    """
    config: Any = unet.config
    channels = config.get("in_channels", config.get("channels"))
    side = config.get("sample_size", config.get("image_size"))
    if channels is None or side is None:
        raise InputError(
            f"{type(unet).__name__}: its config has no in_channels or sample_size; load a model of "
            "pixels whose config says both"
        )
    out = config.get("out_channels", channels)
    if out not in (channels, 2 * channels):
        raise InputError(
            f"{type(unet).__name__}: predicts {out} channels of {channels}; conditional inputs "
            "other than classes are not supported"
        )
    height, width = (side, side) if isinstance(side, int) else side
    return channels, height, width


def _conditioning(
    unet: nn.Module, given: Any, batch_size: int, device: torch.device
) -> Conditioning:
    """What the model is told: the labels given, one for all images or one an image."""
    config: Any = unet.config
    classes = config.get("num_class_embeds")
    if (given is None) != (classes is None):
        raise InputError(
            f"the model has {classes} classes; give class_labels"
            if given is None
            else "class_labels are given and the model is unconditional; leave them out"
        )
    if given is None:
        return UNCONDITIONAL
    label = torch.as_tensor(given, device=device)
    label = label.expand(batch_size) if label.ndim == 0 else label
    if label.shape != (batch_size,):
        raise InputError(f"class_labels are {tuple(label.shape)} for {batch_size} images")
    if label.is_floating_point() or label.min() < 0 or label.max() >= classes:
        raise InputError(f"class_labels must be whole numbers from 0 to {classes - 1}")
    return ClassLabel(classes, labels=label)


class _Predictor(nn.Module):
    """The model as sample_batch calls it: float32 in and out, without a learned variance."""

    unet: Any

    def __init__(self, unet: nn.Module, channels: int):
        super().__init__()
        self.unet, self.channels = unet, channels

    def forward(self, sample: Tensor, timestep: int, **condition: Tensor) -> Any:
        output = self.unet(sample.to(self.unet.dtype), timestep, **condition)
        return type(output)(sample=output.sample[:, : self.channels].to(sample.dtype))


class _Streams:
    """Noise as diffusers draws it: x_T is given, the rest comes from the generator."""

    def __init__(self, start: Tensor, generator: Generators):
        self.start, self.generator, self.started = start, generator, False

    def draw(self, device: torch.device) -> Tensor:
        if not self.started:
            self.started = True
            return self.start
        return randn_tensor(self.start.shape, generator=self.generator, device=device)


# ---------------------------------------------------------------- scheduler
class _Chain(SubsequenceScheduler):
    """The scheduler of one call, with what a config or a caller may ask of it besides."""

    clipped = False  # use_clipped_model_output
    progress: Callable[[], Any] = staticmethod(lambda: None)

    @classmethod
    def of(cls, scheduler: SchedulerMixin) -> Self:
        """From the config of another scheduler; InputError where its noise is no DDPM's."""
        config = scheduler.config
        name = type(scheduler).__name__
        if not hasattr(scheduler, "alphas_cumprod"):
            raise InputError(f"{name} has no abar; use a model with a DDPM or DDIM scheduler")
        if config.get("thresholding"):
            raise InputError(f"{name} asks for thresholding, which is not supported; set it False")
        kind = config.get("prediction_type", "epsilon")
        if kind not in ("epsilon", "sample", "v_prediction"):
            raise InputError(f"{name}: prediction_type is '{kind}', which is not supported")
        return cls.from_config(config)

    def choose(self, steps: int, spacing: str | None, timesteps: Sequence[int] | None) -> None:
        """Set the chain; `timesteps` wins over `spacing`, which wins over the config's."""
        total = self.config.num_train_timesteps
        if spacing is not None:
            _check_choice(spacing, sorted((*SPACINGS, *OF_DIFFUSERS)), "spacing")
        if timesteps is None and not 1 <= steps <= total:
            raise InputError(f"num_inference_steps is {steps}; choose 1 to {total}")
        if timesteps is None and spacing in SPACINGS:
            timesteps = subsequence(total, steps, spacing)
        elif timesteps is None and spacing is not None:
            self.register_to_config(timestep_spacing=spacing)
        self.set_timesteps(steps, timesteps=timesteps)

    def abar(self, timestep: int) -> float:
        return super().abar(timestep) if timestep >= 0 else float(self.final_alpha_cumprod)

    def step(self, *given: Any, **options: Any) -> Any:
        options["use_clipped_model_output"] = self.clipped
        stepped = super().step(*given, **options)
        self.progress()
        return stepped


def _variance(given: str | None, scheduler: SchedulerMixin) -> str:
    """'fixed_small' or 'fixed_large': the caller's choice, else the scheduler's own."""
    if given is not None:
        _check_choice(given, ("small", "large"), "variance")
        return f"fixed_{given}"
    kind = scheduler.config.get("variance_type", "fixed_small")
    if kind.removesuffix("_log") not in VARIANCES:
        raise InputError(
            f"the model's variance is '{kind}', which is not sampled with; choose variance 'small' "
            "or 'large', or eta 0"
        )
    return kind.removesuffix("_log")


def _check_choice(value: str, choices: Sequence[str], what: str) -> None:
    if value not in choices:
        raise InputError(f"{what} is '{value}'; choose one of {', '.join(choices)}")
