"""What a dry run plans at each scale, and how it refuses bad settings; nothing runs."""

import math
import re
import subprocess
from functools import cache

import pytest
from code_graph import ROOT
from job_counts import jobs_of
from sheets import read_rows

PAPER_TABLES = tuple(row["table"] for row in read_rows("tables.tsv") if row["kind"] == "paper")
SMALL = ("claims", "theory", "all", "ablations", "guidance", "evidence", "search")
# Of each scale, the targets that one dry run plans.
TARGETS = {
    "smoke": (*SMALL, "robust_guidance", *PAPER_TABLES),
    "demo": (*SMALL, "robust_guidance"),
    "reduced": ("all",),
    "workstation": ("all",),
    "paper": ("all", *PAPER_TABLES),
}
HEAVY = ("torch", "diffusers", "sklearn", "matplotlib", "scipy", "pyautoattack")
# Written out by hand: images of the test split, of an attack shard and of a sampling shard
PAPER = {
    "mnist": (10_000, 5000, 512),
    "gtsrb": (12_630, 2000, 2560),
    "cifar10": (10_000, 2000, 10_240),
}


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.fixture(scope="module")
def plan(workflow_copy, tmp_path_factory):
    """A dry run of a scale, made once, where whoever imports a heavy package ends: counts and jobs.

    Modules that stop an import of theirs stand where these packages would be found.
    """
    folder = tmp_path_factory.mktemp("plans")
    workflow, barrier = workflow_copy(folder), folder / "barrier"
    for name in HEAVY:
        (barrier / name).mkdir(parents=True)
        (barrier / name / "__init__.py").write_text("raise SystemExit('heavy import')\n")
    edit(
        workflow.folder / "Snakefile",
        'include: "rules/common.smk"',
        f'import sys\nsys.path.insert(0, {str(barrier)!r})\n\n\ninclude: "rules/common.smk"',
    )

    @cache
    def made(scale):
        return jobs_of(workflow, *TARGETS[scale], "--config", f"scale={scale}")

    return made


def inputs(jobs, rule, **wildcards):
    """Inputs of each job of a rule that has these wildcards."""
    return [
        job["input"]
        for job in jobs[rule]
        if wildcards.items() <= (job.get("wildcards") or {}).items()
    ]


def counts(jobs):
    """Numbers of jobs by rule."""
    return {rule: len(of_rule) for rule, of_rule in jobs.items()}


# ---------------------------------------------------------------- targets
@pytest.mark.parametrize(
    ("scale", "target"), [(scale, target) for scale in TARGETS for target in TARGETS[scale]]
)
def test_every_target_plans(plan, scale, target):
    (read,) = inputs(plan(scale), target)
    assert all(path.startswith((f"results/{scale}/", "results/theory/")) for path in read)


def test_what_settings_are_chosen_by_has_nothing_of_the_test_split(workflow_copy, tmp_path):
    jobs = jobs_of(workflow_copy(tmp_path), "search", "--config", "scale=smoke")
    assert len(jobs["validate_network"]) == len(jobs["train_robust"]) == 4
    assert not {"attack_shard", "attack_last", "measure_samples", "audit_network"} & set(jobs)
    read = [path for rule in jobs for paths in inputs(jobs, rule) for path in paths]
    assert read
    assert not any("data/test.npz" in path for path in read)


@pytest.mark.parametrize("table", PAPER_TABLES)
@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_each_table_of_the_paper_has_its_arms(plan, scale, table):
    jobs = plan(scale)
    assert len(inputs(jobs, "make_paper_table", paper_table=table)) == 1
    (audits,) = inputs(jobs, "make_audit_table", table=table)
    arms = [
        row
        for row in rows_of(scale)
        if table in row["tables"].split()
        and (scale == "paper" or not row["generator"].endswith(" at random"))
    ]
    assert len(set(audits)) == sum(int(row["seeds"]) for row in arms) > 0


def test_a_table_that_a_scale_lacks_is_told(workflow_copy, tmp_path):
    done = workflow_copy(tmp_path).run("-n", "--cores", "1", "cifar10_table9")
    assert done.returncode != 0
    assert "scale 'demo' has no arm of table 'cifar10_table9'" in done.stdout


# ---------------------------------------------------------------- numbers of jobs
def rows_of(scale):
    """Rows of a scale in the paper's tables, and one more, of its own generator, for each that
    contrast guides; rows that are trained alike share it."""
    rows = [
        row
        for row in read_rows("arms.tsv")
        if row["scale"] == scale and set(row["tables"].split()) & set(PAPER_TABLES)
    ]
    contrast = {
        row["generator"]
        for row in read_rows("generators.tsv")
        if row["guidance"] in ("hnm", "infonce")
    }
    layout = ("arm", "title", "tables", "baseline", "reported", "seeds")
    twins = {}
    for row in rows:
        if row["generator"] in contrast:
            twin = row | {"generator": row["generator"] + " at random"}
            alike = tuple(cell for column, cell in twin.items() if column not in layout)
            former = twins.get(alike, twin)
            twin["seeds"] = str(max(int(twin["seeds"]), int(former["seeds"])))
            twins[alike] = twin | {"tables": f"{former['tables']} {twin['tables']}"}
    return [*rows, *twins.values()]


