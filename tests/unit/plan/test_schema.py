"""The schema against the code: what it lets pass, the code knows, and the other way round."""

import inspect
import re
from dataclasses import fields

import pytest
import torch
from diffusers import UNet2DModel
from resolved_plans import resolved

from contrastdp.attack import autoattack, early_stopped, versions
from contrastdp.diffusion import denoisers, initialisation, schedulers, terms
from contrastdp.diffusion import training as diffusion_training
from contrastdp.guidance import protocol, reads
from contrastdp.networks import averaging, execution
from contrastdp.networks.build import ARCHITECTURES
from contrastdp.networks.preact_resnet import ACTIVATIONS
from contrastdp.plan import combinations, origins, settings_page
from contrastdp.plan.settings import described
from contrastdp.plan.yaml_files import read_yaml
from contrastdp.report import measured_table
from contrastdp.training import losses, optimisation, recipe
from contrastdp.training.classifier import train_classifier_network
from contrastdp.training.time_classifier import train_time_classifier_network


@pytest.fixture(scope="module")
def definitions(root):
    return read_yaml(root / "config" / "schema.yaml")["$defs"]


def entry(definitions, place):
    """An entry of the schema by its place, `properties` left out."""
    first, *rest = place.split(".")
    found = definitions[first]
    for part in rest:
        found = described(definitions, found)
        found = found.get("properties", found)[part]
    return described(definitions, found)


ENUMERATIONS = {
    "precision": tuple(execution.PRECISIONS),
    "compiled": ("aot_eager", "cudagraphs", "eager", "inductor"),
    "sampler.spacing": schedulers.SPACINGS,
    "sampler.variance_type": schedulers.VARIANCES,
    "guidance.at": protocol.SEEN,
    "guidance.encoder_input": protocol.ENCODER_INPUTS,
    "guidance.direction": protocol.DIRECTIONS,
    "guidance.moves": protocol.MOVES,
    "denoiser.training.optimiser": tuple(diffusion_training.OPTIMISERS),
    "denoiser.training.decay": diffusion_training.DECAYS,
    "denoiser.training.weighting": terms.WEIGHTINGS,
    "sections.noise_schedule.beta_schedule": denoisers.BETA_SCHEDULES,
    "sections.training.schedule": optimisation.SCHEDULES,
    "sections.training.undecayed": optimisation.UNDECAYED,
    "sections.training.averaged_statistics": averaging.STATISTICS,
    "sections.attack.version": tuple(versions.VERSIONS),
    "sections.attack.ablations": tuple(versions.VERSIONS),
    "trainer.loss": tuple(losses.LOSSES),
    "sampler.initialisation": tuple(initialisation.INITIALISATIONS),
    "early_stopped.norm": early_stopped.NORMS,
    "early_stopped.step_size": tuple(early_stopped.STEP_SIZES),
    "networks.preact_resnet.activation": tuple(ACTIVATIONS),
    "networks.wide_resnet.activation": tuple(ACTIVATIONS),
    "measured.panel": tuple(measured_table.PANELS),
    "measured.method": measured_table.METHODS,
}


@pytest.mark.parametrize("place", ENUMERATIONS)
def test_an_enumeration_is_the_codes(definitions, place):
    found = entry(definitions, place)
    assert sorted(found["enum"]) == sorted(ENUMERATIONS[place])


def test_every_enumeration_is_held_against_the_code(definitions):
    """A new one joins ENUMERATIONS, or those that no code of ours names."""
    found = set()

    def walk(node, place):
        if not isinstance(node, dict):
            return
        if "enum" in node:
            found.add(place)
        for key, inner in node.items():
            if key != "$ref":
                walk(inner, place if key == "properties" else f"{place}.{key}".lstrip("."))

    walk(definitions, "")
    ours = {place for place in found if not place.startswith("noise_predictors.unet2d.")}
    # train_on has one word, the norm and the channels have no registry
    assert ours - {"arm.train_on", "sections.threat.norm", "dataset.channels"} == {*ENUMERATIONS}


def test_torch_has_the_compilers(definitions):
    assert {*definitions["compiled"]["enum"]} <= {*torch.compiler.list_backends(exclude_tags=())}


def test_a_unet_has_diffusers_own_defaults():
    own = inspect.signature(UNet2DModel.__init__).parameters
    defaults = {name: own[name].default for name in combinations.UNET}
    listed = {name: list(v) if isinstance(v, tuple) else v for name, v in defaults.items()}
    assert listed == combinations.UNET


def test_a_time_unet_has_its_own_defaults():
    own = inspect.signature(ARCHITECTURES["time_unet"].__init__).parameters
    assert {name: own[name].default for name in combinations.TIME_UNET} == combinations.TIME_UNET


def test_the_plan_knows_which_architectures_take_t():
    found = {name for name, network in ARCHITECTURES.items() if network.time_dependent}
    assert found == {*reads.TIME_DEPENDENT}


def test_an_attack_on_noisy_images_has_its_settings(definitions):
    wanted = {field.name for field in fields(early_stopped.EarlyStopped)}
    assert entry(definitions, "early_stopped")["properties"].keys() == wanted


