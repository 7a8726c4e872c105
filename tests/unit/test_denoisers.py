"""Denoisers: their formula, round trips through diffusers' layout, and damaged files."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from contrastdp.denoisers import SmallDenoiser, build_denoiser, load_denoiser, save_denoiser
from contrastdp.diffusion import noise_prediction_loss, train_denoiser
from contrastdp.records import InputError
from contrastdp.schedulers import SubsequenceScheduler

UNET = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
}


def build(architecture="small_denoiser", classes=None):
    torch.manual_seed(0)
    sizes = UNET if architecture == "unet2d" else {"width": 8, "inner": 16}
    return build_denoiser(architecture, image_size=8, channels=1, classes=classes, **sizes)


def test_the_untrained_network_predicts_the_scaled_input():
    """With its last layer at zero, eps = sqrt(1 - abar_t) x: the skip of the docstring."""
    model, x = build(), torch.randn(3, 1, 8, 8)
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    t = torch.tensor([0, 400, 999])
    expected = (1 - abar[t]).sqrt().view(-1, 1, 1, 1) * x
    torch.testing.assert_close(model(x, t).sample, expected)
    torch.testing.assert_close(model(x, 400).sample[1], expected[1])


@pytest.mark.parametrize("architecture", ["small_denoiser", "unet2d"])
@pytest.mark.parametrize("classes", [None, 4])
def test_round_trip(tmp_path, architecture, classes):
    model = build(architecture, classes).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    save_denoiser(tmp_path / "model", model, SubsequenceScheduler(clip_sample=False))
    again, scheduler = load_denoiser(tmp_path / "model")
    x, label = torch.randn(4, 1, 8, 8), None if classes is None else torch.arange(4)
    with torch.no_grad():
        expected = model(x, 10, class_labels=label).sample
    assert torch.equal(again(x, 10, class_labels=label).sample, expected)
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert scheduler.config.clip_sample is False


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
    """diffusers leaves a missing weight at its random start, as strict=False does."""
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
    ],
)
def test_bad_settings_are_told_in_one_line(call):
    with pytest.raises(InputError) as error:
        call()
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- training
def test_the_loss_is_the_mean_squared_noise_error():
    model = build()
    x0, noise = torch.rand(2, 1, 8, 8) * 2 - 1, torch.randn(2, 1, 8, 8)
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    t = torch.tensor([3, 900])
    total = 0.0
    for i in range(2):
        a = float(abar[t[i]])
        noisy = a**0.5 * x0[i] + (1 - a) ** 0.5 * noise[i]
        total += float(((1 - a) ** 0.5 * noisy - noise[i]).pow(2).mean()) / 2
    got = noise_prediction_loss(model, x0, noise, t, abar, None)
    assert got.item() == pytest.approx(total, rel=1e-4)


def train(model, seed=0, **changes):
    settings = {
        "abar": torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0),
        "steps": 30,
        "batch": 16,
        "learning_rate": 2e-3,
        "warmup": 5,
        "clip_norm": 1.0,
        "averaging": 0.9,
        "shift": 0,
        "generator": torch.Generator().manual_seed(seed),
    }
    torch.manual_seed(3)
    image = torch.rand(20, 1, 8, 8)
    return list(train_denoiser(model, image, None, **(settings | changes)))


def test_training_lowers_the_loss_and_repeats_bit_for_bit():
    first, second = build(), build()
    rows = train(first, steps=120)
    train(second, steps=120)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert rows[-1]["step"] == 120
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_loss_that_is_not_finite_stops_in_one_line():
    model = build()
    with torch.no_grad():
        model.leave.bias.fill_(float("nan"))
    with pytest.raises(InputError, match="diffusion loss is nan at step 1"):
        train(model)
