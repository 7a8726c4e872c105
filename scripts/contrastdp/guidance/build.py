"""Guidance from the settings of a generator's row."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from contrastdp.errors import InputError
from contrastdp.guidance import contrast
from contrastdp.guidance.classifier import ClassifierGuidance
from contrastdp.guidance.contrastive import ContrastiveGuidance, Loss
from contrastdp.guidance.protocol import EVERY_STEP

LOSSES = ("infonce", "hnm", "classifier")


def build_guidance(
    features: Callable[[Tensor], Tensor] | None,
    *,
    loss: str,
    seed: int = 0,
    tau: float | None = None,
    tau_plus: float = 0.1,
    beta: float = 1.0,
    clamp: bool = False,
    window_low: int = EVERY_STEP[0],
    window_high: int = EVERY_STEP[1],
    **rest: Any,
) -> ContrastiveGuidance | ClassifierGuidance:
    """Guidance from a row's settings.

    loss: 'infonce' or 'hnm', contrastive, of `features`, with tau (and, for HNM, tau_plus, beta,
    clamp); or 'classifier', which reads `classifier` and `abar` of rest and no features. rest:
    further arguments of ContrastiveGuidance or ClassifierGuidance; `lambda` may stand for lambda_.
    Raises InputError for an unknown loss or setting.
    """
    if loss not in LOSSES:
        raise InputError(f"guidance loss is '{loss}'; choose one of {', '.join(LOSSES)}")
    if "lambda" in rest:
        rest["lambda_"] = rest.pop("lambda")
    rest["window"] = (window_low, window_high)
    try:
        if loss == "classifier":
            return ClassifierGuidance(seed=seed, **rest)
        if tau is None:
            raise InputError(f"guidance '{loss}' needs a temperature; give tau")
        assert features is not None
        value: Loss = partial(contrast.info_nce, tau=tau)
        if loss == "hnm":
            value = partial(
                contrast.hard_negative_mining, tau=tau, tau_plus=tau_plus, beta=beta, clamp=clamp
            )
        return ContrastiveGuidance(features, value, seed=seed, **rest)
    except TypeError as error:
        raise InputError(f"guidance '{loss}': {error}; correct its settings") from None
