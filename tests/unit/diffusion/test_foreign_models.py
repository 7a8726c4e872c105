"""Models of other make: sampled as diffusers samples them, or refused in one line that is true."""

import json
from contextlib import contextmanager, nullcontext
from itertools import pairwise

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastdp import ContrastiveGuidancePipeline
from contrastdp.diffusion.denoisers import load_pretrained, save_denoiser
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.errors import InputError
from contrastdp.guidance.classifier import ClassifierGuidance

UNET = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "norm_num_groups": 4}
UNET |= {"block_out_channels": (8, 8), "layers_per_block": 1}
UNET |= {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
ENCODER = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
GUIDED = {"lambda_": 30.0, "loss": "infonce"}
FIT = {"image_size": 8, "channels": 1, "classes": None}
FIT |= {"schedule": {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}}


def make_unet(**change):
    """In float64, where a chain does not amplify rounding beyond what the tests allow."""
    torch.manual_seed(0)
    return UNet2DModel(**UNET | change).eval().double()


def sample(pipeline, **options):
    """Images (N, H, W, C) from the generator of seed 0, of any pipeline."""
    pipeline.set_progress_bar_config(disable=True)
    options = {"batch_size": 2, "num_inference_steps": 4, "output_type": "np"} | options
    return pipeline(generator=torch.Generator().manual_seed(0), **options).images


def ours(model, scheduler=None, encoder=None, **options):
    scheduler = scheduler or DDPMScheduler(clip_sample=False)
    return sample(ContrastiveGuidancePipeline(model, scheduler, encoder), **options)


def told(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line
    return line


# ---------------------------------------------------------------- the same as diffusers
class Gap(int):
    """What makes T // Gap the gap itself."""

    def __rfloordiv__(self, other):
        return int(self)


class ExactDDIM(DDIMScheduler):
    """diffusers' DDIM, which takes t - T // n for the timestep after t, told the true one."""

    def step(self, model_output, timestep, *rest, **options):
        chain = self.timesteps.tolist()
        after = dict(zip(chain, [*chain[1:], -1], strict=True))[int(timestep)]
        self.num_inference_steps = Gap(int(timestep) - after)
        return super().step(model_output, timestep, *rest, **options)


def in_double(scheduler):
    """diffusers' scheduler with its scalars in float64."""
    for name in ("alphas_cumprod", "final_alpha_cumprod", "one"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, getattr(scheduler, name).double())
    return scheduler


def diffusers_ddim(model, scheduler, **options):
    pipeline = DDIMPipeline(model, scheduler)
    exact = in_double(ExactDDIM.from_config(pipeline.scheduler.config))
    # DDIM steps to abar[0] where t - T // n is 0 after the chain's last timestep, we to the final
    exact.alphas_cumprod = in_double(pipeline.scheduler).alphas_cumprod
    pipeline.scheduler = exact
    return sample(pipeline, **options)


def diffusers_ddpm(model, scheduler, **options):
    pipeline = DDPMPipeline(model, in_double(type(scheduler).from_config(scheduler.config)))
    return sample(pipeline, **options)


SCHEDULES = st.fixed_dictionaries(
    {
        "num_train_timesteps": st.sampled_from([20, 50, 1000]),
        "beta_schedule": st.sampled_from(["linear", "scaled_linear", "squaredcos_cap_v2"]),
        "prediction_type": st.sampled_from(["epsilon", "sample", "v_prediction"]),
        "timestep_spacing": st.sampled_from(["leading", "trailing", "linspace"]),
        "steps_offset": st.sampled_from([0, 1]),
        "rescale_betas_zero_snr": st.booleans(),
    }
    | {"clip_sample": st.booleans(), "clip_sample_range": st.sampled_from([1.0, 0.5])}
    | {"thresholding": st.booleans(), "sample_max_value": st.sampled_from([1.0, 1.5])}
)
STEPS = st.integers(1, 12) | st.sampled_from([17, 20])
SIZES = st.sampled_from([8, (8, 8), (4, 8)])
CLASSES = st.sampled_from([None, 3])


@contextmanager
def labelled(model, label):
    """The model with class_labels, which diffusers' pipelines do not pass."""

    def add(_, given, named):
        return given, named if label is None else named | {"class_labels": torch.tensor(label)}

    handle = model.register_forward_pre_hook(add, with_kwargs=True)
    yield
    handle.remove()


def same_or_refused(theirs, scheduler, size, classes, steps, **options):
    """Our images are theirs; refused is only predicted noise at abar 0, where they say nothing."""
    model = make_unet(sample_size=size, num_class_embeds=classes)
    label = None if classes is None else [1, 2]
    if classes:
        torch.nn.init.normal_(model.class_embedding.weight)
    call = {"num_inference_steps": steps, "class_labels": label, **options}
    try:
        found = ours(model, scheduler, **call)
    except InputError as error:
        assert "rescale_betas_zero_snr" in str(error)
        assert scheduler.config.rescale_betas_zero_snr
        assert scheduler.config.prediction_type == "epsilon"
        return
    eta = {"eta": options["eta"]} if theirs is diffusers_ddim else {}
    clipped = {"use_clipped_model_output": options["use_clipped_model_output"]} if eta else {}
    with labelled(model, label):
        expected = theirs(model, scheduler, num_inference_steps=steps, **eta, **clipped)
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


@settings(max_examples=30, deadline=None)
@given(
    schedule=SCHEDULES,
    to_one=st.booleans(),
    steps=STEPS,
    size=SIZES,
    classes=CLASSES,
    eta=st.sampled_from([0.0, 0.6]),
    clipped=st.booleans(),
)
def test_images_are_diffusers_ddim_s(schedule, to_one, steps, size, classes, eta, clipped):
    scheduler = DDIMScheduler(**schedule, set_alpha_to_one=to_one)
    if breaks_diffusers(scheduler, steps):
        return
    options = {"eta": eta, "use_clipped_model_output": clipped}
    same_or_refused(diffusers_ddim, scheduler, size, classes, steps, **options)


@settings(max_examples=30, deadline=None)
@given(
    schedule=SCHEDULES,
    betas=st.sampled_from(["sigmoid", "laplace", "linear", None]),
    variance=st.sampled_from(["fixed_small", "fixed_small_log", "fixed_large"]),
    steps=STEPS,
    size=SIZES,
    classes=CLASSES,
)
def test_images_are_diffusers_ddpm_s(schedule, betas, variance, steps, size, classes):
    schedule = schedule | ({"beta_schedule": betas} if betas else {})
    if betas is None:
        total = schedule["num_train_timesteps"]
        schedule |= {"trained_betas": np.linspace(0.001, min(0.3, 20 / total), total)}
    scheduler = DDPMScheduler(**schedule, variance_type=variance)
    if breaks_diffusers(scheduler, steps):
        return
    scheduler.set_timesteps(steps)
    if variance == "fixed_large" and scheduler.timesteps[-1] > 0:
        return  # diffusers leaves noise in the last image; docs/guidance.md says so
    options = {"eta": 1.0, "use_clipped_model_output": True}
    same_or_refused(diffusers_ddpm, scheduler, size, classes, steps, **options)


def breaks_diffusers(scheduler, steps):
    """Whether diffusers makes another number of timesteps than asked for, or one beyond [0, T)."""
    total = scheduler.config.num_train_timesteps
    if steps > total:
        return True
    scheduler.set_timesteps(steps)
    chain = scheduler.timesteps.tolist()
    return len(chain) != steps or chain[0] >= total or chain[-1] < 0


@pytest.mark.parametrize(
    "name",
    [
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "HeunDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LCMScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "TCDScheduler",
        "UniPCMultistepScheduler",
    ],
)
def test_schedulers_of_the_same_betas(name):
    model = make_unet()
    kind = getattr(diffusers, name, None)
    if kind is None:
        pytest.skip("not in this diffusers, or needs another package")
    scheduler = kind(beta_start=0.001, beta_end=0.015, beta_schedule="linear")
    expected = diffusers_ddim(model, scheduler)
    np.testing.assert_allclose(ours(model, scheduler), expected, atol=1e-6)
    assert np.isfinite(ours(model, scheduler, eta=1.0)).all()


@pytest.mark.parametrize("size", [(8, 8), (4, 8), [8, 4], (6, 8), (6, 6)])
def test_a_pair_of_sides(size):
    change = {"block_out_channels": (8, 8, 8)}
    change |= {"down_block_types": ("DownBlock2D",) * 3, "up_block_types": ("UpBlock2D",) * 3}
    change |= {"downsample_padding": 0, "downsample_type": "resnet", "upsample_type": "resnet"}
    assert ours(make_unet(sample_size=size, **change)).shape == (2, *size, 1)


def test_timestep_class_embeddings():
    model = make_unet(class_embed_type="timestep").float()
    label, chain = torch.tensor([3, 700]), {"num_inference_steps": 4}
    with labelled(model, label.tolist()):
        expected = sample(DDIMPipeline(model, DDIMScheduler()), **chain)
    found = ours(model, DDIMScheduler(), class_labels=label)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    told(lambda: ours(model), "the model has classes; give class_labels")
    told(lambda: ours(model, class_labels=[-1, 2]), "from 0")


# ---------------------------------------------------------------- chains
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize(("total", "offset"), [(1, 0), (20, 1), (100, 0), (1000, 1), (1000, 0)])
def test_every_count_gives_that_many_timesteps(spacing, total, offset):
    prediction = {"timestep_spacing": spacing, "steps_offset": offset}
    chosen = SubsequenceScheduler(num_train_timesteps=total, **prediction)
    theirs = DDIMScheduler(num_train_timesteps=total, **prediction)
    for count in range(1, total + 1):
        chosen.set_timesteps(count)
        chain = chosen.timesteps.tolist()
        assert len(chain) == count
        assert all(a > b for a, b in pairwise(chain))
        assert chain[-1] >= 0
        assert chain[0] < total
        if not breaks_diffusers(theirs, count):
            assert chain == theirs.timesteps.tolist()
    for count in (0, total + 1, None):
        told(lambda count=count: chosen.set_timesteps(count), "num_inference_steps")


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        ({"steps_offset": -1}, ("steps_offset is -1",)),
        ({"beta_start": 0.0}, ("abar", "betas")),
        ({"trained_betas": [0.1, float("nan"), 0.2], "num_train_timesteps": 3}, ("abar",)),
        ({"trained_betas": [0.1, -0.5, 0.2], "num_train_timesteps": 3}, ("abar",)),
        ({"trained_betas": [0.1] * 5}, ("5 betas", "num_train_timesteps 1000")),
    ],
)
def test_chains_that_no_step_can_take(scheduler, words):
    told(lambda: ours(make_unet(), DDIMScheduler(**scheduler), num_inference_steps=3), *words)


