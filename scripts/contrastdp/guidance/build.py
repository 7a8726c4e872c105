"""Guidance from the settings of a generator's row.

Contrastive guidance is named by its loss, an entry of contrast.LOSSES; any other by its own name,
an entry of protocol.GUIDANCES. The modules of all entries are imported here.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from contrastdp.errors import InputError
from contrastdp.guidance import classifier, contrastive, sum  # noqa: F401  enter their guidance
from contrastdp.guidance.contrast import LOSSES
from contrastdp.guidance.protocol import EVERY_STEP, GUIDANCES, check_number
from contrastdp.guidance.reads import CONTRASTIVE

# of the settings of losses
RANGES: dict[str, dict[str, Any]] = {
    "tau": {"above": 0},
    "tau_plus": {"least": 0, "below": 1},
    "beta": {"least": 0},
}


def kind_of(loss: str) -> str:
    """The guidance that a row's `loss` names; InputError where there is none."""
    if loss in LOSSES:
        return CONTRASTIVE
    if loss == CONTRASTIVE or loss not in GUIDANCES:
        known = [*LOSSES, *(name for name in GUIDANCES if name != CONTRASTIVE)]
        raise InputError(f"guidance loss is '{loss}'; choose one of {', '.join(known)}")
    return loss


def build_guidance(
    features: Callable[[Tensor], Tensor] | None,
    *,
    loss: str,
    seed: int = 0,
    window_low: int = EVERY_STEP[0],
    window_high: int = EVERY_STEP[1],
    **settings: Any,
) -> Any:
    """Guidance from a row's settings: a protocol.Guidance, or of loss 'sum' a protocol.Sum.

    loss: of contrast.LOSSES, contrastive, of `features`; or a guidance of another kind. settings:
    arguments of the loss and of the guidance; `lambda` may stand for lambda_, and `pairs` are the
    loss's usual ones where left out. What a guidance has no field for among features, loss, seed
    and window is not given to it. Raises InputError for an unknown loss or setting.
    """
    kind = kind_of(loss)
    if "lambda" in settings:
        settings["lambda_"] = settings.pop("lambda")
    common: dict[str, Any] = {"features": features, "seed": seed}
    common["window"] = (window_low, window_high)
    try:
        if kind == CONTRASTIVE:
            named = LOSSES.takes(loss)[1:]  # the first are the pairs
            own = {name: settings.pop(name) for name in named if name in settings}
            own = {name: value for name, value in own.items() if value is not None}
            inspect.signature(LOSSES[loss]).bind(None, **own)  # TypeError where one is missing
            for name in own.keys() & RANGES.keys():
                check_number(name, own[name], **RANGES[name])
            common["loss"] = partial(LOSSES[loss], **own)
            settings = LOSSES.about.get(loss, {}) | settings
        takes = GUIDANCES.takes(kind)
        given = {name: value for name, value in common.items() if name in takes}
        return GUIDANCES[kind](**given, **settings)
    except TypeError as error:
        raise InputError(f"guidance '{loss}': {error}; correct its settings") from None
