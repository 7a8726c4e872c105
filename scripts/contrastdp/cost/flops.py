"""Floating-point operations of networks' passes, counted by torch, and of kinds of work."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from contrastdp.diffusion.denoisers import build_denoiser
from contrastdp.errors import InputError
from contrastdp.networks.build import ARCHITECTURES, build_network
from contrastdp.training.losses import LOSSES, loss_named


def _robust_step(weight_passes: int) -> Callable[[int], Mapping[str, int]]:
    return lambda k: {"G": k, "W": weight_passes}


# Passes that an image takes in each kind of work: F forward, G forward and backward to the image
# with frozen weights, W forward and backward to the weights; k: attack_steps. Left out, as small
# beside them: optimiser, augmentation, the pairs of a guidance batch, what an attack does between
# its passes.
PASSES: dict[str, Callable[[int], Mapping[str, int]]] = {
    "forward": lambda k: {"F": 1},
    "classifier_step": lambda k: {"W": 1},
    "diffusion_step": lambda k: {"W": 1},
    "time_classifier_step": lambda k: {"G": k, "W": 1},
    "validation": lambda k: {"F": 2, "G": k},
    "denoise": lambda k: {"F": 1},
    "guide": lambda k: {"G": 1},
    "gradient_norm": lambda k: {"W": 1},
    "attack_step": lambda k: {"G": 1},
    "apgd": lambda k: {"G": 1},
    "fab": lambda k: {"F": 1, "G": 1},
    "square": lambda k: {"F": 1},
}
PASSES |= {f"{name}_step": _robust_step(loss_named(name).weight_passes) for name in LOSSES}
# With a micro_batch these compute activations again on the way back, a further F for each G:
# attacks by InParts, contrastive guidance since its loss is of all the batch.
RECOMPUTED = ("attack_step", "apgd", "fab", "guide")


def is_classifier(model: str) -> bool:
    """Whether a Work's `model` is a classifier, and no denoiser."""
    return json.loads(model)["architecture"] in ARCHITECTURES


def build(model: str) -> nn.Module:
    """The network of a Work's `model`, a classifier or a denoiser, on torch's default device."""
    settings = dict(json.loads(model))
    if is_classifier(model):
        return build_network(**settings)
    return build_denoiser(settings.pop("architecture"), **settings)


def arguments(model: str, images: int, device: torch.device) -> tuple[Any, ...]:
    """What `network(...)` takes for `images` zero images: x; x_t, t; or x_t, t and label."""
    settings = json.loads(model)
    size = settings["image_size"]
    x = torch.zeros(images, settings["channels"], size, size, device=device)
    when = torch.zeros(images, dtype=torch.int64, device=device)
    if is_classifier(model):
        return (x, when) if ARCHITECTURES[settings["architecture"]].time_dependent else (x,)
    return (x, when, when if settings["classes"] else None)


def output(network: nn.Module, given: tuple[Any, ...]) -> torch.Tensor:
    """Logits (N, classes) of a classifier, predicted noise (N, C, H, W) of a denoiser."""
    found = (
        network(given[0], given[1], class_labels=given[2]) if len(given) > 2 else network(*given)
    )
    return found if isinstance(found, torch.Tensor) else found.sample


@cache
def basic_passes(model: str) -> dict[str, int]:
    """FLOPs per image of F, G and W (see PASSES), and the network's `parameters`.

    Counted with FlopCounterMode on the meta device, which computes nothing: matrix products,
    convolutions and attention, two FLOPs a multiply-add, of two images.
    """
    big = "small" not in json.loads(model)["architecture"]
    with torch.device("meta" if big else "cpu"):  # initialising a large one takes seconds
        network = build(model).to("meta").train()
    images, found = 2, {"parameters": sum(p.numel() for p in network.parameters())}

    def count(*, image: bool, weights: bool) -> int:
        given = arguments(model, images, torch.device("meta"))
        leaf = given[0].requires_grad_(image)
        network.requires_grad_(weights)
        given = (leaf + 0, *given[1:])  # the counter's hooks bear no leaf as a module's input
        with FlopCounterMode(display=False) as counter:
            z = output(network, given)
            if z.requires_grad:
                wanted = [leaf] if image else list(network.parameters())
                torch.autograd.grad(z.sum(), wanted, allow_unused=True)
        return counter.get_total_flops() // images

    found["F"] = count(image=False, weights=False)
    found["G"] = count(image=True, weights=False)
    found["W"] = count(image=False, weights=True)
    return found


@cache
def flops_per_image(kind: str, model: str, options: str) -> int:
    """FLOPs of one image through one pass of `kind`; options: as JSON, with attack_steps,
    micro_batch, loss (of a guidance) where there are any.

    Raises InputError for an unknown kind.
    """
    if kind not in PASSES:
        raise InputError(f"work '{kind}': unknown; known are {', '.join(PASSES)}")
    told, basic = json.loads(options), basic_passes(model)
    passes = dict(PASSES[kind](told.get("attack_steps", 0)))
    if "micro_batch" in told and kind in RECOMPUTED and told.get("loss") != "classifier":
        passes["F"] = passes.get("F", 0) + passes["G"]
    return sum(count * basic[name] for name, count in passes.items())
