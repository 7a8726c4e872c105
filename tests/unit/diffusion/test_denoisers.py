"""Denoisers: formulas and sizes, round trips through diffusers' layout, others' checkpoints."""

import hashlib
import json
import math

import pytest
import torch
import yaml
from diffusers import DDPMPipeline, DDPMScheduler
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from contrastdp.diffusion.denoisers import (
    SmallDenoiser,
    build_denoiser,
    fit_odd_sides,
    load_denoiser,
    load_pretrained,
    save_denoiser,
)
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.errors import InputError

UNET = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
}


# The paper's denoisers, as a scale's settings write them
PAPER = yaml.safe_load("""
cifar10:
  architecture: unet2d
  block_out_channels: [128, 256, 256, 256]
  layers_per_block: 2
  down_block_types: [DownBlock2D, AttnDownBlock2D, DownBlock2D, DownBlock2D]
  up_block_types: [UpBlock2D, UpBlock2D, AttnUpBlock2D, UpBlock2D]
  attention_head_dim: 256
  dropout: 0.1
  norm_eps: 1.0e-6
  downsample_padding: 0
  flip_sin_to_cos: false
  freq_shift: 1
mnist: &conditional
  architecture: unet2d
  block_out_channels: [64, 128, 128, 128]
  layers_per_block: 3
  down_block_types: [AttnDownBlock2D, AttnDownBlock2D, AttnDownBlock2D, ResnetDownsampleBlock2D]
  up_block_types: [ResnetUpsampleBlock2D, AttnUpBlock2D, AttnUpBlock2D, AttnUpBlock2D]
  downsample_type: resnet
  upsample_type: resnet
  resnet_time_scale_shift: scale_shift
  attention_head_dim: 64
  attn_norm_num_groups: 32
  dropout: 0.1
gtsrb: *conditional
""")
SHAPE = {"image_size": 32, "channels": 3, "classes": None}
COSINE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "clip_sample": True}


def build(architecture="small_denoiser", classes=None, **changes):
    torch.manual_seed(0)
    sizes = UNET if architecture == "unet2d" else {"width": 8, "inner": 16}
    shape = {"image_size": 8, "channels": 1} | changes
    return build_denoiser(architecture, classes=classes, **shape | sizes)


