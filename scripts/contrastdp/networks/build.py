"""Classifiers: features, then logits. Inputs are float NCHW in [0, 1]; normalisation is inside.

Those that are time-dependent take a diffusion's x_t, in [-1, 1], and t.

To add one, write a Classifier, which has `features` and `logits`, and enter it in ARCHITECTURES.
"""

import inspect
import math
from typing import Any

import torch
from torch import nn

from contrastdp.errors import InputError
from contrastdp.networks.classifier import Classifier
from contrastdp.networks.mnist_cnn import MnistCNN
from contrastdp.networks.preact_resnet import ACTIVATIONS, PreActResNet18
from contrastdp.networks.small_cnn import FrozenSmallCNN, SmallCNN
from contrastdp.networks.time_dependent import TimeUNet
from contrastdp.networks.wide_resnet import WideResNet

ARCHITECTURES: dict[str, type[Classifier]] = {
    "mnist_cnn": MnistCNN,
    "preact_resnet": PreActResNet18,
    "small_cnn": SmallCNN,
    "time_unet": TimeUNet,
    "wide_resnet": WideResNet,
}


def build_network(
    architecture: str,
    *,
    channels: int,
    classes: int,
    image_size: int,
    seed: int = 0,
    **sizes: Any,
) -> Classifier:
    """Build a classifier, initialised from `seed`, on the CPU.

    sizes: what the architecture asks for (small_cnn: width, features; mnist_cnn: nothing;
    wide_resnet: depth, width, mean, std; preact_resnet: width, mean, std; both: activation,
    momentum; time_unet: width, depth, multipliers, attention, head_size, groups,
    num_train_timesteps). The settings, with defaults filled in, stay with the network as
    `network.settings`, which a checkpoint keeps. Raises InputError for an unknown architecture and
    for missing, unknown or impossible sizes.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise InputError(f"architecture '{architecture}': unknown; known are {known}")
    settings = {"channels": channels, "classes": classes, "image_size": image_size, **sizes}
    kind = ARCHITECTURES[architecture]
    try:
        bound = inspect.signature(kind).bind(**settings)
    except TypeError as error:
        raise InputError(
            f"architecture '{architecture}': {error}; correct its sizes in the settings"
        ) from None
    bound.apply_defaults()
    settings = {name: _checked(architecture, name, v, channels) for name, v in bound.kwargs.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kind(**settings)
    network.settings = {"architecture": architecture, **settings}
    return network


def _checked(architecture: str, name: str, value: Any, channels: int) -> Any:
    """A setting's value as JSON holds it, or InputError."""
    numbers = isinstance(value, list | tuple) and all(
        isinstance(v, int | float) and math.isfinite(v) for v in value
    )
    if name in ("mean", "std"):
        fits, wanted = numbers and len(value) == channels, f"a list of {channels} numbers"
        if fits and name == "std":
            fits, wanted = min(value) > 0, "above 0"
        value = [float(v) for v in value] if fits else value
    elif name == "activation":
        fits, wanted = value in ACTIVATIONS, " or ".join(ACTIVATIONS)
    elif name in ("multipliers", "attention"):
        fits = isinstance(value, list | tuple) and all(map(_is_size, value))
        wanted = "a list of whole numbers, 1 or more"
        value = list(value) if fits else value
    elif name == "momentum":
        fits = isinstance(value, int | float) and 0 < value <= 1
        wanted = "above 0, at most 1"
    else:
        fits, wanted = _is_size(value), "a whole number, 1 or more"
    if not fits:
        raise InputError(f"architecture '{architecture}': {name} is {value!r}, must be {wanted}")
    return value


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


# ---------------------------------------------------------------- frozen weights
def frozen(network: nn.Module) -> nn.Module:
    """The network as a function of images alone, for as long as its weights stay as they are.

    The same function, or one that equals it up to rounding and has a cheaper input gradient.
    """
    if type(network) is not SmallCNN or next(network.parameters()).is_cuda:
        return network
    return FrozenSmallCNN(network) if FrozenSmallCNN.suits(network) else network
