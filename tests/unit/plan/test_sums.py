"""Sums of guidances in the plan: their parts, the networks that they read, and what is refused."""

from copy import deepcopy

import pytest
from configuration import told, with_row
from resolved_plans import resolved, wildcards

from contrastdp.cost import workload
from contrastdp.errors import InputError
from contrastdp.plan import combinations, origins
from contrastdp.plan.needs import Needs
from contrastdp.plan.paths import Paths

BY_CLASSES = {
    "loss": "hnm",
    "lambda": 5.0,
    "tau": 1.0,
    "head": 0,
    "pairs": "class_conditional",
    "at": "state",
    "window_low": 0,
    "window_high": 500,
    "encoder_input": "unit",
    "direction": "gradient",
}
NETWORK = {"network": {"architecture": "small_cnn", "width": 4, "features": 8}}
NETWORK |= {"steps": 10, "batch": 10, "learning_rate": 1e-3, "weight_decay": 0.0, "shift": 0}
SETTINGS = {
    "classifiers": {"third": NETWORK},
    "guidances": {
        "classifier": {"classifier": "third"},
        "by_classes": BY_CLASSES,
        "both": {"loss": "sum", "parts": ["classifier", "hnm", "by_classes"]},
    },
}
OF_MODEL = {"dataset": "digits", "real": 200, "seed": 1}


@pytest.fixture
def found(folder):
    with_row(folder, guidance="both", sampler="ddpm")
    return resolved(folder, scale="demo", **SETTINGS)


def test_a_sum_has_the_settings_of_its_parts(found):
    settings = found.guidance("digits", "contrastive_hnm")
    every = found.datasets["digits"]["guidances"]
    expected = {name: {"loss": name} | every[name] for name in ("classifier", "hnm")}
    expected["by_classes"] = BY_CLASSES
    assert settings == {"loss": "sum", "parts": expected}


def test_a_sum_reads_the_networks_of_all_its_parts_each_once(found):
    read = {"encoder": ["third", "encoder"], "labeler": ["labeler"]}
    assert found.guidance_networks("digits", "contrastive_hnm") == read
    needs = Needs(found, Paths(found.scale))
    files = needs.sampling(wildcards(generator="contrastive_hnm", shard=0, **OF_MODEL))
    place = "results/demo/digits/classifier/{}/n200/seed1/model.safetensors"
    assert files["encoder"] == [place.format("third"), place.format("encoder")]
    assert files["labeler"] == [place.format("labeler")]
    assert set(files) == {"denoiser", "encoder", "labeler"}
    traced = needs.tracing(wildcards(dataset="digits", arm="contrastive_hnm", seed=0, image=3))
    assert traced["labeler"].endswith("classifier/labeler/n200/seed0/model.safetensors")
    assert traced["guidance_labeler"] == [traced["labeler"]]
    assert len(traced["encoder"]) == 2


def test_where_its_settings_come_from(found):
    tree = origins.of_generator(found, "digits", "contrastive_hnm")
    assert tree["guidance"]["parts"]["by_classes"]["lambda"].value == 5.0
    assert set(tree["encoder"]) == {"third", "encoder"}
    assert {**dict.fromkeys(name for name, _, _ in origins.listed(tree))}


def test_a_sum_costs_what_its_parts_cost(found):
    names = {"dataset": "digits", "generator": "contrastive_hnm", "real": "200", "shard": "0"}
    works = workload.works("sample_images", names, found)
    steps = found.sampler("digits", "contrastive_hnm")["steps"]
    shard = found.datasets["digits"]["sampling"]["shard"]
    kinds = [work.kind for work in works]
    assert kinds == ["denoise", "guide", "guide", "guide", "forward"]
    chain = range(0, 1000, 20)
    # the first step is guided by the classifier alone, the last part to t = 500
    counts = [steps, steps, steps - 1, sum(t <= 500 for t in chain), steps]
    assert [work.images for work in works] == [shard * count for count in counts]


def test_a_twin_of_a_sum_is_the_sum_in_a_random_direction(folder):
    with_row(folder, guidance="both", sampler="ddpm")
    found = resolved(folder, scale="demo", twins=["robustness"], **SETTINGS)
    settings = found.guidance("digits", "contrastive_hnm_random")
    assert settings["direction"] == "random"
    assert settings["parts"] == found.guidance("digits", "contrastive_hnm")["parts"]