def randomised(model, std=0.05):
    """The model with random weights everywhere, so that no part of it is without effect."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return model.eval()


# ---------------------------------------------------------------- the paper's sizes
@pytest.mark.parametrize(
    ("dataset", "shape", "classes", "count"),
    [
        ("cifar10", (3, 32), None, 35_746_307),
        ("mnist", (1, 28), 10, 14_417_345),
        ("gtsrb", (3, 32), 43, 14_428_099),
    ],
)
def test_parameters_of_the_paper_s_denoisers(dataset, shape, classes, count):
    """The counts of the official networks, counted there."""
    channels, side = shape
    with torch.device("meta"):
        model = build_denoiser(
            image_size=side, channels=channels, classes=classes, **PAPER[dataset]
        )
        label = None if classes is None else torch.zeros(2, dtype=torch.int64)
        x = torch.empty(2, channels, side, side)
        assert model(x, torch.zeros(2), class_labels=label).sample.shape == x.shape
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def doubled(state, side):
    """Each pixel twice, below and right of the zeros that make the side `side`, or cut to it."""
    double = state.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)[:, :, -side:, -side:]
    taller = torch.zeros(*state.shape[:2], side, side)
    taller[:, :, -double.shape[2] :, -double.shape[3] :] = double
    return taller


def up_sampled(layer, state, time, side):
    """The up-sampling residual block of the official code, or an up-sampling convolution."""
    if not hasattr(layer, "conv1"):
        return F.conv2d(doubled(state, side), layer.conv.weight, layer.conv.bias, padding=1)
    inside = doubled(F.silu(layer.norm1(state)), side)
    inside = F.conv2d(inside, layer.conv1.weight, layer.conv1.bias, padding=1)
    scale, shift = layer.time_emb_proj(F.silu(time))[:, :, None, None].chunk(2, dim=1)
    inside = F.silu(layer.norm2(inside) * (1 + scale) + shift)
    inside = F.conv2d(inside, layer.conv2.weight, layer.conv2.bias, padding=1)
    return doubled(state, side) + inside


@pytest.mark.parametrize("side", [28, 30, 32])
@pytest.mark.parametrize("down", ["resnet", "conv"])  # 7 halves to 3, or to 4
@pytest.mark.parametrize("up", ["resnet", "conv"])
@pytest.mark.parametrize("block", ["AttnUpBlock2D", "UpBlock2D", "ResnetUpsampleBlock2D"])
def test_a_side_that_halvings_do_not_divide(side, down, up, block):
    """Against a hand-made pass: zeros come after the doubling and before its convolutions."""
    sizes = UNET | {"block_out_channels": [8, 16, 16, 16], "resnet_time_scale_shift": "scale_shift"}
    sizes |= {"down_block_types": ["AttnDownBlock2D"] * 4, "up_block_types": [block] * 4}
    sizes |= {"downsample_type": down, "upsample_type": up}
    model = build_denoiser("unet2d", image_size=side, channels=1, classes=None, **sizes)
    randomised(fit_odd_sides(model), std=0.3)  # fitted twice, which is as good as once
    x, t = torch.randn(2, 1, side, side), torch.tensor([3, 700])
    with torch.no_grad():
        time = model.time_embedding(model.time_proj(t))
        state = model.conv_in(x)
        skips = [state]
        for level in model.down_blocks:
            state, found = level(state, time)
            skips += found
        state = model.mid_block(state, time)
        for level in model.up_blocks:
            for i, resnet in enumerate(level.resnets):
                state = resnet(torch.cat([state, skips.pop()], dim=1), time)
                if block == "AttnUpBlock2D":
                    state = level.attentions[i](state)
            for layer in level.upsamplers or ():
                state = up_sampled(layer, state, time, skips[-1].shape[2])
        expected = model.conv_out(F.silu(model.conv_norm_out(state)))
        torch.testing.assert_close(model(x, t).sample, expected, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- the small denoiser
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_a_patch_is_the_network_on_the_pixels_as_channels(patch):
    """The oracle arranges the pixels by slicing and has the network without patches."""
    model = randomised(build(image_size=16, channels=3, patch=patch))
    inside = randomised(build(image_size=16 // patch, channels=3 * patch**2))
    inside.load_state_dict(model.state_dict())
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([5, 600])

    def arranged(x):
        offsets = [(i, j) for i in range(patch) for j in range(patch)]
        parts = [x[:, :, i::patch, j::patch] for i, j in offsets]
        return torch.stack(parts, dim=2).flatten(1, 2)

    with torch.no_grad():
        torch.testing.assert_close(
            arranged(model(x, t).sample), inside(arranged(x), t).sample, atol=1e-5, rtol=1e-4
        )


def cosine_abar():
    """abar_t of the official code for MNIST and GTSRB: a product of capped betas."""

    def curve(t):
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    product, found = 1.0, []
    for t in range(1000):
        product *= 1 - min(1 - curve(t + 1) / curve(t), 0.999)
        found.append(product)
    return torch.tensor(found)


def test_the_skip_follows_the_noise_schedule():
    model, x, t = build(schedule=COSINE), torch.randn(3, 1, 8, 8), torch.tensor([0, 400, 999])
    expected = (1 - cosine_abar()[t]).sqrt().view(-1, 1, 1, 1) * x
    torch.testing.assert_close(model(x, t).sample, expected)
    assert torch.equal(model.abar, SubsequenceScheduler(**COSINE).alphas_cumprod)


@pytest.mark.parametrize(
    "betas", [{"beta_schedule": "linear"}, {"num_train_timesteps": 500}, {"beta_end": 0.01}]
)
def test_a_skip_of_another_schedule_is_refused(tmp_path, betas):
    with pytest.raises(InputError, match=f"{next(iter(betas))} is .* leave it out"):
        build(schedule=COSINE, **betas)
    save_denoiser(tmp_path / "model", build(**betas), SubsequenceScheduler(**COSINE))
    with pytest.raises(InputError, match="betas of unet/ and scheduler/ differ"):
        load_denoiser(tmp_path / "model")


def test_the_untrained_network_predicts_the_scaled_input():
    """With its last layer at zero, eps = sqrt(1 - abar_t) x: the skip of the docstring."""
    model, x = build(), torch.randn(3, 1, 8, 8)
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    t = torch.tensor([0, 400, 999])
    expected = (1 - abar[t]).sqrt().view(-1, 1, 1, 1) * x
    torch.testing.assert_close(model(x, t).sample, expected)
    torch.testing.assert_close(model(x, 400).sample[1], expected[1])


# ---------------------------------------------------------------- files
@pytest.mark.parametrize("architecture", ["small_denoiser", "unet2d"])
@pytest.mark.parametrize("classes", [None, 4])
def test_round_trip(tmp_path, architecture, classes):
    model = randomised(build(architecture, classes))
    save_denoiser(tmp_path / "model", model, SubsequenceScheduler(clip_sample=False))
    again, scheduler = load_denoiser(tmp_path / "model")
    x, label = torch.randn(4, 1, 8, 8), None if classes is None else torch.arange(4)
    with torch.no_grad():
        expected = model(x, 10, class_labels=label).sample
    assert torch.equal(again(x, 10, class_labels=label).sample, expected)
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert scheduler.config.clip_sample is False


def test_round_trip_of_an_odd_side(tmp_path):
    model = randomised(build("unet2d", image_size=7))
    save_denoiser(tmp_path / "model", model, SubsequenceScheduler())
    again, _ = load_denoiser(tmp_path / "model")
    x = torch.randn(2, 1, 7, 7)
    with torch.no_grad():
        assert torch.equal(again(x, 10).sample, model(x, 10).sample)


def test_diffusers_itself_loads_what_we_save(tmp_path):
    save_denoiser(tmp_path / "model", build(), SubsequenceScheduler())
    assert SmallDenoiser.from_pretrained(tmp_path / "model" / "unet").config.inner == 16


@pytest.mark.parametrize("fault", ["missing", "truncated", "config", "no weights"])
def test_damaged_models_are_told_in_one_line(tmp_path, fault):
    folder = tmp_path / "model"
    save_denoiser(folder, build(), SubsequenceScheduler())
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    if fault == "missing":
        (folder / "unet" / "config.json").unlink()
    elif fault == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif fault == "config":
        (folder / "unet" / "config.json").write_text("{")
    else:
        weights.unlink()
    with pytest.raises(InputError) as error:
        load_denoiser(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_weights_that_do_not_fit_are_refused(tmp_path, change):
    """diffusers alone would leave a missing weight at its random start."""
    folder = tmp_path / "model"
    save_denoiser(folder, build(), SubsequenceScheduler())
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    if change == "missing":
        del weights["leave.weight"]
    else:
        weights["leave.extra"] = torch.zeros(2)
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"{change} keys .leave"):
        load_denoiser(folder)


def test_labels_go_with_conditional_models_only():
    x = torch.randn(2, 1, 8, 8)
    with pytest.raises(InputError):
        build()(x, 3, class_labels=torch.tensor([0, 1]))
    with pytest.raises(InputError):
        build(classes=4)(x, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: build_denoiser("unet3d", image_size=8, channels=1, classes=None),
        lambda: build_denoiser("small_denoiser", image_size=8, channels=1, classes=None, widht=3),
        lambda: build_denoiser("small_denoiser", image_size=7, channels=1, classes=None),
        lambda: build(image_size=10, patch=4),
        lambda: build(beta_schedule="sigmoidal"),
        lambda: build_denoiser(**(PAPER["cifar10"] | {"block_out_channels": [64]}), **SHAPE),
        lambda: build_denoiser(**(PAPER["cifar10"] | {"up_block_types": ["Up"] * 4}), **SHAPE),
    ],
)
def test_bad_settings_are_told_in_one_line(call):
    with pytest.raises(InputError) as error:
        call()
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- others' checkpoints
LINEAR = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "clip_sample": False}
FIT = {"image_size": 8, "channels": 1, "classes": 4, "schedule": LINEAR}


@pytest.fixture
def checkpoint(tmp_path):
    """A pipeline as diffusers saves it, of a conditional UNet that predicts v."""
    unet = randomised(build("unet2d", classes=4))
    scheduler = DDPMScheduler(prediction_type="v_prediction", variance_type="fixed_large")
    DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs", unet


def same(found, model):
    x, label = torch.randn(4, 1, 8, 8), torch.arange(4)
    with torch.no_grad():
        expected = model(x, 10, class_labels=label).sample
        return torch.equal(found(x, 10, class_labels=label).sample, expected)


def test_a_pipeline_of_diffusers_is_taken_over(checkpoint):
    folder, unet = checkpoint
    found, scheduler, origin = load_pretrained(str(folder), **FIT)
    assert same(found, unet)
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.clip_sample is False
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    assert origin == {
        "source": str(folder),
        "weights": weights.name,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    load_pretrained(str(folder), **(FIT | {"classes": 3}))  # the fourth label is 'no class'


def test_our_own_folder_is_taken_over(tmp_path):
    model = randomised(build(classes=4, schedule=COSINE))
    save_denoiser(tmp_path / "ours", model, SubsequenceScheduler(**COSINE))
    found, scheduler, _ = load_pretrained(str(tmp_path / "ours"), **(FIT | {"schedule": COSINE}))
    assert same(found, model)
    assert scheduler.config.beta_schedule == "squaredcos_cap_v2"


def test_the_flat_layout_with_names_of_old_is_taken_over(tmp_path):
    """google/ddpm-cifar10-32: no subfolders, and attention as diffusers called it then."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ["DownBlock2D", "AttnDownBlock2D"]}
    blocks |= {"up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "attention_head_dim": None}
    unet = build_denoiser(
        "unet2d", image_size=8, channels=1, classes=4, **UNET | blocks, norm_eps=1e-6
    )
    unet = randomised(unet)
    unet.save_pretrained(tmp_path)
    DDPMScheduler().save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for name, value in load_file(path).items():
        for new, former in old.items():
            name = name.replace(f".{new}.", f".{former}.")
        weights[name] = value
    assert any("proj_attn" in name for name in weights)
    save_file(weights, path, metadata={"format": "pt"})
    found, scheduler, _ = load_pretrained(str(tmp_path), **FIT)
    assert same(found, unet)
    assert scheduler.config.prediction_type == "epsilon"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"image_size": 16}, "its image size is 8, .* need 16"),
        ({"channels": 3}, "its input channels is 1, .* need 3"),
        ({"classes": 10}, "number of classes is 4, .* need 10 or 11"),
        ({"classes": None}, "number of classes is 4, .* need None"),
        ({"schedule": COSINE}, "trained with .*beta_schedule linear; set the same"),
        ({"schedule": LINEAR | {"num_train_timesteps": 500}}, "num_train_timesteps 1000"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(checkpoint, changed, words):
    with pytest.raises(InputError, match=words) as error:
        load_pretrained(str(checkpoint[0]), **(FIT | changed))
    assert "\n" not in str(error.value)


def test_a_learned_variance_is_refused(tmp_path):
    unet = build("unet2d", classes=4)
    unet.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"out_channels": 2}
    type(unet).from_config(config).save_pretrained(tmp_path)
    DDPMScheduler().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="output channels is 2"):
        load_pretrained(str(tmp_path), **FIT)


def test_a_pickle_is_refused_unread(checkpoint):
    folder, _ = checkpoint
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"\(not found\); convert"):
        load_pretrained(str(folder), **FIT)
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(InputError, match=r"model\.bin is a pickle") as error:
        load_pretrained(str(folder), **FIT)
    assert "\n" not in str(error.value)


def test_a_name_that_is_nowhere_is_told_in_one_line(monkeypatch):
    def offline(name, allow_patterns):
        assert not any("bin" in pattern for pattern in allow_patterns)
        raise LocalEntryNotFoundError("cannot reach the Hub\nand nothing is cached")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(InputError, match="'someone/model': no such folder") as error:
        load_pretrained("someone/model", **FIT)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["missing/folder/of/mine", "../nowhere"])
def test_a_folder_that_is_missing_asks_no_hub(monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="no such folder"):
        load_pretrained(name, **FIT)


def test_a_model_of_the_hub_is_read_where_it_was_fetched_to(monkeypatch, checkpoint):
    folder, unet = checkpoint
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    found, _, origin = load_pretrained("someone/model", **FIT)
    assert same(found, unet)
    assert origin["source"] == "someone/model"
