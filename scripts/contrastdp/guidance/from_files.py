"""A generator's guidance from files: networks, and real images where its pairs use them."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from contrastdp.data.tensors import draw_subset, read_tensors
from contrastdp.errors import InputError
from contrastdp.guidance.build import build_guidance, kind_of
from contrastdp.guidance.contrast import LOSSES, PAIRS
from contrastdp.guidance.protocol import GUIDANCES, Guidance, encoder_view
from contrastdp.guidance.reads import NAMED
from contrastdp.networks.checkpoint import load_network
from contrastdp.networks.classifier import Classifier
from contrastdp.networks.execution import autocast, faster
from contrastdp.streams import derive_seed


def load_guidance(
    settings: Mapping[str, Any] | None,
    *,
    encoder: str | None,
    labeler: str | None,
    train: str | None,
    classes: int,
    real: int,
    batch: int,
    seed: int,
    abar: Callable[[int], float],
    device: torch.device,
    micro_batch: int | None = None,
    precision: str = "float32",
    channels_last: bool = False,
    compiled: str | None = None,
) -> Guidance | None:
    """The guidance of a generator's row, None where settings is None.

    settings: of build_guidance, and the names of the classifiers that it reads (reads.NAMED), whose
    files are given; encoder: file of the network whose features it reads, or its logits where it
    has a field `classifier`; labeler: file of the network that gives classes to pairs that use them
    where the generator is unconditional; train: image file, for pairs with real images; real: how
    many of them, those drawn under `seed`, the models were trained on; batch: guidance batch; abar:
    timestep -> abar_t; the rest as ContrastiveGuidance and `faster` say. The networks are frozen.
    Raises InputError where a file that the settings need is not given.
    """
    if settings is None:
        return None
    fields = GUIDANCES.takes(kind_of(settings["loss"]))
    common: dict[str, Any] = {"micro_batch": micro_batch, "precision": precision, "abar": abar}
    common = {name: value for name, value in common.items() if name in fields}
    common |= {name: value for name, value in settings.items() if name not in NAMED}
    network: Any = None
    features = None
    if {"features", "classifier"} & {*fields}:
        network = _frozen(encoder, device, "encoder", channels_last)
    if "classifier" in fields:
        common["classifier"] = faster(network, compiled=compiled)
    if "features" in fields:
        features = faster(network.features, compiled=compiled)
    pairs = {**LOSSES.about.get(settings["loss"], {}), **settings}.get("pairs")
    compared = PAIRS.takes(pairs) if pairs else ()
    if "label" in compared and labeler is not None:
        common["labeler"] = _frozen(labeler, device, "labeler", channels_last)
    if "real" in compared:
        view = settings.get("encoder_input", "unit")
        x, y = read_tensors(
            _given(train, "train"), classes=classes, device=device, real=real, seed=seed
        )
        chosen = torch.from_numpy(
            draw_subset(y.cpu().numpy(), min(batch, real), derive_seed(seed, "guidance real"))
        )
        common["real"] = real_features(network.features, x[chosen], view, precision)
    return build_guidance(features, seed=derive_seed(seed, "sample"), **common)


@torch.no_grad()
def real_features(
    features: Callable[[Tensor], Tensor],
    x: Tensor,
    encoder_input: str = "unit",
    precision: str = "float32",
) -> Tensor:
    """Features (R, D) of real images x (R, C, H, W) in [0, 1], seen as the guidance sees states."""
    with autocast(x.device, precision):
        return features(encoder_view(2 * x - 1, encoder_input)).float()


def _frozen(path: str | None, device: torch.device, what: str, channels_last: bool) -> Classifier:
    network = load_network(_given(path, what), device).requires_grad_(False)
    return faster(network, channels_last=channels_last)


def _given(path: str | None, what: str) -> str:
    if path is None:
        raise InputError(f"the generator's guidance needs the file '{what}'; name it")
    return path
