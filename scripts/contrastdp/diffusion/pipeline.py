"""Contrastive guidance as a diffusers pipeline, for any diffusion model of pixels.

The chain is sampling.sample_batch, the guidance is guidance.build_guidance; here is what ties them
to diffusers: models and schedulers of other make, generators, outputs. docs/guidance.md explains
every setting.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DiffusionPipeline, UNet2DModel
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import logging
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from contrastdp.diffusion.conditioning import UNCONDITIONAL, ClassLabel, Conditioning
from contrastdp.diffusion.denoisers import fit_odd_sides, with_index
from contrastdp.diffusion.sampling import sample_batch
from contrastdp.diffusion.schedulers import (
    LEARNED,
    PREDICTIONS,
    SPACINGS,
    VARIANCES,
    SubsequenceScheduler,
    subsequence,
)
from contrastdp.errors import InputError
from contrastdp.guidance.build import build_guidance
from contrastdp.guidance.protocol import Guidance, Sum, check_number, check_timeless
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
            with with_index(folder, scheduler="scheduler" not in options) as whole:
                return super().from_pretrained(whole, **options)
        pipeline = super().from_pretrained(pretrained_model_name_or_path, **options)
        if pipeline.encoder is None and (folder / ENCODER_FILE).exists():
            pipeline.encoder = load_network(folder / ENCODER_FILE)
        return pipeline

    def to_json_string(self) -> str:
        """The model_index.json, under the name of the pipeline of diffusers that loads it."""
        kind = "DDPM" if isinstance(self.scheduler, DDPMScheduler) else "DDIM"
        index = json.loads(super().to_json_string()) | {"_class_name": f"{kind}Pipeline"}
        return json.dumps(index, indent=2) + "\n"

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Save as diffusers does, so that its own pipelines load the folder too.

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
    @torch.inference_mode(False)
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
        guidance: Guidance | Sum | None = None,
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
        the scheduler's own, which may be 'learned_range'. class_labels: one class for all images,
        or one an image.

        lambda_: factor of the guidance, 0 for plain sampling; it needs an encoder, the call's or
        the pipeline's. loss, tau and settings: as build_guidance takes them. real_images:
        (R, C, H, W) in [0, 1] for the pairs that use them. guidance_batch: images coupled, which
        divides batch_size; None for all. guidance: any guidance in the place of the contrastive
        one. micro_batch: images that pass the networks at once. seed: of the embedding head and of
        random directions.

        Returns images as PIL, as array (N, H, W, C) or as tensor (N, C, H, W), the last two in
        [0, 1]. Raises InputError in one line for settings that do not fit. Torch's default type and
        device, its autocast and its inference mode do not change the images.
        """
        unet, device = self.unet, self._execution_device
        if device.type == "meta":
            raise InputError("the model is on the device 'meta', without weights; load them first")
        _check_choice(output_type, OUTPUTS, "output_type")
        check_number("eta", eta, least=0, most=1)
        check_number("batch_size", batch_size, whole=True, least=1)
        check_number("seed", seed, whole=True)
        check_number("micro_batch", micro_batch, whole=True, least=1, optional=True)
        check_number("guidance_batch", guidance_batch, whole=True, least=1, optional=True)
        _check_generator(generator, batch_size)
        with ExitStack() as stack:
            stack.enter_context(torch.device("cpu"))  # of tensors that name none
            stack.enter_context(torch.autocast(device.type, enabled=False))
            stack.enter_context(_told_of_inference_tensors())
            shape = image_shape(unet)
            conditioning = _conditioning(unet, class_labels, batch_size, device)
            dtype = torch.promote_types(unet.dtype, torch.float32)  # of the chain

            # the guidance, if any
            encoder = self.encoder if encoder is None else encoder
            given = settings | {"lambda_": lambda_, "tau": tau, "real_images": real_images}
            if guidance is None:
                guidance = _contrastive(
                    encoder,
                    torch.empty(0, *shape, dtype=dtype, device=device),
                    loss=loss,
                    seed=seed,
                    micro_batch=micro_batch,
                    **given,
                )
            elif unused := [name for name, value in given.items() if value not in (None, 0)]:
                raise InputError(
                    f"{unused[0]} is given beside guidance, which has settings of its own; leave "
                    "one of the two out"
                )
            coupled = batch_size if guidance is None else guidance_batch or batch_size
            if batch_size % coupled:
                raise InputError(
                    f"batch_size {batch_size} is no multiple of guidance_batch {coupled}; a "
                    "smaller last batch would be guided otherwise than the rest"
                )

            # chain and noise predictor
            chain = _Chain.of(self.scheduler)
            chain.choose(num_inference_steps, spacing, timesteps)
            chain.clipped = use_clipped_model_output
            drawn: dict[str, Any] = (
                {"variance_type": _variance(variance, self.scheduler)} if eta > 0 else {}
            )
            learns = drawn.get("variance_type") == LEARNED
            predictor = _Predictor(unet, shape[0] * (1 + learns))

            # one guidance batch after the other
            noise = randn_tensor(
                (batch_size, *shape), generator=generator, device=device, dtype=unet.dtype
            )
            start, states = noise.to(dtype), []
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
                        streams=_Streams(start[piece], own, unet.dtype),
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


