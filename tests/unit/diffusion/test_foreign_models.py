"""Models of other make: sampled as diffusers samples them, or refused in one line that is true."""

import json
from contextlib import contextmanager
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
)
from foreign_pipelines import ENCODER, FIT, make_unet, ours, sample, told
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastdp import ContrastiveGuidancePipeline
from contrastdp.diffusion.denoisers import load_pretrained, save_denoiser
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.errors import InputError


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


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.bfloat16, 0.1)])
def test_timestep_class_embeddings_in_other_types(dtype, atol):
    """diffusers hands float32 to the embedding; a table of its values is what it should give."""
    model, label = make_unet(class_embed_type="timestep"), [3, 7]
    same = make_unet(num_class_embeds=8)
    known = {name: value for name, value in model.state_dict().items() if "class_emb" not in name}
    with torch.no_grad():
        known["class_embedding.weight"] = model.class_embedding(
            model.time_proj(torch.arange(8)).double()
        )
    same.load_state_dict(known)
    expected = ours(same.to(dtype), DDIMScheduler(), class_labels=label)
    found = ours(model.to(dtype), DDIMScheduler(), class_labels=label)
    np.testing.assert_allclose(found, expected, atol=atol)
    assert not model.class_embedding._forward_pre_hooks


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
