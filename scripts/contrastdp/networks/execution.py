"""How a network is computed: precision, memory layout, compiler."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any

import torch
from torch import nn

from contrastdp.errors import InputError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def check_precision(precision: str) -> None:
    """Raise InputError where a precision is unknown."""
    if precision not in PRECISIONS:
        raise InputError(f"precision is '{precision}'; choose {' or '.join(PRECISIONS)}")


def precision_of(network: nn.Module) -> str:
    """The precision that a network computes in where nothing casts it: that of its weights."""
    return str(next(network.parameters()).dtype).removeprefix("torch.")


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Run a network in `precision`: 'float32' as it is, 'bfloat16' under autocast."""
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


class TrainingPass(nn.Module):
    """A network as training computes it: compiled, in low precision, with float32 logits."""

    def __init__(self, network: nn.Module, *, precision: str, compiled: str | None):
        """precision: a key of PRECISIONS; compiled: a backend of torch.compile, or None."""
        super().__init__()
        self.network = network
        self._precision = precision
        self._call = network.forward
        if compiled:
            # batches have few sizes; a graph for all sizes is slower, and not always to be had
            self._call = _compiled(network.forward, compiled, dynamic=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) in float32 of images in float32."""
        with autocast(x.device, self._precision):
            return self._call(x).float()


def training_pass(network: nn.Module, *, precision: str, compiled: str | None) -> nn.Module:
    """The network as training computes it; itself in float32 without a compiler.

    Raises InputError for an unknown precision or compiler.
    """
    check_precision(precision)
    if compiled is None and precision == "float32":
        return network
    # only now, for the compiler takes long to import
    if compiled and compiled not in (known := torch.compiler.list_backends(exclude_tags=())):
        raise InputError(f"compiled '{compiled}': unknown; this torch has {', '.join(known)}")
    return TrainingPass(network, precision=precision, compiled=compiled)


@contextmanager
def having(modules: Iterable[nn.Module], **attributes: Any) -> Iterator[None]:
    """Within, each module has these attributes; afterwards those that it had."""
    before = [(module, {name: getattr(module, name) for name in attributes}) for module in modules]
    for module, _ in before:
        for name, value in attributes.items():
            setattr(module, name, value)
    try:
        yield
    finally:
        for module, own in before:
            for name, value in own.items():
                setattr(module, name, value)


def faster(network: Any, *, channels_last: bool = False, compiled: str | None = None) -> Any:
    """The same network, arranged for speed: equal results within rounding.

    channels_last: weights of convolutions in that layout, which suits images of several channels,
    on GPUs above all; in place. compiled: a backend of torch.compile ('inductor'), None for none.
    """
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    if not compiled:
        return network
    if not isinstance(network, nn.Module):
        return _compiled(network, compiled)
    arranged: Any = torch.compile(network, backend=compiled)
    arranged.forward = _told_in_one_line(arranged.forward, compiled)
    return arranged


def _compiled(call: Callable[..., Any], backend: str, **options: Any) -> Callable[..., Any]:
    return _told_in_one_line(torch.compile(call, backend=backend, **options), backend)


def _told_in_one_line(call: Callable[..., Any], backend: str) -> Callable[..., Any]:
    """The call; InputError where the compiler, which works at the first call, cannot."""

    @wraps(call)
    def told(*given: Any, **named: Any) -> Any:
        from torch._dynamo.exc import BackendCompilerFailed  # the compiler takes long to import

        try:
            return call(*given, **named)
        except BackendCompilerFailed as error:
            said = next((line for line in str(error).splitlines() if line.strip()), "no reason")
            raise InputError(
                f"compiled '{backend}': torch cannot compile the network here ({said.strip()}); "
                "install a C++ compiler, or leave compiled out"
            ) from None

    return told