def denoisers():
    found = {row["generator"]: row["denoiser"] for row in read_rows("generators.tsv")}
    return found | {f"{name} at random": denoiser for name, denoiser in found.items()}


@pytest.mark.parametrize("scale", ["reduced", "workstation", "paper"])
def test_a_scale_plans_the_jobs_that_its_rows_ask_for(plan, scale):
    found = counts(plan(scale))
    rows, denoiser = rows_of(scale), denoisers()
    assert found["train_robust"] == sum(int(row["seeds"]) for row in rows)
    assert found["audit_network"] == found["train_robust"]
    assert found["make_audit_table"] == len(
        {name for row in rows for name in row["tables"].split()}
    )
    measured = {
        (row["dataset"], row["generator"], row["real"], seed)
        for row in rows
        if row["generator"]
        for seed in range(int(row["seeds"]))
    }
    assert found["measure_samples"] == len(measured)
    if scale == "reduced":  # MNIST's last checkpoints would cost hours; 100 images by 50 elsewhere
        short = [row for row in rows if row["dataset"] != "mnist"]
        assert found["attack_last"] == sum(2 * int(row["seeds"]) for row in short) > 0
    else:
        assert found["attack_last"] == found["attack_shard"]
    models = {
        (row["dataset"], denoiser[row["generator"]], row["real"], seed)
        for row in rows
        if row["generator"]
        for seed in range(int(row["seeds"]))
    }
    assert found["train_diffusion"] == len(models)
    assert found["download_data"] == 4 + 3 + 1


def test_the_paper_scale_has_every_shard(plan):
    found = counts(plan("paper"))
    attacked, sampled = 0, set()
    for row in rows_of("paper"):
        test, attack_shard, sample_shard = PAPER[row["dataset"]]
        attacked += int(row["seeds"]) * math.ceil(test / attack_shard)
        if row["generator"]:
            images = int(row["synthetic"]) * int(row["candidates"])
            sampled |= {
                (row["dataset"], row["generator"], row["real"], seed, shard)
                for seed in range(int(row["seeds"]))
                for shard in range(math.ceil(images / sample_shard))
            }
    assert found["attack_shard"] == found["attack_last"] == attacked
    assert found["sample_images"] == found["label_images"] == len(sampled)


@pytest.mark.parametrize("scale", ["reduced", "paper"])
def test_robust_guidance_plans_the_jobs_that_its_rows_ask_for(workflow_copy, tmp_path, scale):
    jobs = jobs_of(workflow_copy(tmp_path), "robust_guidance", "--config", f"scale={scale}")
    found = counts(jobs)
    rows = [row for row in read_rows("measured.tsv") if row["scale"] == scale]
    measured = {
        (row["dataset"], row["generator"], seed)
        for row in rows
        for seed in range(int(row["seeds"]))
    }
    assert found["measure_generator"] == len(measured)
    pairs = [row for row in rows if (row["panel"], row["method"]) == ("quality", "unguided")]
    assert found["measure_gradients"] == sum(int(row["seeds"]) for row in pairs)
    assert found["picture_gradients"] == len(pairs)
    assert found["make_measured_table"] == found["make_gradients_table"] == 1
    arms = [row for row in read_rows("arms.tsv") if row["scale"] == scale]
    own = [row for row in arms if row["tables"] == "robust_guidance"]
    guided = [row for row in own if row["generator"] != "improved"]  # each has a twin
    assert found["train_robust"] == sum(int(row["seeds"]) for row in [*own, *guided])


# ---------------------------------------------------------------- settings
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training:\n  steps: 30\n  steps: 40\n", "line 3: key 'steps' stands in line 2 already"),
        ("training: {learning_rate: .nan}\n", "line 1: .nan is no finite number"),
        ('{"scale":\t"smoke", "scale": "demo"}', "line 1: key 'scale' stands in line 1 already"),
    ],
)
def test_a_configfile_is_read_as_our_own_files_are(workflow_copy, tmp_path, text, words):
    workflow = workflow_copy(tmp_path)
    (workflow.folder / "mine.yaml").write_text(text, encoding="utf-8")
    done = workflow.run("-n", "--cores", "1", "--configfile", "mine.yaml")
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error in settings: ")]
    assert "mine.yaml" in line and words in line


# ---------------------------------------------------------------- what the scripts are given
def test_every_job_gives_its_function_the_arguments_that_it_takes(
    workflow_copy, working_python, tmp_path
):
    workflow = workflow_copy(tmp_path)
    command = [working_python, str(ROOT / "tests" / "job_arguments.py"), "smoke", *SMALL]
    done = subprocess.run(
        command, cwd=workflow.folder, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    *faults, summary = done.stdout.split("\n")[:-1]
    assert [line for line in faults if line] == []
    jobs, rules = map(int, re.fullmatch(r"(\d+) jobs of (\d+) rules", summary).groups())
    assert jobs > 150 and rules > 25
