"""What jobs read, at the scale demo, written out by hand."""

import pytest
from resolved_plans import resolved, wildcards

from contrastdp.plan.needs import Needs
from contrastdp.plan.paths import Paths, filled

D = "results/demo/digits"


@pytest.fixture(scope="module")
def needs():
    plan = resolved(scale="demo")
    return Needs(plan, Paths(plan.scale))


OF_MODEL = {"dataset": "digits", "real": 200, "seed": 1}


def test_an_unguided_generator_reads_its_denoiser_alone(needs):
    found = needs.sampling(wildcards(generator="ddim", shard=0, **OF_MODEL))
    assert found == {"denoiser": f"{D}/diffusion/unconditional/n200/seed1/model"}


def test_a_guided_generator_reads_its_encoder_too(needs):
    found = needs.sampling(wildcards(generator="contrastive_hnm", shard=0, **OF_MODEL))
    assert found["encoder"] == f"{D}/classifier/encoder/n200/seed1/model.safetensors"
    assert set(found) == {"denoiser", "encoder"}


def test_an_arm_trains_on_its_selected_images_where_it_has_any(needs):
    names = {"dataset": "digits", "seed": 2}
    alone = needs.training(wildcards(arm="no_synthetic", **names))
    assert alone == {name: f"{D}/data/{name}.npz" for name in ("train", "validation")}
    mixed = needs.training(wildcards(arm="ddim", **names))
    assert mixed == alone | {"synthetic": f"{D}/selected/ddim/seed2/images.npz"}


def test_an_arm_selects_among_as_many_shards_as_hold_its_candidates(needs):
    found = needs.selecting(wildcards(dataset="digits", arm="ddim", seed=0))
    row, sampling = needs.plan.arms["ddim"], needs.plan.datasets["digits"]["sampling"]
    count = -(-row["synthetic"] // sampling["shard"])
    folder = f"{D}/labelled/ddim/n200/seed0"
    assert found == {"shards": [f"{folder}/shard{k}.npz" for k in range(count)]}


def test_a_trace_reads_what_made_labelled_and_chose_the_image(needs):
    found = needs.tracing(wildcards(dataset="digits", arm="contrastive_hnm", seed=0, image=3))
    assert set(found) == {"selected", "train", "labeler", "denoiser", "encoder"}
    assert found["labeler"] == f"{D}/classifier/labeler/n200/seed0/model.safetensors"


def test_attacks_cover_the_test_split_and_the_last_checkpoint_where_it_is_attacked(needs):
    names = {"dataset": "digits", "arm": "ddim", "seed": 0}
    settings = needs.plan.datasets["digits"]
    count = -(-settings["sizes"]["test"] // settings["attack"]["shard"])
    folder = f"{D}/attacks/ddim/seed0"
    assert needs.attacks(names) == [f"{folder}/shard{k}.json" for k in range(count)]
    assert needs.last_attacks(names) == [f"{folder}/last/shard{k}.json" for k in range(count)]
    settings["attack"]["last"] = False
    assert needs.last_attacks(names) == []
    settings["attack"]["last"] = True


def test_an_audit_tries_the_images_of_the_reference_and_the_references_of_another(needs):
    names = {"dataset": "digits", "seed": 0}
    found = needs.auditing(wildcards(arm="ddpm", **names))
    assert found["model"] == f"{D}/robust/ddpm/seed0/best.safetensors"
    assert found["other"] == f"{D}/robust/ddim/seed0/best.safetensors"
    assert needs.auditing(wildcards(arm="ddim", **names))["other"] != found["other"]


def test_a_table_to_choose_by_reads_nothing_of_the_test_split(needs):
    chosen = needs.table("search")
    assert set(chosen) == {"evaluations"}
    assert all("/held_out/" in path for path in chosen["evaluations"])
    assert not any("/attacks/" in path for path in needs.details("search"))
    shown = needs.table("robustness")
    assert set(shown) == {"evaluations", "outcomes", "measures"}
    assert len(shown["evaluations"]) == len(shown["outcomes"]) == 7 * 3


def test_records_name_each_file_behind_a_table_once(needs):
    found = needs.details("robustness")
    assert len(found) == len(set(found))
    assert f"{D}/robust/ddim/seed2/training.json" in found
    assert f"{D}/diffusion/unconditional/n200/seed1/metrics.json" in found
    assert f"{D}/classifier/encoder/n200/seed1/metrics.json" in found


def test_measures_are_of_each_generator_and_seed_once(needs):
    found = needs.quality("robustness")
    assert len(found) == len(set(found)) == 6 * 3
    assert f"{D}/quality/ddim/n200/seed0.json" in found


def test_a_sample_grid_has_the_plain_generator_first(needs):
    found = needs.sample_grid("digits")
    assert next(iter(found)) == "DDIM"
    assert found["DDIM"] == [f"{D}/labelled/ddim/n200/seed0/shard0.npz"]


def test_a_pattern_is_filled_once_for_each_different_file():
    rows = [{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 2, "b": 2}]
    assert filled("x/{a}", rows) == ["x/1", "x/2"]