@pytest.mark.parametrize("timesteps", [[10.5, 3], [True, "3"], 5, [float("nan")], [3, 10]])
def test_timesteps_that_are_none(timesteps):
    told(lambda: ours(make_unet(), timesteps=timesteps), "timesteps must")


# ---------------------------------------------------------------- zero terminal SNR
@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_guidance_where_the_chain_starts_without_signal(kind):
    options = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    scheduler = DDIMScheduler(prediction_type=kind, clip_sample=False, **options)
    plain = ours(make_unet(), scheduler)
    contrastive = ours(make_unet(), scheduler, ENCODER, **GUIDED, at="clean")
    assert np.isfinite(contrastive).all()
    assert np.abs(contrastive - plain).max() > 1e-6
    encoder = ENCODER.double()
    for at in ("state", "clean"):
        guidance = ClassifierGuidance(encoder, 1.0, lambda t: scheduler.alphas_cumprod[t], at=at)
        found = ours(make_unet(), scheduler, guidance=guidance)
        assert np.isfinite(found).all()
        assert np.abs(found - plain).max() > 1e-6
    ENCODER.float()


def test_predicted_noise_is_refused_there():
    options = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    scheduler = DDIMScheduler(**options)
    told(lambda: ours(make_unet(), scheduler), "rescale_betas_zero_snr", "t = 999")
    assert np.isfinite(ours(make_unet(), scheduler, spacing="leading")).all()


