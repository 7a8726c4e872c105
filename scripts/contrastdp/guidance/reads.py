"""What a guidance reads and which settings it takes, without torch, since the plan asks."""

from collections.abc import Mapping
from typing import Any

from contrastdp.registry import declared

# Settings that name a classifier of the data set, and the name where they are left out.
NAMED = {"encoder": "encoder", "classifier": "encoder", "labeler": "labeler"}
GIVEN = {"features", "loss", "seed", "window", "abar", "micro_batch", "precision", "real"}
CONTRASTIVE = "contrastive"


def kinds() -> list[str]:
    """What a generator's `loss` may name: contrastive losses, and guidances of other kinds."""
    others = (name for name in declared("guidance", "GUIDANCES") if name != CONTRASTIVE)
    return [*declared("guidance", "LOSSES"), *others]


def takes(loss: str) -> tuple[set[str], set[str]]:
    """Settings that a guidance may have, and those among them that it must have."""
    losses = declared("guidance", "LOSSES")
    fields = {"lambda" if name == "lambda_" else name for name in _fields(loss)} - GIVEN
    own, required = (losses[loss].takes, losses[loss].required) if loss in losses else ((), ())
    named = {"loss", "encoder" if "features" in _fields(loss) else "classifier"}
    every = fields | {"window_low", "window_high", *named, *own[1:]}
    return every, {"lambda", *required[1:]} | (fields & {"head", "pairs"})


def networks(settings: Mapping[str, Any], *, conditional: bool) -> dict[str, str]:
    """Classifiers that a guidance reads, by the input of load_guidance: 'encoder', 'labeler'.

    conditional: whether the generator is told the class of each image.
    """
    found = {}
    for field, name in (("features", "encoder"), ("classifier", "classifier")):
        if field in _fields(settings["loss"]):
            found["encoder"] = settings.get(name, NAMED[name])
    if "label" in compared(settings) and not conditional:
        found["labeler"] = settings.get("labeler", NAMED["labeler"])
    return found


def compared(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What the pairs of a guidance compare: now, before, real, label; nothing where it has none."""
    if "pairs" not in _fields(settings["loss"]):
        return ()
    losses, loss = declared("guidance", "LOSSES"), settings["loss"]
    usual = losses[loss].about if loss in losses else {}
    return declared("guidance", "PAIRS")[{**usual, **settings}["pairs"]].takes


def _fields(loss: str) -> tuple[str, ...]:
    kind = CONTRASTIVE if loss in declared("guidance", "LOSSES") else loss
    return declared("guidance", "GUIDANCES")[kind].takes
