"""The workflow as a user meets it: dry runs, bad input, and the smoke scale for real."""

import re

import pytest
from job_counts import planned

from contrastdp.files import read_csv, read_json

SCALES = ["smoke", "demo"]
RESULTS = "results/smoke"
TARGETS = ("all", "ablations", "guidance", "evidence", "search")


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def dry_run(workflow, *arguments):
    done = workflow.run(
        "-n", "--cores", "1", "--quiet", "host", "--config", "scale=smoke", *arguments
    )
    assert done.returncode == 0, done.stdout
    return planned(done.stdout)


# ---------------------------------------------------------------- dry runs
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("target", ["claims", "theory", *TARGETS])
def test_every_scale_and_target_plans(workflow_copy, tmp_path, scale, target):
    workflow = workflow_copy(tmp_path)
    done = workflow.run("-n", "--cores", "1", target, "--config", f"scale={scale}")
    assert done.returncode == 0, done.stdout
    assert planned(done.stdout)["total"] > 1


def test_what_settings_are_chosen_by_has_nothing_of_the_test_split(workflow_copy, tmp_path):
    workflow = workflow_copy(tmp_path)
    done = workflow.run("-n", "--cores", "1", "search", "--config", "scale=smoke")
    assert done.returncode == 0, done.stdout
    found = planned(done.stdout)
    assert found["validate_network"] == found["train_robust"] == 4
    assert not {"attack_shard", "attack_last", "measure_samples", "audit_network"} & set(found)
    read = re.findall(r"^    input: (.*)$", done.stdout, flags=re.MULTILINE)
    assert read
    assert not any("data/test.npz" in line for line in read)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("config/config.yaml", "beta: 6.0", "betaa: 6.0", ["betaa", "did you mean beta?"]),
        ("config/arms.tsv", "\tddim\t200", "\tddin\t200", ["arms.tsv", "did you mean ddim?"]),
        ("config/config.yaml", "eps: 1/10", "eps: 3/2", ["eps", "3/2"]),
        ("config/config.yaml", "scale: demo", "scale: [", ["config.yaml", "cannot be read"]),
    ],
)
def test_a_bad_configuration_stops_a_dry_run_in_one_line(
    workflow_copy, tmp_path, file, old, new, words
):
    workflow = workflow_copy(tmp_path)
    edit(workflow.folder / file, old, new)
    done = workflow.run("-n", "--cores", "1")
    assert done.returncode != 0
    lines = [line for line in done.stdout.splitlines() if line.startswith("error in settings: ")]
    assert len(lines) == 1, done.stdout
    assert all(word in lines[0] for word in words), lines[0]
    assert "Traceback" not in done.stdout


def test_a_setting_of_the_command_line_is_taken_as_it_is_meant(workflow_copy, tmp_path):
    workflow = workflow_copy(tmp_path)
    settings = ("--config", "scale=smoke", 'training={"steps": 30, "shift": 1}')
    done = workflow.run("-n", "-p", "--cores", "1", *settings)
    assert done.returncode == 0, done.stdout
    done = workflow.run("-n", "--cores", "1", "--config", 'training={"steps": "many"}')
    assert "error in settings: --config or --configfile: training.steps" in done.stdout


def test_a_dry_run_imports_nothing_heavy(workflow_copy, tmp_path):
    """Modules that stop an import of theirs stand where the heavy packages would be found."""
    workflow = workflow_copy(tmp_path)
    barrier = tmp_path / "barrier"
    for name in ("torch", "diffusers", "sklearn", "matplotlib", "scipy", "pyautoattack"):
        (barrier / name).mkdir(parents=True)
        (barrier / name / "__init__.py").write_text("raise SystemExit('heavy import')\n")
    edit(
        workflow.folder / "Snakefile",
        'include: "rules/common.smk"',
        f'import sys\nsys.path.insert(0, {str(barrier)!r})\n\n\ninclude: "rules/common.smk"',
    )
    assert dry_run(workflow)["total"] > 20


# ---------------------------------------------------------------- the smoke scale for real
@pytest.fixture(scope="module")
def smoke(workflow_copy, tmp_path_factory):
    """The smoke scale, run once: everything that `make` and its ablations do, very small."""
    workflow = workflow_copy(tmp_path_factory.mktemp("smoke"))
    done = workflow.run("--cores", "2", *TARGETS, "--config", "scale=smoke", timeout=1500)
    assert done.returncode == 0, done.stdout[-6000:]
    return workflow