# ---------------------------------------------------------------- what is refused
UNKNOWN = [{"num_inference_setps": 3}, {"lambda": 1.0, "bta": 2}, {"class_label": 1}]


@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize("guided", [False, True])
def test_unknown_keywords(unknown, guided):
    options = unknown | (GUIDED if guided else {})
    told(lambda: ours(make_unet(), encoder=ENCODER, **options), list(unknown)[-1])


@pytest.mark.parametrize("beside", [*UNKNOWN, {"tau": 1.0}, {"lambda_": 2.0}, {"head": 4}])
def test_nothing_is_given_beside_a_guidance(beside):
    guidance = ClassifierGuidance(ENCODER, 1.0, lambda t: 0.5)
    told(lambda: ours(make_unet(), guidance=guidance, **beside), "beside guidance")


NAN = float("nan")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"batch_size": 2.0}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"num_inference_steps": 2.5}, "num_inference_steps"),
        ({"num_inference_steps": NAN}, "num_inference_steps"),
        ({"eta": NAN}, "eta"),
        ({"eta": "1"}, "eta"),
        ({"seed": 0.5}, "seed"),
        ({"micro_batch": -1}, "micro_batch"),
        ({"micro_batch": 0}, "micro_batch"),
        ({"guidance_batch": -2}, "guidance_batch"),
        ({"guidance_batch": 0}, "guidance_batch"),
        ({"lambda_": NAN}, "lambda"),
        ({"lambda_": float("inf")}, "lambda"),
        ({"tau": 0}, "tau"),
        ({"tau": NAN}, "tau"),
        ({"loss": "hnm", "tau_plus": 1.0}, "tau_plus"),
        ({"loss": "hnm", "beta": -1}, "beta"),
        ({"clip": NAN}, "clip"),
        ({"clip": 0}, "clip"),
        ({"head": -3}, "head"),
        ({"head": 2.5}, "head"),
        ({"head_learning_rate": NAN}, "head_learning_rate"),
        ({"window_low": 500, "window_high": 400}, "window_high is 400"),
        ({"window_low": 1.5}, "window_low"),
        ({"window_low": 2000, "window_high": 3000}, "window"),
        ({"num_inference_steps": 1}, "no earlier state"),
        ({"encoder_input": "both"}, "encoder_input"),
        ({"encoder": "resnet"}, "the encoder is a str"),
        ({"pairs": "real_positive"}, "give real"),
        ({"real_images": torch.zeros(3, 1, 8, 8, dtype=torch.uint8)}, "torch.uint8"),
        ({"real_images": torch.full((3, 1, 8, 8), 2.0)}, "[0, 1]"),
        ({"real_images": torch.full((3, 1, 8, 8), NAN)}, "[0, 1]"),
        ({"real_images": torch.zeros(3, 8, 8)}, "(3, 8, 8)"),
        ({"real_images": "none"}, "real_images"),
        ({"class_labels": None, "generator": 5}, "generator"),
    ],
)
def test_settings_out_of_range(options, word):
    options = GUIDED | {"encoder": ENCODER, "batch_size": 2} | options
    pipeline = ContrastiveGuidancePipeline(make_unet(), DDPMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 3} | options
    told(lambda: pipeline(**options), word)