# ---------------------------------------------------------------- guidance
def _contrastive(
    encoder: Any,
    none: Tensor,
    *,
    loss: str,
    lambda_: float,
    tau: float | None,
    real_images: Tensor | None,
    **settings: Any,
) -> Guidance | None:
    """The contrastive guidance of a call; None, with all settings checked, where lambda_ is 0.

    none: no images (0, C, H, W), of the chain's type and device.
    """
    if encoder is not None and not callable(encoder):
        raise InputError(f"the encoder is a {type(encoder).__name__}; give a module or function")
    guided = lambda_ != 0
    if guided and encoder is None:
        raise InputError(f"lambda_ is {lambda_} and there is no encoder; give one, or 0")
    features = features_of(encoder if guided else nn.Flatten(), none.device)
    if real_images is not None:
        images = _real_images(real_images, none)
        raw = settings.get("encoder_input") == "raw"
        settings["real"] = features(2 * images - 1 if raw else images)
    if (tau := TAU.get(loss) if tau is None else tau) is not None:
        settings["tau"] = tau
    guidance = build_guidance(features, loss=loss, lambda_=lambda_, **settings)
    return guidance if guided else None


def features_of(
    encoder: Callable[[Tensor], Tensor], device: torch.device | str
) -> Callable[[Tensor], Tensor]:
    """The encoder as a function to features (m, D), moved to `device` where it is a module.

    Features of more dimensions are flattened. A module sees images in the type of its weights, and
    its features come in that of the images. Raises InputError where it gives no tensor of one row
    an image.
    """
    check_timeless(encoder, "encoder of contrastive guidance")
    seen_in = None
    if isinstance(encoder, nn.Module):
        encoder.to(device)
        kinds = (p.dtype for p in encoder.parameters() if p.is_floating_point())
        seen_in = next(kinds, None)
    function = encoder.features if isinstance(encoder, Classifier) else encoder

    def features(state: Tensor) -> Tensor:
        found = function(state.to(seen_in or state.dtype))
        if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != len(state):
            given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"the encoder gives {given} for {len(state)} images; wrap it in a function that "
                "returns a tensor of one row an image"
            )
        return found.flatten(1).to(state.dtype)

    return features


def _real_images(given: Any, none: Tensor) -> Tensor:
    """Real images (R, C, H, W) in [0, 1] as `none` is; InputError where they are not."""
    images = _tensor(given, "real_images")
    if not images.is_floating_point() or images.ndim != 4 or images.shape[1:] != none.shape[1:]:
        raise InputError(
            f"real_images are {images.dtype} {tuple(images.shape)}; give floats of shape "
            f"(R, {', '.join(map(str, none.shape[1:]))})"
        )
    if not len(images) or not bool(((images >= 0) & (images <= 1)).all()):
        raise InputError("real_images must be one or more, with values in [0, 1]")
    return images.to(none)


def _tensor(given: Any, what: str) -> Tensor:
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"{what} are no numbers that torch knows; give a tensor") from None


@contextmanager
def _told_of_inference_tensors() -> Iterator[None]:
    """One line where gradients meet what was made in torch's inference mode."""
    try:
        yield
    except RuntimeError as error:
        if "nference tensor" not in str(error):
            raise
        raise InputError(
            "the encoder, or another tensor of the guidance, was made in torch.inference_mode(), "
            "where no gradient passes; make it outside of it"
        ) from None


