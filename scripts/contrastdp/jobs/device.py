"""Where tensors live: a GPU is used where there is one, without a setting."""

import torch

from contrastdp.errors import InputError


def device(name: str = "auto") -> torch.device:
    """Resolve 'auto' (CUDA where available, else the processor), 'cpu' or 'cuda'.

    Raises InputError for any other name, and for 'cuda' on a machine without it.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device '{name}': unknown; use auto, cpu or cuda")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("device 'cuda': this machine has no usable GPU; use auto or cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