def test_terms_take_the_settings_that_the_schema_describes(definitions):
    known = entry(definitions, "denoiser.training.terms")["properties"]
    assert known.keys() == terms.TERMS.keys()
    for name, term in terms.TERMS.items():
        assert known[name]["properties"].keys() == arguments(term.__init__).keys()


def test_a_budget_has_the_codes_names(definitions):
    assert set(entry(definitions, "sections.attack.budget")["properties"]) == {*autoattack.BUDGET}


# ---------------------------------------------------------------- arguments
def arguments(function, *, without=()):
    """Keyword arguments of a function -> whether they must be given."""
    found = inspect.signature(function).parameters.values()
    return {p.name: p.default is p.empty for p in found if p.name not in (*without, "self")}


OF_THE_DATA = ("channels", "classes", "image_size")
OF_THE_JOB = ("seed", "progress", "resume", "group")


def test_the_sizes_of_networks_are_their_arguments(definitions):
    assert definitions["networks"].keys() == ARCHITECTURES.keys()
    for name, network in ARCHITECTURES.items():
        # T is the noise schedule's
        wanted = arguments(network.__init__, without=(*OF_THE_DATA, "num_train_timesteps"))
        own = definitions["networks"][name]
        assert own["properties"].keys() == wanted.keys(), name
        assert set(own.get("required", ())) == {k for k, needed in wanted.items() if needed}, name


def test_the_sizes_of_denoisers_are_their_arguments(definitions):
    of_schedule = (*denoisers.BETAS, "num_class_embeds")
    wanted = arguments(denoisers.SmallDenoiser.__init__, without=(*OF_THE_DATA, *of_schedule))
    assert definitions["noise_predictors"]["small_denoiser"]["properties"].keys() == wanted.keys()
    set_already = ("sample_size", "in_channels", "out_channels", "num_class_embeds")
    wanted = arguments(UNet2DModel.__init__, without=set_already)
    # labels are embedded as the schema's `conditional` says; timesteps are the noise schedule's
    wanted = wanted.keys() - {"class_embed_type", "num_train_timesteps"}
    assert definitions["noise_predictors"]["unet2d"]["properties"].keys() == wanted | {
        "learned_variance"
    }


def test_trainings_take_every_setting_of_theirs(definitions):
    of_data = ("x", "y", "image", "label", "abar", "generator", "classes", *OF_THE_JOB)
    own = entry(definitions, "classifier")
    wanted = arguments(train_classifier_network, without=of_data)
    of_time = arguments(train_time_classifier_network, without=of_data).keys() - wanted.keys()
    of_time |= {"validation_attack"}  # of the script
    assert own["properties"].keys() == wanted.keys() | of_time
    assert {*combinations.OF_TIME} == of_time
    assert set(own["required"]) == {name for name, needed in wanted.items() if needed}
    own = entry(definitions, "denoiser.training")
    of_model = ("denoiser", "conditioning")
    wanted = arguments(diffusion_training.train_denoiser, without=(*of_data, *of_model))
    assert own["properties"].keys() == wanted.keys()
    assert set(own["required"]) == {name for name, needed in wanted.items() if needed}


def test_robust_training_takes_every_setting_of_its(definitions):
    wanted = {field.name for group in recipe.GROUPS.values() for field in fields(group)}
    wanted |= {s for name in losses.LOSSES for s in losses.loss_named(name).settings}
    wanted |= {"loss"}
    wanted -= {"eps", "step_size"}  # of the attack
    training = entry(definitions, "sections.training")["properties"].keys()
    trainer = entry(definitions, "trainer")["properties"].keys()
    # epochs are counted out in steps by the plan
    counted = {"network", "epochs", "epoch_images"}
    assert (training - counted) | trainer | {"epoch_steps"} == wanted


def test_guidances_take_the_settings_that_the_schema_describes_and_no_others(definitions):
    taken = set().union(*(reads.takes(loss)[0] for loss in reads.kinds()))
    taken -= {"head_learning_rate"}  # of the pipeline alone
    # classes of pairs come from a labeler, which is no argument of a loss
    assert taken | {"labeler"} == entry(definitions, "guidance")["properties"].keys()


# ---------------------------------------------------------------- the page of settings
def test_the_page_of_settings_is_the_schemas(definitions, root):
    """`make settings` writes it anew."""
    page = (root / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page.page(definitions)


@pytest.mark.parametrize("part", [*settings_page.PARTS, *settings_page.SHEETS])
def test_every_setting_says_what_it_means(definitions, part):
    found = settings_page.listed(definitions, part)
    assert found
    assert [name for name, entry in found if not entry.get("description")] == []


def test_the_page_has_every_setting_that_is_set(definitions, folder):
    """Those of the demo and of the paper, by their dotted names."""
    names = {name for part in ("sections", "dataset") for name, _ in
             settings_page.listed(definitions, part)}  # fmt: skip
    patterns = [re.compile(re.escape(name).replace("<name>", r"\w+") + r"(\.\d+)?$")
                for name in names]  # fmt: skip
    for scale in ("demo", "paper"):
        found = resolved(folder, scale=scale)
        for settings in found.datasets.values():
            for name, _, _ in origins.listed(origins.sourced(settings, "")):
                shown = re.sub(r"\.network\..*", ".network", name)
                assert any(pattern.match(shown) for pattern in patterns), name
