"""Flat settings made into groups: everything arrives, and what is misspelt or missing is named."""

from dataclasses import asdict

import pytest

from contrastdp.errors import InputError
from contrastdp.training.losses import mart_loss, pgd_loss
from contrastdp.training.recipe import GROUPS, recipe_of

REQUIRED = {"eps": 0.1, "step_size": 0.05, "attack_steps": 2, "steps": 12, "learning_rate": 0.2}
REQUIRED |= {"momentum": 0.9, "weight_decay": 5e-4, "warmup": 0.25, "batch": 10, "shift": 1}
REQUIRED |= {"synthetic_share": 0.8, "averaging": 0.9, "validate_every": 5}
REQUIRED |= {"loss": "mart", "beta": 5.0}
CHOSEN = {"schedule": "one_cycle", "epoch_steps": 3, "cycle_momentum": True, "undecayed": "none"}
CHOSEN |= {"first_norm_momentum": 1.0, "flip": True, "cutmix": 0.0, "micro_batch": 4}
CHOSEN |= {"precision": "bfloat16", "channels_last": True, "compiled": "eager"}
CHOSEN |= {"averaging_warmup": 0.1, "averaged_statistics": "averaged", "statistics_batches": 7}
CHOSEN |= {"validation_steps": 3, "validation_images": 6, "label_smoothing": 0.1}


def flat(recipe):
    """All that a recipe holds, in one mapping, and how often each name stands in it."""
    groups = [asdict(getattr(recipe, name)) for name in GROUPS] + [dict(recipe.loss_settings)]
    names = [name for group in groups for name in group]
    assert len(names) == len(set(names))
    return {name: value for group in groups for name, value in group.items()}


def test_every_setting_arrives_under_its_name():
    found = recipe_of(REQUIRED | CHOSEN)
    assert found.loss.function is mart_loss
    assert flat(found) == {k: v for k, v in (REQUIRED | CHOSEN).items() if k != "loss"}


def test_the_required_settings_suffice_and_each_is_missed_by_name():
    recipe_of(REQUIRED)
    for name in REQUIRED:
        with pytest.raises(InputError, match=f"setting '{name}' is missing") as caught:
            recipe_of({k: v for k, v in REQUIRED.items() if k != name})
        assert "\n" not in str(caught.value)


def test_a_misspelt_setting_is_named():
    with pytest.raises(InputError, match="'lerning_rate' is no setting") as caught:
        recipe_of(REQUIRED | {"lerning_rate": 0.1})
    assert "\n" not in str(caught.value)


def test_a_setting_of_another_loss_is_left_out():
    found = recipe_of(REQUIRED | {"loss": "pgd", "label_smoothing": 0.2})
    assert found.loss.function is pgd_loss
    assert found.loss_settings == {"label_smoothing": 0.2}


def test_mixed_labels_are_refused_by_a_loss_that_needs_one_class():
    with pytest.raises(InputError, match=r"cutmix: .* needs one class"):
        recipe_of(REQUIRED | {"cutmix": 1.0})
    recipe_of(REQUIRED | {"cutmix": 1.0, "loss": "trades"})
