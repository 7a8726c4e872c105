"""What jobs compute: images and passes counted by hand for settings that are written out."""

import json
from copy import deepcopy
from functools import partial

import pytest
from code_graph import ROOT

from contrastdp.cost.workload import RULES, stored, works
from contrastdp.files import read_csv
from contrastdp.plan import experiments
from contrastdp.plan.yaml_files import read_yaml

DEMO = {"dataset": "digits", "real": "200"}
PAPER = {"dataset": "cifar10", "real": "48976"}


@pytest.fixture(scope="module")
def plan_of():
    def read(scale):
        return experiments.plan(
            read_yaml,
            partial(read_csv, delimiter="\t"),
            folder=ROOT / "config",
            command_line={"scale": scale},
        )

    return {scale: read(scale) for scale in ("demo", "paper")}


def images(found):
    return {work.kind: work.images for work in found}


def test_training_of_the_demo(plan_of):
    plan, w = plan_of["demo"], {"dataset": "digits", "arm": "ddim", "seed": "0"}
    trained, validated = works("train_robust", w, plan)
    assert (trained.kind, trained.images) == ("trades_step", 600 * 128)
    assert json.loads(trained.options) == {"attack_steps": 10}
    assert (validated.kind, validated.images) == ("validation", 6 * 200)
    found = works("train_diffusion", w | {"denoiser": "unconditional"}, plan)
    assert images(found) == {"diffusion_step": 4000 * 64}


def test_training_on_noisy_images_of_the_paper(plan_of):
    plan, w = plan_of["paper"], {"dataset": "cifar10", "real": "50000", "seed": "0"}
    for name, steps in (("robust_time", 7), ("vanilla_time", 0)):
        (work,) = works("train_time_classifier", w | {"classifier": name}, plan)
        assert (work.kind, work.images) == ("time_classifier_step", 200_000 * 128)
        assert json.loads(work.options) == {"attack_steps": steps}


def test_guided_sampling_of_the_paper(plan_of):
    w = PAPER | {"generator": "contrastive_hnm", "shard": "0"}
    shard = plan_of["paper"].datasets["cifar10"]["sampling"]["shard"]
    # 200 quadratic steps of which 13 repeat another; the first has no earlier state to guide by
    assert images(works("sample_images", w, plan_of["paper"])) == {
        "denoise": shard * 187,
        "guide": shard * 186,
    }


def test_plain_sampling_has_no_guidance(plan_of):
    w = DEMO | {"generator": "ddpm", "shard": "0"}
    assert images(works("sample_images", w, plan_of["demo"])) == {"denoise": 2000 * 50}


@pytest.fixture
def changed(plan_of):
    """A copy of the demo's plan, to be changed."""
    return deepcopy(plan_of["demo"])


def test_chosen_timesteps_stand_in_the_place_of_the_count(changed):
    w = DEMO | {"generator": "contrastive_hnm", "shard": "0"}
    changed.datasets["digits"]["samplers"]["ddim"]["timesteps"] = [900, 500, 100]
    found = images(works("sample_images", w, changed))
    assert found == {"denoise": 2000 * 3, "guide": 2000 * 2}


def test_how_sampling_is_executed_is_told_of_both_networks(changed):
    w = DEMO | {"generator": "contrastive_hnm", "shard": "0"}
    execution = changed.datasets["digits"]["sampling"]["execution"]
    assert [
        json.loads(k.options).keys() & {"precision", "micro_batch"}
        for k in works("sample_images", w, changed)
    ] == [set(), set()]
    execution |= {"precision": "bfloat16", "micro_batch": 50}
    for work in works("sample_images", w, changed):
        told = json.loads(work.options)
        assert (told["precision"], told["micro_batch"], work.batch) == ("bfloat16", 50, 250)
    execution["micro_batch"] = 250  # the whole batch
    assert all("micro_batch" not in work.options for work in works("sample_images", w, changed))


def test_classes_of_an_unconditional_batch_cost_the_labeler_at_every_step(changed):
    w = DEMO | {"generator": "hnm_class_conditional", "shard": "0"}
    found = works("sample_images", w, changed)
    assert images(found) == {"denoise": 40000, "guide": 38000, "forward": 40000}
    assert found[-1].model == works("label_images", w, changed)[0].model
    changed.datasets["digits"]["denoisers"]["unconditional"]["conditional"] = True
    assert images(works("sample_images", w, changed)) == {"denoise": 40000, "guide": 38000}


def test_a_training_in_micro_batches_says_so(changed):
    w = {"dataset": "digits", "arm": "ddim", "seed": "0"}
    changed.datasets["digits"]["training"] |= {"micro_batch": 32}
    assert json.loads(works("train_robust", w, changed)[0].options)["micro_batch"] == 32


def test_recomputed_statistics_pass_their_batches_at_each_validation(changed):
    w = {"dataset": "digits", "arm": "ddim", "seed": "0"}
    changed.datasets["digits"]["training"] |= {"averaged_statistics": "recomputed"}
    assert images(works("train_robust", w, changed))["forward"] == 6 * 20 * 128
    changed.datasets["digits"]["training"] |= {"statistics_batches": 3}
    assert images(works("train_robust", w, changed))["forward"] == 6 * 3 * 128


def test_an_attack_in_micro_batches_says_so(changed):
    w = {"dataset": "digits", "arm": "ddim", "shard": "0"}
    changed.datasets["digits"]["attack"]["micro_batch"] = 100
    assert {k.options for k in works("attack_shard", w, changed)} == {'{"micro_batch": 100}'}
    changed.datasets["digits"]["attack"]["micro_batch"] = 500
    assert {k.options for k in works("attack_shard", w, changed)} == {"{}"}


def test_autoattack_of_the_demo(plan_of):
    w = {"dataset": "digits", "arm": "ddim", "shard": "0"}
    found = works("attack_shard", w, plan_of["demo"])
    passes = [(k.kind, k.images, k.robust) for k in found]
    assert passes == [
        ("apgd", 500 * 100, False),
        ("apgd", 500 * 9 * 100, True),
        ("fab", 500 * 9 * 100, True),
        ("square", 500 * 5000, True),
    ]
    assert {k.batch for k in found} == {500}
    assert works("attack_last", w, plan_of["demo"]) == found


def test_the_last_shard_is_what_is_left_of_the_test_split(plan_of):
    w = {"dataset": "gtsrb", "arm": "gtsrb_ddpm", "shard": "6"}
    assert works("attack_shard", w, plan_of["paper"])[0].images == (12630 - 6 * 2000) * 100


def test_selection_of_the_paper(plan_of):
    w = {"dataset": "cifar10", "arm": "cifar10_robust_gradient_norm_1m", "seed": "0"}
    found = images(works("select_images", w, plan_of["paper"]))
    assert found == {"attack_step": 2_000_000 * 10, "gradient_norm": 2_000_000}
    plain = w | {"arm": "cifar10_ddim_1m"}
    assert works("select_images", plain, plan_of["paper"]) == []
    assert stored("select_images", plain, plan_of["paper"]).image_bytes == 10**6 * (3072 + 24)


def test_rules_without_a_network_have_no_work(plan_of):
    assert works("make_table", {}, plan_of["demo"]) == []
    assert stored("make_table", {}, plan_of["demo"]).image_bytes == 0


def test_each_rule_is_one_of_the_workflow():
    import code_graph

    assert set(RULES) <= code_graph.rule_names()
