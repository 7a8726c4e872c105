"""Classifiers on disk: one safetensors file, its build settings in the metadata; never a pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from contrastdp.errors import InputError
from contrastdp.files import REMADE, replacing
from contrastdp.networks.build import build_network
from contrastdp.networks.classifier import Classifier

KEY = "network"


def save_network(path: str | Path, network: nn.Module, settings: dict | None = None) -> None:
    """Write a network whole or not at all.

    settings: the arguments of build_network, by default `network.settings`.
    """
    kept: Any = network.settings if settings is None else settings
    state = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    with replacing(path) as temporary:
        save_file(state, temporary, metadata={KEY: json.dumps(kept, sort_keys=True)})


def load_network(path: str | Path, device: str | torch.device = "cpu") -> Classifier:
    """Read a network that save_network wrote, in evaluation mode, on `device`.

    Raises InputError in one line where the file is missing, truncated, of another make, or holds
    keys, shapes or values that do not fit its own settings.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; run the rule that makes it")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: damaged or not a safetensors file ({error}); {REMADE}") from None
    try:
        settings = json.loads(metadata[KEY])
        network = build_network(**settings)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: its metadata has no usable network settings ({error}); {REMADE}"
        ) from None
    _check_state(path, state, network)
    network.load_state_dict(state, strict=True)
    return network.to(device).eval()


def _check_state(path: str | Path, state: dict[str, torch.Tensor], network: nn.Module) -> None:
    expected = network.state_dict()
    for kind, names in (
        ("has no weight", expected.keys() - state.keys()),
        ("has an unknown weight", state.keys() - expected.keys()),
    ):
        if names:
            raise InputError(f"{path}: {kind} '{min(names)}'; {REMADE}")
    for name, value in state.items():
        if value.shape != expected[name].shape:
            raise InputError(
                f"{path}: weight '{name}' is {tuple(value.shape)}, its settings say "
                f"{tuple(expected[name].shape)}; {REMADE}"
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise InputError(f"{path}: weight '{name}' is not finite; {REMADE}")