def test_the_promised_files_are_there(smoke):
    folder = smoke.folder / RESULTS
    for name in (
        *(
            f"tables/{table}.{kind}"
            for table in ("robustness", "ablations", "guidance", "evidence", "search")
            for kind in ("csv", "md", "tex")
        ),
        "tables/robustness_audit.csv",
        "tables/robustness_audit.md",
        *(
            f"figures/{name}.{kind}"
            for name in ("samples_digits", "tsne_digits", "guidance_digits")
            for kind in ("png", "pdf")
        ),
        "figures/sizes_digits_robustness.png",
        "figures/sizes_digits_ablations.pdf",
        "report.html",
        "tables/guidance_size.csv",
        "ablations.html",
        "guidance.html",
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
    asked = ("--config", "scale=smoke", f'trace={{"arm": "{arm}", "seed": 0, "image": 17}}')
    for _ in range(2):
        done = smoke.run("--cores", "1", "trace", *asked)
        assert done.returncode == 0, done.stdout[-3000:]
        assert re.search(r"^made again +identical$", done.stdout, re.MULTILINE), done.stdout
    folder = smoke.folder / RESULTS / "digits" / "traces" / arm / "seed0"
    assert read_json(folder / "image17.json")["regenerated"]["identical"] is True
    assert (folder / "image17.png").stat().st_size > 0
    none = smoke.run("-n", "--cores", "1", "trace", "--config", "scale=smoke")
    assert none.returncode != 0
    assert "say which synthetic image" in none.stdout


def test_a_second_run_has_nothing_to_do(smoke):
    done = smoke.run("-n", "--cores", "1", *TARGETS, "--config", "scale=smoke")
    assert "Nothing to be done" in done.stdout, done.stdout[-3000:]


def test_a_comment_or_a_touch_reruns_nothing(smoke):
    path = smoke.folder / "scripts" / "contrastdp" / "adversarial.py"
    before = path.read_text(encoding="utf-8")
    path.write_text(before + "\n# a remark\n", encoding="utf-8")
    try:
        assert dry_run(smoke) == {}
    finally:
        path.write_text(before, encoding="utf-8")


def test_an_edited_loss_reruns_training_and_what_follows(smoke):
    path = smoke.folder / "scripts" / "contrastdp" / "robust_training.py"
    before = path.read_text(encoding="utf-8")
    path.write_text(before + "\n\nADDED = 1\n", encoding="utf-8")
    try:
        rules = dry_run(smoke)
    finally:
        path.write_text(before, encoding="utf-8")
    assert rules["train_robust"] == 7
    assert rules["attack_shard"] == rules["attack_last"] == 14
    assert {"make_table", "write_report"} <= set(rules)
    assert not {"prepare_data", "train_diffusion", "sample_images", "label_images"} & set(rules)


def test_an_edited_figure_redraws_figures_only(smoke):
    path = smoke.folder / "scripts" / "contrastdp" / "figures.py"
    before = path.read_text(encoding="utf-8")
    path.write_text(before + "\n\nADDED = 1\n", encoding="utf-8")
    try:
        rules = dry_run(smoke)
    finally:
        path.write_text(before, encoding="utf-8")
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


def test_a_damaged_file_stops_its_job_in_one_line(smoke):
    """A truncated shard: one line in log and terminal, and no half output."""
    shard = smoke.folder / RESULTS / "digits/samples/ddim/n60/seed0/shard0.npz"
    labelled = smoke.folder / RESULTS / "digits/labelled/ddim/n60/seed0/shard0.npz"
    log = smoke.folder / RESULTS / "logs/label_images/digits/ddim/n60/seed0/shard0.log"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:700])
    try:
        done = smoke.run(
            "--cores", "1", str(labelled.relative_to(smoke.folder)), "--config", "scale=smoke"
        )
        assert done.returncode != 0
        line = "error in label_images: " + str(shard.relative_to(smoke.folder))
        assert line in done.stdout
        assert "Traceback (most recent call last)" not in log.read_text(encoding="utf-8")
        assert "damaged" in log.read_text(encoding="utf-8")
        assert not labelled.exists()
        assert not list(labelled.parent.glob(".*"))
    finally:
        shard.write_bytes(whole)
        done = smoke.run("--cores", "2", *TARGETS, "--config", "scale=smoke")
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_same_seed_gives_the_same_results(smoke, workflow_copy, tmp_path):
    """Another copy, another order of jobs, another number of cores: equal to the last bit.

    And nothing before the attack has the test split to look at: it is away until then.
    """
    target = f"{RESULTS}/digits/attacks/contrastive_hnm/seed0/outcomes.csv"
    trained = f"{RESULTS}/digits/robust/contrastive_hnm/seed0/best.safetensors"
    again = workflow_copy(tmp_path)
    test_split = again.folder / RESULTS / "digits/data/test.npz"
    away = tmp_path / "away.npz"
    for wanted in (test_split.relative_to(again.folder), trained, target):
        done = again.run("--cores", "1", str(wanted), "--config", "scale=smoke")
        assert done.returncode == 0, done.stdout[-3000:]
        if wanted == trained:
            assert not test_split.exists()
            away.rename(test_split)
        elif wanted != target:
            test_split.rename(away)
    for path in (target, trained, f"{RESULTS}/digits/samples/contrastive_hnm/n60/seed0/shard0.npz"):
        assert (again.folder / path).read_bytes() == (smoke.folder / path).read_bytes(), path
