"""A generator's guidance from files: networks, and real images where its pairs use them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from contrastdp.data.tensors import draw_subset, read_tensors
from contrastdp.errors import InputError
from contrastdp.guidance import reads
from contrastdp.guidance.build import build_guidance, kind_of
from contrastdp.guidance.contrast import LOSSES, PAIRS
from contrastdp.guidance.protocol import (
    GUIDANCES,
    Guidance,
    Sum,
    check_classifier,
    check_timeless,
    encoder_view,
)
from contrastdp.networks.checkpoint import load_network
from contrastdp.networks.classifier import Classifier
from contrastdp.networks.execution import autocast, faster
from contrastdp.streams import derive_seed

Files = str | Sequence[str] | None


def load_guidance(
    settings: Mapping[str, Any] | None, *, encoder: Files, labeler: Files, seed: int, **known: Any
) -> Guidance | Sum | None:
    """The guidance of a generator's row, None where settings is None.

    settings: of build_guidance, and the names of the classifiers that it reads (reads.NAMED), whose
    files are given; `parts` of a sum are such settings by name. encoder: file of the network whose
    features it reads, or its logits where it has a field `classifier`; labeler: file of the network
    that gives classes to pairs that use them where the generator is unconditional. Of a sum both
    are lists, one file for each name of reads.networks, in its order. known: of `_guidance`. The
    networks are frozen. Raises InputError where a file that the settings need is not given or holds
    another kind of network.
    """
    if settings is None:
        return None
    if "parts" not in settings:
        return _guidance(settings, encoder=encoder, labeler=labeler, seed=seed, **known)
    names = reads.networks(settings, conditional=False)
    given = {"encoder": encoder, "labeler": labeler}
    files = {role: _by_name(names.get(role, ()), paths, role) for role, paths in given.items()}
    parts = []
    for part in settings["parts"].values():
        read = reads.networks(part, conditional=False)
        own: dict[str, Any] = {role: files[role].get(read.get(role)) for role in files}
        parts.append(_guidance(part, seed=seed, **own, **known))
    rest = {name: value for name, value in settings.items() if name not in ("loss", "parts")}
    return build_guidance(
        None, loss=settings["loss"], seed=derive_seed(seed, "sample"), parts=parts, **rest
    )


def _by_name(names: Sequence[str], paths: Files, what: str) -> dict[Any, str]:
    """The file of each classifier that a sum reads; nothing where no file is given.

    Raises InputError where they are not as many as the names, since none says whose it is.
    """
    if paths is None:
        return {}
    paths = [paths] if isinstance(paths, str) else paths
    if len(paths) != len(names):
        raise InputError(
            f"the generator's guidance needs the file '{what}' of {len(names)} classifiers "
            f"({', '.join(names)}), and {len(paths)} are given; give one of each"
        )
    return dict(zip(names, paths, strict=True))


def _guidance(
    settings: Mapping[str, Any],
    *,
    encoder: Files,
    labeler: Files,
    train: str | None,
    classes: int,
    real: int,
    batch: int,
    seed: int,
    abar: Callable[[int], float],
    device: torch.device,
    schedule: Tensor | None = None,
    micro_batch: int | None = None,
    precision: str = "float32",
    channels_last: bool = False,
    compiled: str | None = None,
) -> Guidance:
    """A guidance that is no sum.

    train: image file, for pairs with real images; real: how many of them, those drawn under `seed`,
    the models were trained on; batch: guidance batch; abar: timestep -> abar_t; schedule: abar_t of
    every t (T,), which a time-dependent classifier must have been trained under; the rest as
    ContrastiveGuidance and `faster` say.
    """
    fields = GUIDANCES.takes(kind_of(settings["loss"]))
    common: dict[str, Any] = {"micro_batch": micro_batch, "precision": precision, "abar": abar}
    common = {name: value for name, value in common.items() if name in fields}
    common |= {name: value for name, value in settings.items() if name not in reads.NAMED}
    network: Any = None
    features = None
    if {"features", "classifier"} & {*fields}:
        network = _frozen(encoder, device, "encoder", channels_last)
    if "classifier" in fields:
        check_classifier(network, str(encoder), classes, schedule)
        common["classifier"] = faster(network, compiled=compiled)
    if "features" in fields:
        check_timeless(network, f"encoder {encoder}")
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
    guidance: Any = build_guidance(features, seed=derive_seed(seed, "sample"), **common)
    return guidance


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


def _frozen(path: Files, device: torch.device, what: str, channels_last: bool) -> Classifier:
    network = load_network(_given(path, what), device).requires_grad_(False)
    return faster(network, channels_last=channels_last)


def _given(path: Files, what: str) -> str:
    if path is None:
        raise InputError(f"the generator's guidance needs the file '{what}'; name it")
    if not isinstance(path, str):
        raise InputError(f"several files are given for '{what}', of a guidance that is no sum")
    return path
