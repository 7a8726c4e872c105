"""The pipeline against diffusers' own, against the sampler of the workflow, and on its files."""

import dataclasses
import inspect
import json
import re
import subprocess
import sys
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UNet2DModel,
)
from PIL import Image

from contrastdp import ContrastiveGuidancePipeline
from contrastdp.diffusion.denoisers import SmallDenoiser, save_denoiser
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.errors import InputError
from contrastdp.guidance import contrast
from contrastdp.guidance.build import build_guidance
from contrastdp.guidance.contrastive import ContrastiveGuidance
from contrastdp.networks.build import build_network

UNET = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "norm_num_groups": 4}
UNET |= {"block_out_channels": (8, 8), "layers_per_block": 1}
UNET |= {"down_block_types": ("DownBlock2D", "AttnDownBlock2D")}
UNET |= {"up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
GUIDED = {"lambda_": 300.0, "loss": "infonce", "num_inference_steps": 5}


def make_unet(**change):
    torch.manual_seed(0)
    return UNet2DModel(**UNET | change).eval()


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(pipeline, count=4, **options):
    """Images (N, C, H, W) from the generator of seed 0."""
    options = {"generator": seeded(), "output_type": "pt"} | options
    return quiet(pipeline)(batch_size=count, **options).images


def sample_diffusers(pipeline, count=4, **options):
    """The same of a pipeline of diffusers, which gives no tensors where it converts to numpy."""
    images = quiet(pipeline)(
        batch_size=count, generator=seeded(), output_type="np", **options
    ).images
    return torch.from_numpy(images).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def unet():
    return make_unet()


@pytest.fixture(scope="module")
def encoder():
    small = build_network("small_cnn", channels=1, classes=3, image_size=8, width=4, features=6)
    return small.double()


@pytest.fixture(scope="module")
def exact():
    """In float64, where a chain does not amplify rounding, which depends on the processor."""
    return make_unet().double()


@pytest.fixture
def pipeline(exact):
    return ContrastiveGuidancePipeline(exact, DDPMScheduler(clip_sample=False))


# ---------------------------------------------------------------- plain sampling
@pytest.mark.parametrize("steps", [1, 4, 10])
@pytest.mark.parametrize(
    "options",
    [
        {"clip_sample": False},
        {"clip_sample": True},
        {"clip_sample": True, "clip_sample_range": 0.5},
        {"clip_sample": False, "prediction_type": "v_prediction"},
        {"clip_sample": False, "prediction_type": "sample"},
        {"clip_sample": False, "beta_schedule": "squaredcos_cap_v2"},
        {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1},
    ],
)
def test_plain_sampling_is_diffusers_ddim(exact, options, steps):
    scheduler = DDIMScheduler(**options)
    expected = sample_diffusers(DDIMPipeline(exact, scheduler), num_inference_steps=steps)
    found = sample(ContrastiveGuidancePipeline(exact, scheduler), num_inference_steps=steps)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("clipped", [False, True])
def test_noise_and_options_are_diffusers_ddim_s(exact, clipped):
    options = {"eta": 0.7, "use_clipped_model_output": clipped, "num_inference_steps": 8}
    scheduler = DDIMScheduler(clip_sample=True)
    expected = sample_diffusers(DDIMPipeline(exact, scheduler), **options)
    found = sample(ContrastiveGuidancePipeline(exact, scheduler), **options)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("clip", [False, True])
def test_eta_one_is_diffusers_ddpm(exact, variance, clip):
    scheduler = DDPMScheduler(variance_type=variance, clip_sample=clip)
    expected = sample_diffusers(DDPMPipeline(exact, scheduler), num_inference_steps=10)
    options = {"eta": 1.0, "use_clipped_model_output": True, "num_inference_steps": 10}
    pipeline = ContrastiveGuidancePipeline(exact, scheduler)
    torch.testing.assert_close(sample(pipeline, **options), expected, atol=1e-5, rtol=0)
    other = "small" if variance == "fixed_large" else "large"
    assert (sample(pipeline, **options, variance=other) - expected).abs().max() > 1e-2


def test_lambda_zero_is_plain_whatever_the_encoder(unet, encoder):
    scheduler = DDIMScheduler(clip_sample=False)
    plain = sample(ContrastiveGuidancePipeline(unet, scheduler), num_inference_steps=5)
    for options in ({}, {"lambda_": 0.0, "loss": "infonce", "guidance_batch": 2}):
        pipeline = ContrastiveGuidancePipeline(unet, scheduler, encoder)
        assert torch.equal(sample(pipeline, num_inference_steps=5, **options), plain)


@pytest.mark.parametrize(
    "spacing", ["uniform", "quadratic", "even", "leading", "trailing", "linspace"]
)
def test_spacings(pipeline, spacing):
    seen = []
    handle = pipeline.unet.register_forward_pre_hook(lambda _, given: seen.append(int(given[1])))
    sample(pipeline, spacing=spacing, num_inference_steps=7)
    handle.remove()
    if spacing in ("uniform", "quadratic", "even"):
        from contrastdp.diffusion.schedulers import subsequence

        expected = subsequence(1000, 7, spacing)
    else:
        scheduler = DDIMScheduler(timestep_spacing=spacing)
        scheduler.set_timesteps(7)
        expected = scheduler.timesteps.tolist()
    assert seen == expected
    by_hand = sample(pipeline, timesteps=expected)
    assert torch.equal(sample(pipeline, spacing=spacing, num_inference_steps=7), by_hand)


def test_a_generator_an_image_makes_images_of_their_own(pipeline):
    options = {"num_inference_steps": 4, "eta": 1.0}
    three = sample(pipeline, 3, generator=[seeded(s) for s in (3, 4, 5)], **options)
    for i, seed in enumerate((3, 4, 5)):
        one = sample(pipeline, 1, generator=[seeded(seed)], **options)
        torch.testing.assert_close(three[i : i + 1], one, atol=1e-5, rtol=0)


def test_half_precision_rounds_the_model_and_not_the_chain(unet):
    half = make_unet().to(torch.bfloat16)
    scheduler = DDIMScheduler(clip_sample=False)
    found = sample(ContrastiveGuidancePipeline(half, scheduler), num_inference_steps=5)
    expected = sample(ContrastiveGuidancePipeline(unet, scheduler), num_inference_steps=5)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)