INTEGERS = ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")


@pytest.mark.parametrize("kind", INTEGERS)
def test_labels_of_whole_numbers_of_any_width(kind):
    model = make_unet(num_class_embeds=3)
    expected = ours(model, class_labels=[0, 2])
    for label in (np.array([0, 2], kind), torch.tensor([0, 2], dtype=getattr(torch, kind))):
        np.testing.assert_array_equal(ours(model, class_labels=label), expected)
    one = ours(model, class_labels=[2, 2])
    np.testing.assert_array_equal(ours(model, class_labels=np.array(2, kind)), one)


@pytest.mark.parametrize(
    "label",
    [[False, True], True, [0.0, 1.0], [NAN, 1.0], [0, 3], [-1, 0], 2**70, ["a", "b"], [1j, 2]],
)
def test_labels_that_are_none(label):
    told(lambda: ours(make_unet(num_class_embeds=3), class_labels=label), "class_labels")


@pytest.mark.parametrize("given", [{"target": 7}, {}])
def test_a_classifier_that_does_not_know_the_class(given):
    guidance = ClassifierGuidance(ENCODER.double(), 1.0, lambda t: 0.5, **given)
    model = make_unet(num_class_embeds=9)
    told(lambda: ours(model, guidance=guidance, class_labels=[7, 7]), "class 7", "5 classes")
    ENCODER.float()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sample_size": None}, ("sample_size",)),
        ({"class_embed_type": "identity"}, ("class_embed_type is 'identity'",)),
    ],
)
@pytest.mark.parametrize("label", [None, [1, 2]])
def test_models_that_are_not_sampled(change, words, label):
    told(lambda: ours(make_unet(**change), class_labels=label), *words)


