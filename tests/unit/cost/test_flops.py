"""Counted FLOPs against convolutions, matrix products and algorithms counted by hand."""

import json

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from contrastdp.attack.autoattack import InParts
from contrastdp.attack.early_stopped import EarlyStopped, early_stopped_pgd
from contrastdp.attack.pgd import PGD, cross_entropy_gradient
from contrastdp.cost.flops import PASSES, basic_passes, build, flops_per_image
from contrastdp.errors import InputError
from contrastdp.guidance.build import build_guidance
from contrastdp.training.losses import LOSSES, loss_named

# 32 x 32 pixels: too large for the matrix form of the frozen network, whose FLOPs are others
SMALL = {"architecture": "small_cnn", "channels": 3, "classes": 10, "image_size": 32}
MODEL = json.dumps(SMALL | {"width": 4, "features": 6}, sort_keys=True)
WRN = {"architecture": "wide_resnet", "depth": 28, "width": 10, "mean": [0.5] * 3, "std": [1.0] * 3}


class Everything:
    """In the place of the counter's tracker of modules, whose hooks bear no leaf as an input."""

    parents = ("Global",)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def counting():
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = Everything()
    return counter


def by_hand():
    """Two FLOPs a multiply-add: conv 3 -> 4 at 32 x 32, conv 4 -> 8 at 16 x 16, two linear maps."""
    first = 2 * 9 * 3 * 4 * 32 * 32
    rest = 2 * 9 * 4 * 8 * 16 * 16 + 2 * (8 * 16 * 16) * 6 + 2 * 6 * 10
    return first, rest


def test_passes_of_a_small_network_are_those_counted_by_hand():
    first, rest = by_hand()
    found = basic_passes(MODEL)
    assert found["F"] == first + rest
    assert found["G"] == 2 * (first + rest)
    # to the weights, the first layer needs no gradient of the image
    assert found["W"] == 2 * first + 3 * rest
    parameters = (9 * 3 * 4 + 4) + (9 * 4 * 8 + 8) + (2048 * 6 + 6) + (6 * 10 + 10)
    assert found["parameters"] == parameters


def test_wide_resnet_28_10_is_the_size_known_in_the_field():
    found = basic_passes(json.dumps(WRN | {"channels": 3, "classes": 10, "image_size": 32}))
    assert found["parameters"] == pytest.approx(36.5e6, rel=0.01)  # Zagoruyko & Komodakis 2016
    assert found["F"] == pytest.approx(2 * 5.2e9, rel=0.02)  # 5.2 G multiply-adds


@pytest.mark.parametrize("name", LOSSES)
def test_a_training_step_is_what_the_loss_itself_takes(name):
    loss = loss_named(name)
    network, images = build(MODEL), 2
    x, y = torch.rand(images, 3, 32, 32), torch.zeros(images, dtype=torch.int64)
    more = {setting: 6.0 for setting, needed in loss.settings.items() if needed}
    stream = torch.Generator().manual_seed(0)
    with counting() as counter:
        attack = PGD(eps=0.1, step_size=0.02, steps=3, generator=stream)
        loss.function(network, x, y, attack, **more).backward()
    options = json.dumps({"attack_steps": 3})
    assert flops_per_image(f"{name}_step", MODEL, options) == counter.get_total_flops() // images


def test_a_step_on_noisy_images_is_what_it_takes_where_all_are_right():
    sizes = {"architecture": "time_unet", "width": 8, "depth": 1, "multipliers": [1, 2]}
    sizes |= {"attention": [4], "head_size": 8, "groups": 4}
    model = json.dumps(sizes | {"channels": 1, "classes": 3, "image_size": 8})
    network = build(model)
    x, t = torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64)
    y = network(x, t).argmax(1)
    attack = EarlyStopped(norm="L2", eps=1e-6, steps=3, step_size="eps/6")
    # the counter does not know the attention of processors alone
    with sdpa_kernel(SDPBackend.MATH), counting() as counter:
        attacked = early_stopped_pgd(network, x, t, y, attack)
        network(attacked.x, t).sum().backward()
    assert attacked.passes == 6
    found = flops_per_image("time_classifier_step", model, json.dumps({"attack_steps": 3}))
    assert found == counter.get_total_flops() // 2


def test_an_attack_step_is_what_pgd_takes():
    network, x = build(MODEL), torch.rand(2, 3, 32, 32)
    gradient = cross_entropy_gradient(torch.zeros(2, dtype=torch.int64))
    stream = torch.Generator().manual_seed(0)
    with counting() as counter:
        PGD(eps=0.1, step_size=0.02, steps=5, generator=stream)(network, x, gradient)
    assert 5 * flops_per_image("attack_step", MODEL, "{}") == counter.get_total_flops() // 2


@pytest.mark.parametrize("size", [1, 2])
def test_an_attack_in_parts_computes_activations_again(size):
    network, x = InParts(build(MODEL), size), torch.rand(2, 3, 32, 32)
    gradient = cross_entropy_gradient(torch.zeros(2, dtype=torch.int64))
    stream = torch.Generator().manual_seed(0)
    with counting() as counter:
        PGD(eps=0.1, step_size=0.02, steps=5, generator=stream)(network, x, gradient)
    options = json.dumps({"micro_batch": size} if size < 2 else {})
    for kind in ("attack_step", "apgd"):
        # the last layer, whose output no gradient needs, is not computed again
        expected = 5 * flops_per_image(kind, MODEL, options)
        assert counter.get_total_flops() / 2 == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("size", [2, None])
@pytest.mark.parametrize("loss", ["hnm", "infonce", "classifier"])
def test_guidance_is_what_its_gradient_takes(loss, size):
    network, x = build(MODEL).requires_grad_(False), torch.rand(4, 3, 32, 32)
    settings = {"loss": loss, "lambda": 1.0, "micro_batch": size}
    if loss == "classifier":
        settings |= {"classifier": network, "abar": lambda timestep: 0.5}
    else:
        settings |= {"tau": 1.0}
    guidance = build_guidance(network.features, **settings)
    guidance.start([0, 1, 2, 3], [3, 2, 1])
    guidance(x, 3)
    with counting() as counter:
        guidance(x, 2)
    options = json.dumps({"loss": loss} | ({"micro_batch": size} if size else {}))
    expected = flops_per_image("guide", MODEL, options)  # with the logits, which features lack
    assert counter.get_total_flops() / 4 == pytest.approx(expected, rel=0.01)


def test_trades_with_ten_steps_is_twenty_six_forward_passes_of_a_deep_network():
    model = json.dumps(
        WRN | {"depth": 10, "width": 2, "channels": 3, "classes": 10, "image_size": 32}
    )
    step = flops_per_image("trades_step", model, json.dumps({"attack_steps": 10}))
    assert step == pytest.approx(26 * basic_passes(model)["F"], rel=0.02)


def test_a_denoiser_is_counted_with_and_without_classes():
    settings = {"architecture": "small_denoiser", "channels": 1, "image_size": 8}
    settings |= {"classes": None}
    plain = basic_passes(json.dumps(settings))
    assert 2.9 * plain["F"] < plain["W"] < 3 * plain["F"]
    labelled = basic_passes(json.dumps(settings | {"classes": 10}))
    assert labelled["parameters"] == plain["parameters"] + 10 * 64


def test_an_unknown_kind_is_told():
    with pytest.raises(InputError, match="work 'dream': unknown; known are forward"):
        flops_per_image("dream", MODEL, "{}")
    assert "forward" in PASSES