def test_learned_variance_is_dropped(unet):
    double = make_unet(out_channels=2)
    single = make_unet()
    state = {k: v for k, v in double.state_dict().items() if not k.startswith("conv_out")}
    state |= {f"conv_out.{k}": getattr(double.conv_out, k)[:1] for k in ("weight", "bias")}
    single.load_state_dict(state)
    learned = ContrastiveGuidancePipeline(double, DDPMScheduler(variance_type="learned_range"))
    plain = ContrastiveGuidancePipeline(single, DDPMScheduler())
    for options in ({"eta": 0.0}, {"eta": 1.0, "variance": "small"}):
        expected = sample(plain, num_inference_steps=4, **options)
        assert torch.equal(sample(learned, num_inference_steps=4, **options), expected)
    with pytest.raises(InputError, match="learned_range"):  # of a model that learned none
        sample(ContrastiveGuidancePipeline(single, learned.scheduler), eta=1.0)


# ---------------------------------------------------------------- guided sampling
def algorithm_1(unet, scheduler, features, start, steps, lambda_, tau, label=None):
    """Guided DDIM written down step by step, with the gradient of a full graph."""
    abar = scheduler.alphas_cumprod.double()
    chain = list(range(0, 1000, 1000 // steps))[:steps][::-1]
    x, before = start, None
    for t, after in zip(chain, [*chain[1:], -1], strict=True):
        now, then = abar[t], abar[after] if after >= 0 else torch.ones((), dtype=abar.dtype)
        with torch.no_grad():
            given = {} if label is None else {"class_labels": label}
            e = unet(x, t, **given).sample
        if scheduler.config.prediction_type == "v_prediction":
            e = now.sqrt() * e + (1 - now).sqrt() * x
        elif scheduler.config.prediction_type == "sample":
            e = (x - now.sqrt() * e) / (1 - now).sqrt()
        source = x.clone().requires_grad_()
        z = contrast.normalise(features((source + 1) / 2).double())
        if before is not None:
            others = (z @ z.detach().T).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
            logits = torch.cat([(z * before).sum(1, keepdim=True), others], dim=1) / tau
            loss = torch.nn.functional.cross_entropy(logits, torch.zeros(len(z)).long())  # C.1
            e = e + lambda_ * torch.autograd.grad(loss, source)[0]
        before = z.detach()
        clean = (x - (1 - now).sqrt() * e) / now.sqrt()
        x = then.sqrt() * clean + (1 - then).sqrt() * e
    return (x.detach() / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_guided_images_against_algorithm_1(exact, encoder, prediction):
    scheduler = DDPMScheduler(clip_sample=False, prediction_type=prediction)
    start = torch.randn(4, 1, 8, 8, generator=seeded(), dtype=torch.float64)
    expected = algorithm_1(exact, scheduler, encoder.features, start, 5, 300.0, 0.1)
    pipeline = ContrastiveGuidancePipeline(exact, scheduler, encoder)
    found = sample(pipeline, **GUIDED)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (sample(pipeline, num_inference_steps=5) - found).abs().max() > 1e-2


def test_conditional_models(encoder):
    unet = make_unet(num_class_embeds=3).double()
    torch.nn.init.normal_(unet.class_embedding.weight)
    scheduler = DDPMScheduler(clip_sample=False)
    pipeline = ContrastiveGuidancePipeline(unet, scheduler, encoder)
    label = torch.tensor([0, 1, 2, 0])
    start = torch.randn(4, 1, 8, 8, generator=seeded(), dtype=torch.float64)
    expected = algorithm_1(unet, scheduler, encoder.features, start, 5, 300.0, 0.1, label)
    found = sample(pipeline, class_labels=[0, 1, 2, 0], **GUIDED)
    torch.testing.assert_close(found, expected, atol=3e-5, rtol=0)
    ones = sample(pipeline, class_labels=1, num_inference_steps=3)
    assert torch.equal(ones, sample(pipeline, class_labels=[1] * 4, num_inference_steps=3))
    sample(pipeline, class_labels=label, pairs="class_conditional", **GUIDED)


def test_batches_are_guided_each_for_itself(encoder):
    unet = make_unet(num_class_embeds=6).double()
    torch.nn.init.normal_(unet.class_embedding.weight)
    pipeline = ContrastiveGuidancePipeline(unet, DDPMScheduler(clip_sample=False), encoder)
    options = GUIDED | {"eta": 1.0}
    streams = [seeded(s) for s in range(6)]
    whole = sample(
        pipeline, 6, generator=streams, class_labels=range(6), guidance_batch=3, **options
    )
    for first in (0, 3):
        own = range(first, first + 3)
        part = sample(pipeline, 3, generator=[seeded(s) for s in own], class_labels=own, **options)
        torch.testing.assert_close(whole[first : first + 3], part, atol=1e-5, rtol=0)


def test_micro_batches_give_the_same_images(pipeline, encoder):
    whole = sample(pipeline, encoder=encoder, **GUIDED)
    pieces = sample(pipeline, encoder=encoder, micro_batch=3, **GUIDED)
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=0)


def test_any_module_or_function_is_an_encoder(pipeline, encoder):
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Dropout(0.5), torch.nn.ReLU())
    module.train()
    found = sample(pipeline, encoder=module, **GUIDED)
    assert torch.equal(found, sample(pipeline, encoder=module, **GUIDED))  # no dropout
    assert module.training
    assert module[1].training
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    called = sample(pipeline, encoder=lambda x: encoder.features(x.double()), **GUIDED)
    assert torch.equal(called, sample(pipeline, encoder=encoder, **GUIDED))
    assert not torch.equal(called, found)


def test_settings_reach_the_guidance(pipeline, encoder):
    reference = sample(pipeline, encoder=encoder, **GUIDED)
    for change in (
        {"tau": 0.3},
        {"loss": "hnm", "lambda_": 3e4},
        {"window_low": 500},
        {"head": 4},
        {"encoder_input": "raw"},
        {"pairs": "real_positive", "real_images": torch.rand(5, 1, 8, 8, generator=seeded(1))},
    ):
        assert not torch.equal(sample(pipeline, encoder=encoder, **GUIDED | change), reference)


def test_real_images_are_seen_as_the_encoder_sees_states(pipeline, encoder):
    images = torch.rand(5, 1, 8, 8, generator=seeded(1), dtype=torch.float64)
    options = GUIDED | {"encoder": encoder, "pairs": "real_positive"}
    for kind, seen in (("unit", images), ("raw", 2 * images - 1)):
        with torch.no_grad():
            real = encoder.features(seen)
        expected = sample(pipeline, encoder_input=kind, real=real, **options)
        found = sample(pipeline, encoder_input=kind, real_images=images, **options)
        assert torch.equal(found, expected)


def test_any_guidance_takes_its_place(pipeline):
    class Constant:
        def start(self, indices, timesteps, label=None):
            self.indices = indices

        def __call__(self, state, timestep):
            return torch.full_like(state, 0.1)

    guidance = Constant()
    found = sample(pipeline, guidance=guidance, guidance_batch=2, num_inference_steps=4)
    assert list(guidance.indices) == [2, 3]
    original = pipeline.unet.forward
    shifted = make_unet().double()
    shifted.load_state_dict(pipeline.unet.state_dict())
    shifted.conv_out.bias.data += 0.1
    expected = sample(
        ContrastiveGuidancePipeline(shifted, pipeline.scheduler), num_inference_steps=4
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert pipeline.unet.forward == original


# ---------------------------------------------------------------- files
def same_images(one, other, **options):
    options = {"num_inference_steps": 3} | options
    weights = one.unet.state_dict(), other.unet.state_dict()
    assert all(torch.equal(weights[0][name].to(v), v) for name, v in weights[1].items())
    # not to the bit: kernels of some processors depend on where a weight lies in memory
    torch.testing.assert_close(sample(one, **options), sample(other, **options), atol=1e-9, rtol=0)


def flatten(folder):
    """To the layout of google/ddpm-cifar10-32: all in one folder, weights as .bin."""
    state = UNet2DModel.from_pretrained(folder / "unet").state_dict()
    torch.save(state, folder / "diffusion_pytorch_model.bin")
    (folder / "unet" / "config.json").rename(folder / "config.json")
    (folder / "scheduler" / "scheduler_config.json").rename(folder / "scheduler_config.json")
    for name in ("unet", "scheduler"):
        for file in (folder / name).iterdir():
            file.unlink()
        (folder / name).rmdir()


@pytest.mark.parametrize("layout", ["folders", "flat"])
def test_loads_what_diffusers_saved(unet, tmp_path, layout):
    saved = DDPMPipeline(unet, DDPMScheduler(clip_sample=True, variance_type="fixed_large"))
    saved.save_pretrained(tmp_path)
    if layout == "flat":
        flatten(tmp_path)
    loaded = ContrastiveGuidancePipeline.from_pretrained(tmp_path, torch_dtype=torch.float64)
    assert loaded.scheduler.config.variance_type == "fixed_large"
    expected = sample_diffusers(
        DDPMPipeline.from_pretrained(tmp_path, torch_dtype=torch.float64), num_inference_steps=5
    )
    found = sample(loaded, num_inference_steps=5, eta=1.0, use_clipped_model_output=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_saves_what_diffusers_and_itself_load(pipeline, encoder, tmp_path):
    pipeline.encoder = deepcopy(encoder).float()
    pipeline.save_pretrained(tmp_path)
    again = ContrastiveGuidancePipeline.from_pretrained(tmp_path, torch_dtype=torch.float64)
    same_images(pipeline, again, **GUIDED)
    expected = sample(pipeline, num_inference_steps=5)
    found = sample_diffusers(
        DDIMPipeline.from_pretrained(tmp_path, torch_dtype=torch.float64), num_inference_steps=5
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert json.loads((tmp_path / "model_index.json").read_text())["unet"][0] == "diffusers"
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_other_encoders_are_not_saved(pipeline, encoder, tmp_path):
    pipeline.encoder = encoder
    pipeline.save_pretrained(tmp_path)
    pipeline.encoder = torch.nn.Flatten()
    pipeline.save_pretrained(tmp_path)
    assert ContrastiveGuidancePipeline.from_pretrained(tmp_path).encoder is None
    options = {"encoder": torch.nn.Flatten(), "torch_dtype": torch.float64}
    given = ContrastiveGuidancePipeline.from_pretrained(tmp_path, **options)
    same_images(pipeline, given, **GUIDED)


def test_small_denoisers_and_the_workflow_s_folders(tmp_path):
    torch.manual_seed(0)
    small = SmallDenoiser(width=8, inner=8, depth=1, embedding=8, groups=4)
    torch.nn.init.normal_(small.leave.weight, std=0.1)
    scheduler = SubsequenceScheduler(clip_sample=False)
    pipeline = ContrastiveGuidancePipeline(small.eval(), scheduler)
    save_denoiser(tmp_path / "workflow", small, scheduler)
    pipeline.save_pretrained(tmp_path / "pipeline")
    for name in ("workflow", "pipeline"):
        loaded = ContrastiveGuidancePipeline.from_pretrained(tmp_path / name)
        same_images(pipeline, loaded)


# ---------------------------------------------------------------- outputs and faults
def test_outputs(pipeline):
    tensor = sample(pipeline, 2, num_inference_steps=2)
    assert tensor.shape == (2, 1, 8, 8)
    array = sample(pipeline, 2, num_inference_steps=2, output_type="np")
    np.testing.assert_array_equal(array, tensor.permute(0, 2, 3, 1))
    images = sample(pipeline, 2, num_inference_steps=2, output_type="pil")
    assert all(isinstance(image, Image.Image) for image in images)
    np.testing.assert_array_equal(np.stack(images), (array[..., 0] * 255).round().astype(np.uint8))
    (found,) = pipeline(2, seeded(), num_inference_steps=2, output_type="pt", return_dict=False)
    assert torch.equal(found, tensor)


def test_progress_counts_every_step(pipeline, encoder, capsys):
    pipeline.set_progress_bar_config()
    pipeline(4, encoder=encoder, guidance_batch=2, **GUIDED)
    assert "10/10" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_": 1.0}, "no encoder"),
        ({"output_type": "latent"}, "output_type"),
        ({"eta": 1.5}, "eta is 1.5"),
        ({"count": 0}, "batch_size is 0"),
        ({"generator": [seeded()]}, "1 generators for 4 images"),
        ({"class_labels": 1}, "unconditional"),
        ({"spacing": "cubic"}, "spacing is 'cubic'"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
        ({"timesteps": [1, 2]}, "fall strictly"),
        ({"eta": 1.0, "variance": "learned"}, "variance is 'learned'"),
        ({"encoder": lambda x: x.mean(), "lambda_": 1.0}, "encoder gives"),
        ({"encoder": torch.nn.Flatten(), "lambda_": 1.0, "guidance_batch": 3}, "no multiple"),
        ({"encoder": torch.nn.Flatten(), "lambda_": 1.0, "guidance_batch": 1}, "no negatives"),
        ({"encoder": torch.nn.Flatten(), "lambda_": 1.0, "loss": "hnn"}, "hnn"),
        ({"encoder": torch.nn.Flatten(), "lambda_": 1.0, "beat": 1.0}, "beat"),
    ],
)
def test_faults_are_told_in_one_line(pipeline, options, message):
    with pytest.raises(InputError, match=message) as caught:
        sample(pipeline, **{"num_inference_steps": 2} | options)
    assert "\n" not in str(caught.value)


def test_models_that_do_not_fit(unet):
    euler = ContrastiveGuidancePipeline(unet, EulerDiscreteScheduler())
    assert sample(euler, num_inference_steps=2).shape == (4, 1, 8, 8)
    make = partial(ContrastiveGuidancePipeline, unet)
    conditional = ContrastiveGuidancePipeline(make_unet(num_class_embeds=3), DDPMScheduler())
    concatenated = ContrastiveGuidancePipeline(make_unet(in_channels=3), DDPMScheduler())
    for pipeline, options, message in (
        (make(FlowMatchEulerDiscreteScheduler()), {}, "no abar"),
        (conditional, {}, "3 classes; give class_labels"),
        (conditional, {"class_labels": [0, 3, 1, 1]}, "from 0 to 2"),
        (conditional, {"class_labels": [0, 1]}, "class_labels are"),
        (concatenated, {}, "predicts 1 channels of 3"),
    ):
        with pytest.raises(InputError, match=message):
            sample(pipeline, num_inference_steps=2, **options)


# ---------------------------------------------------------------- package and documentation
def test_importing_the_package_loads_no_torch(root):
    code = (
        "import sys, contrastdp; assert not hasattr(contrastdp, 'ContrastivePipeline')\n"
        "assert not {'torch', 'diffusers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=root / "scripts", check=True)


def test_every_setting_is_documented(root):
    text = (root / "docs" / "guidance.md").read_text(encoding="utf-8")
    first_cells = re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE)
    documented = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    call = inspect.signature(ContrastiveGuidancePipeline.__call__).parameters
    settings = inspect.signature(build_guidance).parameters | {
        field.name: field for field in dataclasses.fields(ContrastiveGuidance)
    }
    of_losses = {name for loss in contrast.LOSSES for name in contrast.LOSSES.takes(loss)[1:]}
    names = (call | settings).keys() | of_losses
    assert documented == names - {"self", "settings", "features", "window"}


def test_the_example_of_the_documentation_runs(root, tmp_path, monkeypatch):
    text = (root / "docs" / "guidance.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(compile("\n".join(blocks), "docs/guidance.md", "exec"), found)
    assert len(found["images"]) == 16
    assert isinstance(found["images"][0], Image.Image)
    assert not np.array_equal(np.stack(found["images"]), np.stack(found["plain"]))


def test_a_side_that_the_halvings_do_not_divide_survives_the_files(tmp_path):
    """6 pixels halve to 3 and 1, and 1 doubles to 2: padded before saving and after loading."""
    change = {"sample_size": 6, "block_out_channels": (8, 8, 8)}
    change |= {"down_block_types": ("DownBlock2D",) * 3, "up_block_types": ("UpBlock2D",) * 3}
    change |= {"downsample_padding": 0, "downsample_type": "resnet", "upsample_type": "resnet"}
    pipeline = ContrastiveGuidancePipeline(make_unet(**change), DDIMScheduler())
    before = sample(pipeline, num_inference_steps=2)
    pipeline.save_pretrained(tmp_path / "saved")
    loaded = ContrastiveGuidancePipeline.from_pretrained(tmp_path / "saved")
    assert before.shape[-2:] == (6, 6)
    weights = pipeline.unet.state_dict()
    assert all(torch.equal(weights[name], v) for name, v in loaded.unet.state_dict().items())
    torch.testing.assert_close(sample(loaded, num_inference_steps=2), before, atol=1e-5, rtol=0)
