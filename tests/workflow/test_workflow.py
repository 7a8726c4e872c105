"""The workflow as a user meets it: the smoke scale for real, and what an edit reruns."""

import json
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace

import pytest
from job_counts import planned

from contrastdp.files import read_csv, read_json

RESULTS = "results/smoke"
TARGETS = ("all", "ablations", "guidance", "evidence", "search", "robust_guidance")
# AA+MT of a few steps, on all test images in one shard: AutoAttack's thousands of steps cost 13
# seconds of processor time whatever the number of images. The slices of test_data_sets have it.
ATTACK = {
    "version": "aa+mt",
    "ablations": "aa+mt",
    "budget": {"apgd_restarts": 1, "apgd_steps": 5, "mt_restarts": 1, "mt_steps": 5},
    "shard": 50,
}
# Of classifiers that are told t: over t, of images, of a targeted attack, and what a chain predicts
GRADIENTS = ("gradients", "gradient_maps", "targeted", "predicted")
TABLES = ("robustness", *TARGETS[1:])
SETTINGS = ("--config", "scale=smoke", f"attack={json.dumps(ATTACK)}")


def dry_run(workflow):
    done = workflow.run("-n", "--cores", "1", "--quiet", "host", *SETTINGS)
    assert done.returncode == 0, done.stdout
    return planned(done.stdout)


@contextmanager
def added(workflow, module, line):
    """The workflow with a line more at the end of a module of the library."""
    path = workflow.folder / "scripts" / "contrastdp" / f"{module}.py"
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}\n\n{line}\n", encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


@pytest.fixture(scope="module")
def smoke(workflow_copy, working_python, tmp_path_factory):
    """The smoke scale, run once: everything that `make` and its ablations do, very small."""
    workflow = replace(workflow_copy(tmp_path_factory.mktemp("smoke")), scripts=working_python)
    done = workflow.run("--cores", "2", *TARGETS, *SETTINGS, timeout=3000)
    assert done.returncode == 0, done.stdout[-6000:]
    return workflow


def test_the_promised_files_are_there(smoke):
    folder = smoke.folder / RESULTS
    for name in (
        *(f"tables/{table}.{kind}" for table in TABLES for kind in ("csv", "md", "tex")),
        "tables/robustness_audit.csv",
        "tables/robustness_audit.md",
        *(
            f"figures/{name}_digits.{kind}"
            for name in ("samples", "tsne", "guidance", "guided_samples", *GRADIENTS)
            for kind in ("png", "pdf")
        ),
        "figures/sizes_digits_robustness.png",
        "figures/sizes_digits_ablations.pdf",
        "report.html",
        "tables/guidance_size.csv",
        "ablations.html",
        "guidance.html",
        "robust_guidance.html",
        "tables/robust_guidance_measured.csv",
        "tables/robust_guidance_gradients.csv",
        "tables/robust_guidance_claims.csv",
    ):
        assert (folder / name).stat().st_size > 0, name


def test_the_table_agrees_with_the_evaluations(smoke):
    folder = smoke.folder / RESULTS
    rows = read_csv(folder / "tables" / "robustness.csv")
    assert [row["arm"] for row in rows][:2] == ["no_synthetic", "ddim"]
    for row in rows:
        paths = sorted((folder / "digits" / "attacks" / row["arm"]).glob("seed*/evaluation.json"))
        found = [read_json(path) for path in paths]
        assert len(found) == int(row["seeds"])
        for name in ("clean", "robust"):
            mean = 100 * sum(f[f"{name}_accuracy"] for f in found) / len(found)
            assert float(row[f"{name}_mean"]) == pytest.approx(mean, abs=1e-3)
        assert int(row["n_test"]) == 50


def test_the_evaluation_agrees_with_its_images(smoke):
    folder = smoke.folder / RESULTS / "digits" / "attacks" / "ddim" / "seed0"
    evaluation, images = read_json(folder / "evaluation.json"), read_csv(folder / "outcomes.csv")
    assert len(images) == evaluation["n_test"] == 50
    robust = sum(image["broken_by"] == "" for image in images)
    clean = sum(image["broken_by"] != "clean" for image in images)
    assert evaluation["robust_accuracy"] == pytest.approx(robust / 50)
    assert evaluation["clean_accuracy"] == pytest.approx(clean / 50)
    last = read_csv(folder / "outcomes_last.csv")
    robust = sum(image["broken_by"] == "" for image in last)
    assert evaluation["last"]["robust_accuracy"] == pytest.approx(robust / 50)
    assert [image["label"] for image in last] == [image["label"] for image in images]
    assert evaluation["provenance"]["settings"]
    assert evaluation["provenance"]["versions"]["torch"]


def test_the_report_is_one_page_without_network(smoke):
    page = (smoke.folder / RESULTS / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r'(src|href)="https?:', page)
    for path in re.findall(r'href="([^"#][^"]*)"', page):
        assert (smoke.folder / RESULTS / path).is_file(), path


