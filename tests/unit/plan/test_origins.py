"""Where settings come from: of each value, the layer or row that really holds it."""

import pytest
from configuration import add_arm, edit, with_row
from resolved_plans import resolved

from contrastdp.errors import InputError
from contrastdp.plan import origins


def at(tree, name):
    """What stands at a dotted name of nested mappings, or None."""
    for part in name.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


@pytest.mark.parametrize("scale", ["demo", "reduced", "paper"])
def test_a_value_stands_in_its_layer_and_in_no_later_one(folder, scale):
    found = resolved(folder, scale=scale, training={"momentum": 0.8})
    for dataset, settings in found.datasets.items():
        layers = found.layers[dataset]
        listed = list(origins.listed(origins.of_dataset(found, dataset)))
        assert len(listed) > 90
        for name, value, origin in listed:
            if name not in ("scale", "mirror") and not name.startswith("resume."):
                assert at(settings, name) == value, name
            assert at(layers[origin], name) == value, name
            order = list(layers)
            later = [layers[other] for other in order[order.index(origin) + 1 :]]
            assert all(at(layer, name) is None for layer in later), name
        by_name = {name: origin for name, _, origin in listed}
        assert by_name["training.momentum"] == "command line"
        assert by_name["title"] == f"datasets/{dataset}.yaml"
        if dataset == "mnist":
            assert by_name["threat.eps"] == f"scales/{scale}.yaml, datasets.mnist"
            assert by_name["report.theory"] == f"scales/{scale}.yaml"


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_what_is_shown_is_what_the_jobs_are_given(folder, scale):
    found = resolved(folder, scale=scale)
    for arm, row in found.arms.items():
        shown = {name: value for name, value, _ in origins.listed(origins.of_arm(found, arm))}
        wanted = {"training": found.training(arm), "attack": found.attack(arm)}
        wanted["trainer"] = found.trainer(arm)
        if row["generator"]:
            names = (row["dataset"], row["generator"])
            wanted["generator.sampler"] = found.sampler(*names)
            wanted["generator.guidance"] = found.guidance(*names) or {}
        for section, settings in wanted.items():
            for name, value in settings.items():
                if not isinstance(value, dict):
                    assert shown[f"{section}.{name}"] == value, (arm, name)


def test_cells_come_from_their_rows(folder):
    with_row(folder, tau="3", steps="7")
    more = {"generator": "contrastive_hnm", "synthetic": "60", "selection": "none"}
    add_arm(folder, arm="mine", batch="50", eps="1/5", candidates="1", **more)
    found = resolved(folder, training={"epochs": 2, "epoch_images": 100, "validate_every": 1})
    shown = {
        name: (value, origin)
        for name, value, origin in origins.listed(origins.of_arm(found, "mine"))
    }
    assert shown["generator.guidance.tau"] == (3.0, "generators.tsv row contrastive_hnm")
    assert shown["generator.sampler.steps"] == (7, "generators.tsv row contrastive_hnm")
    assert shown["generator.sampler.spacing"] == ("quadratic", "config.yaml")
    assert shown["training.batch"] == (50, "arms.tsv row mine")
    assert shown["attack.eps"] == ("1/5", "arms.tsv row mine")
    assert shown["threat.eps"] == ("1/5", "arms.tsv row mine")
    assert shown["threat.step_size"] == ("1/20", "counted out of the others")
    assert shown["training.epochs"] == (2, "command line")
    assert shown["training.steps"] == (4, "counted out of the others")


def test_a_twin_stands_in_no_sheet(folder):
    found = resolved(folder, scale="demo", twins=["ablations"])
    shown = origins.of_arm(found, "contrastive_hnm_500_random")
    assert shown["row"]["real"] == origins.Setting(200, "")
    assert shown["row"]["real"].origin == "the twins of this scale"
    # the generator is the sheet's own, that has a random direction already
    direction = shown["generator"]["guidance"]["direction"]
    assert (direction.value, direction.origin) == ("random", "generators.tsv row random_direction")


def test_an_unknown_name_is_told(folder):
    found = resolved(folder)
    with pytest.raises(InputError, match=r"scale demo: arm 'ddin' .*did you mean ddim\?"):
        origins.of_arm(found, "ddin")
    with pytest.raises(InputError, match="generator 'ddin' does not exist"):
        origins.of_generator(found, "digits", "ddin")


def test_images_from_elsewhere_have_a_row_and_no_sampler(folder):
    sheet = folder / "generators.tsv"
    header, *_ = sheet.read_text(encoding="utf-8").splitlines()
    cells = {"generator": "theirs", "title": "Theirs", "images": "theirs.npz"}
    row = "\t".join(cells.get(column, "") for column in header.split("\t"))
    sheet.write_text(sheet.read_text(encoding="utf-8") + row + "\n", encoding="utf-8")
    more = {"generator": "theirs", "synthetic": "60", "selection": "none", "candidates": "1"}
    add_arm(folder, arm="with_theirs", tables="robustness", **more)
    shown = origins.of_arm(resolved(folder), "with_theirs")
    images = origins.Setting("theirs.npz", "generators.tsv row theirs")
    assert shown["generator"]["row"]["images"] == images
    assert set(shown["generator"]) == {"row", "sampling"}


def test_the_networks_are_those_that_the_settings_name(folder):
    edit(
        folder / "config.yaml",
        "classifiers:\n",
        "classifiers:\n  other: {network: {architecture: small_cnn, width: 8, features: 32}, "
        "steps: 7, batch: 64, learning_rate: 2.0e-3, weight_decay: 1.0e-2, shift: 1}\n",
    )
    found = resolved(folder, labelling={"classifier": "other"})
    assert origins.of_arm(found, "ddim")["labeler"]["steps"].value == 7