def test_models_that_are_told_more_than_classes():
    model = UNet2DConditionModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        cross_attention_dim=8,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    told(lambda: ours(model), "encoder_hidden_states")


def test_a_model_that_is_not_finite():
    model = make_unet()
    torch.nn.init.constant_(model.conv_out.bias, NAN)
    assert "lambda" not in told(lambda: ours(model), "not finite", "denoiser")
    line = told(lambda: ours(model, encoder=ENCODER, **GUIDED), "not finite", "denoiser")
    assert "tau" not in line


# ---------------------------------------------------------------- torch's modes
@contextmanager
def default_type():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


MODES = {
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "set_grad_enabled": lambda: torch.set_grad_enabled(False),
    "float64": default_type,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "device_meta": lambda: torch.device("meta"),
    "deterministic": deterministic,
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
@pytest.mark.parametrize(
    "options",
    [
        {"eta": 0.5},
        GUIDED | {"head": 4, "direction": "random"},
        GUIDED | {"pairs": "real_negative", "real_images": torch.full((3, 1, 8, 8), 0.3)},
        GUIDED | {"pairs": "class_conditional", "class_labels": [0, 1]},
    ],
)
def test_modes_of_torch_do_not_change_the_images(mode, options):
    model = make_unet(num_class_embeds=2 if "class_labels" in options else None).float()
    pipeline = ContrastiveGuidancePipeline(model, DDIMScheduler(), ENCODER)
    expected = sample(pipeline, **options)
    generator = torch.Generator().manual_seed(0)
    pipeline.set_progress_bar_config(disable=True)
    call = {"batch_size": 2, "num_inference_steps": 4, "output_type": "np", **options}
    with mode():
        found = pipeline(generator=generator, **call).images
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_what_was_made_in_inference_mode():
    with torch.inference_mode():
        model, encoder = make_unet().float(), torch.nn.Linear(8, 3)
    model_alone = ContrastiveGuidancePipeline(model, DDIMScheduler(), ENCODER)
    assert np.isfinite(sample(model_alone, **GUIDED)).all()
    pipeline = ContrastiveGuidancePipeline(model, DDIMScheduler(), encoder)
    for mode in (nullcontext, torch.inference_mode):
        with mode():
            told(lambda: sample(pipeline, **GUIDED), "inference_mode")


def test_a_model_without_weights():
    with torch.device("meta"):
        model = UNet2DModel(**UNET)
    told(lambda: ours(model), "meta")


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32, torch.float64])
def test_an_encoder_of_any_type(kind):
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5)).to(kind)
    for model in (make_unet(), make_unet().float(), make_unet().to(torch.bfloat16)):
        found = ours(model, encoder=encoder, **GUIDED, head=4)
        assert np.isfinite(found).all()


# ---------------------------------------------------------------- files
@pytest.fixture
def workflow_folder(tmp_path):
    save_denoiser(tmp_path / "model", make_unet().float(), SubsequenceScheduler())
    return tmp_path / "model"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"torch_dtype": torch.bfloat16},
        {"use_safetensors": True},
        {"low_cpu_mem_usage": False},
        {"scheduler": DDIMScheduler(timestep_spacing="trailing")},
        {"unet": make_unet(sample_size=4).float()},
        {"encoder": ENCODER},
    ],
    ids=lambda options: "".join(options),
)
def test_a_folder_of_the_workflow_takes_diffusers_options(workflow_folder, options):
    before = sorted(workflow_folder.rglob("*"))
    pipeline = ContrastiveGuidancePipeline.from_pretrained(workflow_folder, **options)
    assert sorted(workflow_folder.rglob("*")) == before
    for name in ("scheduler", "unet", "encoder"):
        assert name not in options or getattr(pipeline, name) is options[name]
    assert pipeline.unet.dtype == options.get("torch_dtype", torch.float32)
    assert np.isfinite(sample(pipeline)).all()


