"""What a guidance reads and which settings it takes, without torch, since the plan asks."""

from collections.abc import Mapping
from typing import Any

from contrastdp.registry import declared

# Architectures that are told t (ABC Classifier.time_dependent).
TIME_DEPENDENT = ("time_unet",)
# Settings that name a classifier of the data set, and the name where they are left out.
NAMED = {"encoder": "encoder", "classifier": "encoder", "labeler": "labeler"}
READ_BY = {"encoder": "features", "classifier": "classifier"}  # and a guidance's field
GIVEN = {"features", "loss", "seed", "window", "abar", "micro_batch", "precision", "real"}
CONTRASTIVE = "contrastive"


def kinds() -> list[str]:
    """What a generator's `loss` may name: contrastive losses, and guidances of other kinds."""
    others = (name for name in declared("guidance", "GUIDANCES") if name != CONTRASTIVE)
    return [*declared("guidance", "LOSSES"), *others]


def takes(loss: str) -> tuple[set[str], set[str]]:
    """Settings that a guidance may have, and those among them that it must have."""
    own = _fields(loss)
    fields = {"lambda" if name == "lambda_" else name for name in own} - GIVEN
    if "parts" in own:
        return fields | {"loss"}, {"parts"}
    losses = declared("guidance", "LOSSES")
    more, required = (losses[loss].takes, losses[loss].required) if loss in losses else ((), ())
    named = {setting for setting, field in READ_BY.items() if field in own}
    every = fields | {"loss", "window_low", "window_high", *named, *more[1:]}
    return every, {"lambda", *required[1:]} | (fields & {"head", "pairs"})


def networks(settings: Mapping[str, Any], *, conditional: bool) -> dict[str, Any]:
    """Classifiers that a guidance reads, by the input of load_guidance: 'encoder', 'labeler'.

    conditional: whether the generator is told the class of each image. Of a sum each input has a
    list, of the different classifiers that its parts read.
    """
    found: dict[str, Any] = {}
    if "parts" in settings:
        for part in settings["parts"].values():
            for role, name in networks(part, conditional=conditional).items():
                if name not in found.setdefault(role, []):
                    found[role].append(name)
        return found
    for setting, field in READ_BY.items():
        if field in _fields(settings["loss"]):
            found["encoder"] = settings.get(setting, NAMED[setting])
    if "label" in compared(settings) and not conditional:
        found["labeler"] = settings.get("labeler", NAMED["labeler"])
    return found


def listed(names: str | list[str]) -> list[str]:
    """The classifiers of one input of `networks`."""
    return [names] if isinstance(names, str) else names


def compared(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What the pairs of a guidance compare: now, before, real, label; nothing where it has none."""
    if "parts" in settings:
        every = (name for part in settings["parts"].values() for name in compared(part))
        return tuple(dict.fromkeys(every))
    if "pairs" not in _fields(settings["loss"]):
        return ()
    losses, loss = declared("guidance", "LOSSES"), settings["loss"]
    usual = losses[loss].about if loss in losses else {}
    return declared("guidance", "PAIRS")[{**usual, **settings}["pairs"]].takes


def _fields(loss: str) -> tuple[str, ...]:
    kind = CONTRASTIVE if loss in declared("guidance", "LOSSES") else loss
    return declared("guidance", "GUIDANCES")[kind].takes