def test_guided_and_plain_images_start_from_the_same_noise(smoke):
    import numpy as np

    folder = smoke.folder / RESULTS / "digits" / "samples"
    images = {
        name: np.load(folder / name / "n60" / "seed0" / "shard0.npz")["image"].astype(float)
        for name in ("ddim", "contrastive_hnm", "contrastive_infonce")
    }
    for name in ("contrastive_hnm", "contrastive_infonce"):
        same = np.abs(images[name] - images["ddim"]).mean()
        other = np.abs(images[name] - np.roll(images["ddim"], 1, axis=0)).mean()
        assert 0 < same < other


def test_a_trace_is_made_and_told_whenever_it_is_asked_for(smoke):
    arm = "contrastive_hnm_separability"
    asked = (*SETTINGS, f'trace={{"arm": "{arm}", "seed": 0, "image": 17}}')
    for _ in range(2):
        done = smoke.run("--cores", "1", "trace", *asked)
        assert done.returncode == 0, done.stdout[-3000:]
        assert re.search(r"^made again +identical$", done.stdout, re.MULTILINE), done.stdout
    folder = smoke.folder / RESULTS / "digits" / "traces" / arm / "seed0"
    assert read_json(folder / "image17.json")["regenerated"]["identical"] is True
    assert (folder / "image17.png").stat().st_size > 0
    none = smoke.run("-n", "--cores", "1", "trace", *SETTINGS)
    assert none.returncode != 0
    assert "say which synthetic image" in none.stdout


def test_a_second_run_has_nothing_to_do_nor_one_after_a_comment_or_a_touch(smoke):
    with added(smoke, "attack/pgd", "# a remark"):
        done = smoke.run("-n", "--cores", "1", *TARGETS, *SETTINGS)
    assert "Nothing to be done" in done.stdout, done.stdout[-3000:]


def test_an_edited_loss_reruns_training_and_what_follows(smoke):
    with added(smoke, "training/robust", "ADDED = 1"):
        rules = dry_run(smoke)
    assert rules["train_robust"] == 7
    assert rules["attack_shard"] == rules["attack_last"] == 7
    assert {"make_table", "write_report"} <= set(rules)
    assert not {"prepare_data", "train_diffusion", "sample_images", "label_images"} & set(rules)


def test_an_edited_figure_redraws_figures_only(smoke):
    with added(smoke, "report/figures", "ADDED = 1"):
        rules = dry_run(smoke)
    assert set(rules) <= {
        "plot_samples",
        "plot_sizes",
        "plot_tsne",
        "plot_gaussian",
        "plot_toy",
        "write_report",
        "all",
        "total",
    }
    assert "plot_samples" in rules


def test_a_damaged_file_stops_its_job_in_one_line(smoke, tmp_path):
    """A truncated shard, in a copy: one line in log and terminal, and no half output."""
    copy = replace(smoke, folder=tmp_path / "workflow")
    shutil.copytree(smoke.folder, copy.folder)
    shard = f"{RESULTS}/digits/samples/ddim/n60/seed0/shard0.npz"
    labelled = f"{RESULTS}/digits/labelled/ddim/n60/seed0/shard0.npz"
    log = copy.folder / RESULTS / "logs/label_images/digits/ddim/n60/seed0/shard0.log"
    whole = (copy.folder / shard).read_bytes()
    (copy.folder / shard).write_bytes(whole[:700])
    done = copy.run("--cores", "1", labelled, *SETTINGS)
    assert done.returncode != 0
    assert "not what sample_images wrote there" in log.read_text(encoding="utf-8")
    # without a receipt nobody knows, and the file is read
    shutil.rmtree((copy.folder / shard).with_name(".shard0.kept"))
    done = copy.run("--cores", "1", labelled, *SETTINGS)
    assert done.returncode != 0
    assert f"error in label_images: {shard}" in done.stdout
    assert "Traceback (most recent call last)" not in log.read_text(encoding="utf-8")
    assert "damaged" in log.read_text(encoding="utf-8")
    assert not (copy.folder / labelled).exists()
    beside = (copy.folder / labelled).parent.glob(".*")
    assert not [path.name for path in beside if path.suffix != ".kept"]
    (copy.folder / shard).write_bytes(whole)
    done = copy.run("--cores", "1", labelled, *SETTINGS)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_same_seed_gives_the_same_results(smoke, workflow_copy, working_python, tmp_path):
    """Another copy, another order of jobs, another number of cores: equal to the last bit.

    And nothing before the attack has the test split to look at: it is away until then.
    """
    target = f"{RESULTS}/digits/attacks/contrastive_hnm/seed0/outcomes.csv"
    trained = f"{RESULTS}/digits/robust/contrastive_hnm/seed0/best.safetensors"
    again = replace(workflow_copy(tmp_path), scripts=working_python)
    test_split = again.folder / RESULTS / "digits/data/test.npz"
    away = tmp_path / "away.npz"
    for wanted in (test_split.relative_to(again.folder), trained, target):
        done = again.run("--cores", "1", str(wanted), *SETTINGS)
        assert done.returncode == 0, done.stdout[-3000:]
        if wanted == trained:
            assert not test_split.exists()
            away.rename(test_split)
        elif wanted != target:
            test_split.rename(away)
    for path in (target, trained, f"{RESULTS}/digits/samples/contrastive_hnm/n60/seed0/shard0.npz"):
        assert (again.folder / path).read_bytes() == (smoke.folder / path).read_bytes(), path
