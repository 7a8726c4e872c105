"""The settings of a robust training in groups that belong together, made from flat ones here."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from contrastdp.errors import InputError
from contrastdp.training.losses import LOSSES, TrainingLoss, loss_named


@dataclass(frozen=True, kw_only=True)
class Attack:
    """The attack that is trained against; eps and step_size in units of [0, 1]."""

    eps: float
    step_size: float
    attack_steps: int


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """SGD with Nesterov momentum, for `steps` steps.

    schedule, epoch_steps, cycle_momentum, warmup (a share of the steps): as in rates_at; undecayed:
    as in parameter_groups. first_norm_momentum: of BatchNorm in the first step, 1 in the official
    code, where that step's statistics replace the initial ones; its own where None.
    """

    steps: int
    learning_rate: float
    momentum: float
    weight_decay: float
    warmup: float
    schedule: str = "cosine"
    epoch_steps: int = 1
    cycle_momentum: bool = False
    undecayed: str = "norm"
    first_norm_momentum: float | None = None


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The images of a step: `batch` of them, of which synthetic_share are as in MixedBatches.

    shift: largest random move, in pixels; flip: mirrored half the time; cutmix: alpha of CutMix,
    0 for none.
    """

    batch: int
    synthetic_share: float | str
    shift: int
    flip: bool = False
    cutmix: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Passes:
    """How the training passes are computed; the losses and every validation are float32.

    micro_batch: as in accumulate_gradient, and the random draws do not depend on it; precision,
    compiled: as in TrainingPass; channels_last: memory layout of weights and images, on a GPU.
    """

    micro_batch: int | None = None
    precision: str = "float32"
    channels_last: bool = False
    compiled: str | None = None


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """The averaged weights: decay `averaging`, after averaging_warmup (a share of the steps).

    averaged_statistics: as in AveragedNetwork; 'recomputed' takes them from statistics_batches
    augmented training batches, the same before every validation.
    """

    averaging: float
    averaging_warmup: float = 0.025
    averaged_statistics: str = "live"
    statistics_batches: int = 20


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The averaged network's validation every validate_every steps, and at the end.

    Clean and under PGD on the margin of validation_steps steps, always from the same start, on
    validation_images images, the same ones for every arm and seed; all where None.
    """

    validate_every: int
    validation_steps: int = 20
    validation_images: int | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of a robust training but its network, images and seed.

    loss: an entry of LOSSES; loss_settings: its own. Raises InputError where groups do not fit.
    """

    loss: TrainingLoss
    loss_settings: Mapping[str, Any]
    attack: Attack
    optimiser: Optimiser
    batches: Batches
    passes: Passes
    averaging: Averaging
    validation: Validation

    def __post_init__(self) -> None:
        if self.batches.cutmix and not self.averaging.averaging:
            raise InputError(
                "cutmix: helps averaged weights alone; set averaging above 0, or cutmix 0"
            )
        if self.batches.cutmix and not self.loss.mixed_labels:
            raise InputError(
                "cutmix: mixes labels, but the loss needs one class an image; set it to 0"
            )


GROUPS = {
    "attack": Attack,
    "optimiser": Optimiser,
    "batches": Batches,
    "passes": Passes,
    "averaging": Averaging,
    "validation": Validation,
}


def recipe_of(settings: Mapping[str, Any]) -> Recipe:
    """A Recipe from flat settings, such as those of `training` and `trainers` in the YAML files.

    settings: `loss`, a name in LOSSES, that loss's settings, and the fields of all groups. A
    setting of another loss is left out. Raises InputError, with its name, for a setting that is
    missing or that neither a loss nor a group has.
    """
    known = {"loss", *(field.name for group in GROUPS.values() for field in fields(group))}
    known |= {setting for name in LOSSES for setting in loss_named(name).settings}
    for name in sorted(settings.keys() - known):
        raise InputError(f"robust training: '{name}' is no setting; correct or remove it")

    def chosen(needed: Mapping[str, bool]) -> dict[str, Any]:
        return {name: settings[name] for name, must in needed.items() if must or name in settings}

    try:
        loss = loss_named(settings["loss"])
        groups = {
            place: kind(**chosen({field.name: field.default is MISSING for field in fields(kind)}))
            for place, kind in GROUPS.items()
        }
        return Recipe(loss=loss, loss_settings=chosen(loss.settings), **groups)
    except KeyError as error:
        raise InputError(f"robust training: the setting {error} is missing; give it") from None