@contextmanager
def _at_rest(network: object) -> Iterator[None]:
    """A module in evaluation mode and without gradients of its parameters, for a while."""
    if not isinstance(network, nn.Module):
        yield
        return
    training = [module for module in network.modules() if module.training]
    # torch lets nothing be changed of those that were made in its inference mode
    usual = (parameter for parameter in network.parameters() if not parameter.is_inference())
    trained = [parameter for parameter in usual if parameter.requires_grad]
    network.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
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
    variance, twice that, and where it must be told more than classes.
    """
    config: Any = unet.config
    wanted = list(inspect.signature(unet.forward).parameters.values())[2:]
    for parameter in wanted:
        if (
            parameter.default is parameter.empty
            and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ):
            raise InputError(
                f"{type(unet).__name__}: needs {parameter.name}; conditional inputs other than "
                "classes are not supported"
            )
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
    classes, kind = config.get("num_class_embeds"), config.get("class_embed_type")
    if kind not in (None, "timestep"):
        raise InputError(
            f"the model's class_embed_type is '{kind}': it is told vectors, not classes, which is "
            "not supported"
        )
    conditional = classes is not None or kind is not None
    if (given is None) == conditional:
        raise InputError(
            f"the model has {'' if kind else f'{classes} '}classes; give class_labels"
            if given is None
            else "class_labels are given and the model is unconditional; leave them out"
        )
    if given is None:
        return UNCONDITIONAL
    label = _tensor(given, "class_labels")
    bound = None if kind else classes  # of 'timestep' any number is a class
    wanted = f"class_labels must be whole numbers from 0{'' if kind else f' to {classes - 1}'}"
    if label.dtype == torch.bool or label.is_floating_point() or label.is_complex():
        raise InputError(f"{wanted}; these are {label.dtype}")
    label = label.to(device, torch.int64)  # torch embeds no narrower ones
    label = label.expand(batch_size) if label.ndim == 0 else label
    if label.shape != (batch_size,):
        raise InputError(f"class_labels are {tuple(label.shape)} for {batch_size} images")
    if label.min() < 0 or (bound is not None and label.max() >= bound):
        raise InputError(wanted)
    return ClassLabel(classes or 0, labels=label)


class _Predictor(nn.Module):
    """The model as sample_batch calls it: the chain's type in and out, the first channels alone.

    channels: of what is predicted, and as many again where a learned variance is drawn with.
    """

    unet: Any

    def __init__(self, unet: nn.Module, channels: int):
        super().__init__()
        self.unet, self.channels = unet, channels

    def forward(self, sample: Tensor, timestep: int, **condition: Tensor) -> Any:
        output = self.unet(sample.to(self.unet.dtype), timestep, **condition)
        return type(output)(sample=output.sample[:, : self.channels].to(sample.dtype))


class _Streams:
    """Noise as diffusers draws it, in the model's type: x_T is given, the rest comes from the
    generator."""

    def __init__(self, start: Tensor, generator: Generators, dtype: torch.dtype):
        self.start, self.generator, self.dtype, self.started = start, generator, dtype, False

    def draw(self, device: torch.device) -> Tensor:
        if not self.started:
            self.started = True
            return self.start
        drawn = randn_tensor(
            self.start.shape, generator=self.generator, device=device, dtype=self.dtype
        )
        return drawn.to(self.start.dtype)


# ---------------------------------------------------------------- scheduler
class _Chain(SubsequenceScheduler):
    """The scheduler of one call, with what a config or a caller may ask of it besides."""

    clipped = False  # use_clipped_model_output
    progress: Callable[[], Any] = staticmethod(lambda: None)

    @classmethod
    def of(cls, scheduler: SchedulerMixin) -> Self:
        """From another scheduler's abar and config; InputError where its noise is no DDPM's."""
        config, abar = scheduler.config, getattr(scheduler, "alphas_cumprod", None)
        name = type(scheduler).__name__
        if not isinstance(abar, Tensor):
            raise InputError(f"{name} has no abar; use a model with a DDPM or DDIM scheduler")
        kind = config.get("prediction_type", "epsilon")
        if kind not in PREDICTIONS:
            raise InputError(f"{name}: prediction_type is '{kind}', which is not supported")
        # abar is the scheduler's own, since not every kind of betas is known to DDIMScheduler
        chain = cls.from_config(config, beta_schedule="linear", rescale_betas_zero_snr=False)
        chain.alphas_cumprod = abar.detach().cpu()
        chain.final_alpha_cumprod = abar[0] if not chain.config.set_alpha_to_one else torch.ones(())
        return chain

    def choose(self, steps: int, spacing: str | None, timesteps: Sequence[int] | None) -> None:
        """Set the chain; `timesteps` wins over `spacing`, which wins over the config's."""
        total = self.config.num_train_timesteps
        if spacing is not None:
            _check_choice(spacing, sorted((*SPACINGS, *OF_DIFFUSERS)), "spacing")
        if timesteps is None:
            check_number("num_inference_steps", steps, whole=True, least=1, most=total)
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
    """One of VARIANCES: the caller's choice, else the scheduler's own."""
    if given is not None:
        _check_choice(given, ("small", "large"), "variance")
        return f"fixed_{given}"
    kind = scheduler.config.get("variance_type") or "fixed_small"
    if kind.removesuffix("_log") not in VARIANCES:
        raise InputError(
            f"the model's variance is '{kind}', which is not sampled with; choose variance 'small' "
            "or 'large', or eta 0"
        )
    return kind.removesuffix("_log")


def _check_generator(generator: Any, batch_size: int) -> None:
    """Raise InputError where it is neither None, a generator, nor a list of one an image."""
    several = generator if isinstance(generator, list) else [generator]
    if not all(one is None or isinstance(one, torch.Generator) for one in several):
        raise InputError("generator is neither a torch.Generator nor a list of them; give one")
    if isinstance(generator, list) and len(generator) != batch_size:
        raise InputError(
            f"{len(generator)} generators for {batch_size} images; give one, or one an image"
        )


def _check_choice(value: str, choices: Sequence[str], what: str) -> None:
    if value not in choices:
        raise InputError(f"{what} is '{value}'; choose one of {', '.join(choices)}")
