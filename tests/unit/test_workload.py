"""What jobs compute: images and passes counted by hand for settings that are written out."""

import json
from functools import partial

import pytest
import yaml
from code_graph import ROOT

from contrastdp import experiments
from contrastdp.records import read_csv
from contrastdp.workload import RULES, stored, works


@pytest.fixture(scope="module")
def plan_of():
    def read(scale):
        return experiments.plan(
            lambda path: yaml.safe_load(path.read_text(encoding="utf-8")) or {},
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


def test_guided_sampling_of_the_paper(plan_of):
    w = {"dataset": "cifar10", "generator": "contrastive_hnm", "shard": "0"}
    shard = plan_of["paper"].datasets["cifar10"]["sampling"]["shard"]
    # 200 quadratic steps of which 13 repeat another; the first has no earlier state to guide by
    assert images(works("sample_images", w, plan_of["paper"])) == {
        "denoise": shard * 187,
        "guide": shard * 186,
    }


def test_plain_sampling_has_no_guidance(plan_of):
    w = {"dataset": "digits", "generator": "ddpm", "shard": "0"}
    assert images(works("sample_images", w, plan_of["demo"])) == {"denoise": 2000 * 50}


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

    assert set(RULES) - {"attack_last"} <= set(code_graph.rules())