@pytest.mark.parametrize(
    ("scheduler", "kind"),
    [
        (DDPMScheduler(beta_schedule="sigmoid"), DDPMPipeline),
        (DDIMScheduler(), DDIMPipeline),
        (SubsequenceScheduler(), DDIMPipeline),
    ],
)
def test_diffusers_common_loader_takes_what_was_saved(tmp_path, scheduler, kind):
    pipeline = ContrastiveGuidancePipeline(make_unet().float(), scheduler)
    pipeline.save_pretrained(tmp_path)
    loaded = DiffusionPipeline.from_pretrained(tmp_path)
    assert type(loaded) is kind
    again = ContrastiveGuidancePipeline.from_pretrained(tmp_path)
    np.testing.assert_array_equal(sample(again), sample(pipeline))
    options = {"eta": 1.0, "use_clipped_model_output": True} if kind is DDPMPipeline else {}
    np.testing.assert_allclose(sample(loaded), sample(pipeline, **options), atol=1e-4)


def test_a_trainers_checkpoint_without_a_scheduler(tmp_path):
    make_unet().float().save_pretrained(tmp_path / "unet")
    (tmp_path / "unet_ema").mkdir()
    for call in (
        lambda: load_pretrained(str(tmp_path), **FIT),
        lambda: ContrastiveGuidancePipeline.from_pretrained(tmp_path),
    ):
        line = told(call, "scheduler_config.json", "unet_ema/")
        assert "delete" not in line
    scheduler = DDPMScheduler()
    found = ContrastiveGuidancePipeline.from_pretrained(tmp_path, scheduler=scheduler)
    assert found.scheduler is scheduler


@pytest.mark.parametrize(
    ("change", "scheduler", "words"),
    [
        ({"class_embed_type": "timestep"}, {}, ("class_embed_type is timestep",)),
        ({"sample_size": (8, 4)}, {}, ("image size is [8, 4]",)),
        ({}, {"beta_schedule": "sigmoid"}, ("sigmoid", "noise_schedule has no such")),
        ({}, {"rescale_betas_zero_snr": True}, ("rescale_betas_zero_snr", "has no such")),
        ({}, {"beta_end": 0.01}, ("beta_end 0.01", "set the same")),
    ],
)
def test_models_that_the_workflow_does_not_take_over(tmp_path, change, scheduler, words):
    pipeline = DDPMPipeline(make_unet(**change).float(), DDPMScheduler(**scheduler))
    pipeline.save_pretrained(tmp_path)
    line = told(lambda: load_pretrained(str(tmp_path), **FIT), *words)
    assert "delete" not in line


def test_the_workflow_takes_over_a_pair_of_equal_sides(tmp_path):
    DDPMPipeline(make_unet(sample_size=(8, 8)).float(), DDPMScheduler()).save_pretrained(tmp_path)
    assert load_pretrained(str(tmp_path), **FIT)[0].config.sample_size == [8, 8]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "scheduler" / "scheduler_config.json").write_text("{"),
        lambda folder: (folder / "unet" / "config.json").write_text("[]"),
        lambda folder: (folder / "unet" / "config.json").write_text('{"_class_name": "DiT"}'),
        lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"x"),
        lambda folder: (folder / "scheduler" / "scheduler_config.json").write_text(
            json.dumps({"_class_name": "DDPMScheduler", "beta_schedule": "unheard"})
        ),
    ],
)
def test_damaged_models_of_others(tmp_path, damage):
    DDPMPipeline(make_unet().float(), DDPMScheduler()).save_pretrained(tmp_path)
    (tmp_path / "model_index.json").unlink()
    damage(tmp_path)
    for call in (
        lambda: load_pretrained(str(tmp_path), **FIT),
        lambda: ContrastiveGuidancePipeline.from_pretrained(tmp_path),
    ):
        line = told(call)
        assert "delete" not in line or "if a job wrote it" in line