def with_guidance(**changes):
    settings = deepcopy(SETTINGS)
    settings["guidances"] |= changes
    return settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"both": {"loss": "sum", "parts": ["hmn"]}}, "guidances.both, parts: guidance 'hmn'"),
        ({"both": {"loss": "sum"}}, "key 'guidances.both.parts' is missing"),
        ({"both": {"loss": "sum", "parts": []}}, "parts is []"),
        ({"both": {"loss": "sum", "parts": ["hnm", "hnm"]}}, "non-unique"),
        ({"both": {"loss": "sum", "parts": ["hnm"], "lambda": 1.0}}, "lambda is no setting of"),
        ({"more": {"loss": "sum", "parts": ["both"]}}, "'both' is a sum itself"),
        ({"hnm": {"parts": ["infonce"]}}, "parts is no setting of guidance 'hnm'"),
        ({"hnm": {"moves": "mean"}}, "moves is no setting of guidance 'hnm'"),
        ({"classifier": {"moves": "up"}}, "moves is 'up'; choose one of noise, mean"),
        ({"classifier": {"moves": "mean", "noise_factor": True}}, "noise_factor is of moves noise"),
    ],
)
def test_what_is_no_sum_is_refused(folder, changes, words):
    assert words in told(folder, scale="demo", **with_guidance(**changes))


@pytest.mark.parametrize("guidance", ["classifier", "both"])
def test_a_mean_that_moves_needs_steps_with_a_variance(folder, guidance):
    with_row(folder, guidance=guidance, sampler="ddim")
    moved = {"classifier": {"moves": "mean"}}
    line = told(folder, scale="demo", **with_guidance(**moved))
    assert "moves is mean, by the step's variance, and eta is 0" in line
    assert line.startswith("config/generators.tsv, line 4 (contrastive_hnm)")


# ---------------------------------------------------------------- time-dependent classifiers
@pytest.fixture
def timed():
    """Settings of which one classifier is time-dependent, as the plan has checked them."""
    settings = deepcopy(resolved(scale="demo").datasets["digits"])
    settings["classifiers"]["timed"] = {"network": {"architecture": "time_unet"}}
    return settings


@pytest.mark.parametrize(
    ("guidance", "changes", "words"),
    [
        ("hnm", {"encoder": "timed"}, "here, encoder: classifier 'timed' is a time-dependent one"),
        (
            "hnm",
            {"labeler": "timed", "pairs": "class_conditional"},
            "here, labeler: classifier 'timed' is a time-dependent one",
        ),
        ("classifier", {"classifier": "timed"}, "sees x_t as it is, so choose raw and state"),
        (
            "classifier",
            {"classifier": "timed", "encoder_input": "raw", "at": "clean"},
            "encoder_input is raw and at is clean",
        ),
    ],
)
def test_a_time_dependent_classifier_guides_by_its_logits_at_x_t(timed, guidance, changes, words):
    given = {"loss": guidance} | timed["guidances"][guidance] | changes
    with pytest.raises(InputError, match=words):
        combinations.check_guidance(given, timed, "here")


def test_a_time_dependent_classifier_that_sees_x_t(timed):
    given = {"loss": "classifier"} | timed["guidances"]["classifier"]
    given |= {"classifier": "timed", "encoder_input": "raw", "moves": "mean"}
    combinations.check_guidance(given, timed, "here")


# ---------------------------------------------------------------- learned variances
BOUND = {"terms": {"variational_bound": {}}}
LEARNS = {"architecture": "small_denoiser", "learned_variance": True}


@pytest.mark.parametrize(
    ("denoiser", "words"),
    [
        ({"network": LEARNS}, "network.learned_variance is true"),
        ({"training": BOUND}, "network.learned_variance is false"),
        ({"training": {"terms": {"variational_bound": {"weight": 0}}}}, "weight is 0"),
        ({"network": LEARNS, "training": BOUND}, "variance_type is fixed_small"),
    ],
)
def test_a_learned_variance_is_trained_and_drawn_with(folder, denoiser, words):
    assert words in told(folder, scale="demo", denoisers={"unconditional": denoiser})


def test_learned_range_needs_a_learned_variance(folder):
    samplers = {"ddpm": {"variance_type": "learned_range"}}
    assert "network.learned_variance is false" in told(folder, scale="demo", samplers=samplers)
    denoisers = {name: {"network": LEARNS, "training": BOUND} for name in
                 ("unconditional", "conditional", "conditional_shifted")}  # fmt: skip
    found = resolved(folder, scale="demo", samplers=samplers, denoisers=denoisers)
    assert found.sampler("digits", "ddpm")["variance_type"] == "learned_range"
