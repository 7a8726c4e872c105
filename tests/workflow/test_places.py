"""From where and in whatever environment the workflow is called; what stops it is one line."""

import shutil
import sys
from dataclasses import replace

import pytest
from job_counts import planned

SMOKE = ("--config", "scale=smoke")
TARGETS = ("all", "theory", "claims")
SPLIT = "results/smoke/digits/data/train.npz"
MODULE = """
module reproduction:
    snakefile: {snakefile!r}
    config: config

use rule * from reproduction as reproduction_*
"""
# What a hook, a notebook, a shell without a locale or another project leaves in the environment.
CALLERS = {
    "CUDA_VISIBLE_DEVICES": "0",
    "GIT_DIR": "/nowhere",
    "LC_ALL": "C",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "ascii",
    "PYTHONSAFEPATH": "1",
    "PYTHONUTF8": "0",
}


@pytest.fixture
def workflow(workflow_copy, tmp_path):
    return workflow_copy(tmp_path)


@pytest.fixture
def elsewhere(workflow, tmp_path):
    """Runs in a folder beside the workflow's."""
    (tmp_path / "elsewhere").mkdir()
    return replace(workflow, folder=tmp_path / "elsewhere")


# ---------------------------------------------------------------- from where
def test_called_from_another_folder_the_same_is_planned(workflow, elsewhere):
    def jobs(where, *arguments):
        command = ("-n", "--cores", "1", *arguments, *SMOKE, "--", *TARGETS)
        done = where.run(*command)
        assert done.returncode == 0, done.stdout[-3000:]
        return planned(done.stdout)

    wanted = jobs(workflow)
    assert wanted["total"] > len(TARGETS)
    assert jobs(elsewhere, "--snakefile", str(workflow.folder / "Snakefile")) == wanted
    assert jobs(workflow, "--directory", str(elsewhere.folder)) == wanted


def test_a_module_runs_the_code_of_its_checkout_whatever_the_environment_says(
    workflow, elsewhere, tmp_path
):
    """A library that is installed, here on PYTHONPATH, must not run in its place."""
    snakefile = MODULE.format(snakefile=str(workflow.folder / "Snakefile"))
    (elsewhere.folder / "Snakefile").write_text(snakefile)
    copy = tmp_path / "installed" / "contrastdp"
    copy.mkdir(parents=True)
    (copy / "__init__.py").write_text("raise SystemExit('the installed copy runs')\n")
    environment = CALLERS | {"PYTHONPATH": str(copy.parent)}
    alone = replace(elsewhere, python=sys.executable)  # what it is told counts from its start
    done = alone.run("--cores", "1", *SMOKE, "--", SPLIT, **environment)
    assert done.returncode == 0, done.stdout
    assert (elsewhere.folder / SPLIT).is_file()
    assert not (workflow.folder / "results").exists()


# ---------------------------------------------------------------- what stops it
def written(name, content):
    """A fault: a file of the workflow with these bytes at its end."""

    def made(folder):
        path = folder / name
        path.write_bytes((path.read_bytes() if path.exists() else b"") + content)

    return made


def in_utf16(name):
    """A fault: a file of the workflow in UTF-16."""

    def made(folder):
        path = folder / name
        path.write_bytes(path.read_text(encoding="utf-8").encode("utf-16"))

    return made


@pytest.mark.parametrize(
    ("fault", "arguments", "words"),
    [
        (written("config/config.yaml", b"# caf\xe9\n"), (), "config.yaml, line"),
        (written("config/arms.tsv", b"caf\xe9\n"), (), "arms.tsv, line"),
        (in_utf16("config/arms.tsv"), (), "arms.tsv, line 1: is UTF-16"),
        (written("config/generators.tsv", b"\0"), (), "generators.tsv, line"),
        (written("config/tables.tsv", b'"\n'), (), "tables.tsv, line"),
        (written("config/claims.yaml", b"# caf\xe9\n"), (), "claims.yaml, line"),
        (written("config/claims.yaml", b"claims: []\n"), (), "key 'claims' stands in line"),
        (in_utf16("config/theory.yaml"), (), "theory.yaml, line 1"),
        (in_utf16("config/datasets/digits.yaml"), (), "digits.yaml, line 1"),
        (in_utf16("config/schema.yaml"), (), "schema.yaml, line 1"),
        (written("config/reported/contrastive_dp.csv", b"\xe9\n"), (), "contrastive_dp.csv, line"),
        (
            written("config/reported/gaussian.csv", b"1,0,100,Real,10,,,,\n"),
            (),
            "repeats the row '1",
        ),
        (written("own.yaml", b"title: A\ntitle: B\n"), ("--configfile", "own.yaml"), "own.yaml"),
        (None, ("--config", 'training={"batch": '), "neither JSON nor YAML"),
        (None, ("--config", 'training={"batch": "*x"}'), "training.batch is '*x'"),
        (None, ("--", "trace"), "say which synthetic image: --config 'trace={"),
        (written("results", b""), (), "results: is no folder"),
        (written(".snakemake", b""), (), ".snakemake: is no folder"),
    ],
)
def test_what_stops_every_job_is_one_line(workflow, fault, arguments, words):
    if fault:
        fault(workflow.folder)
    done = workflow.run("-n", "--cores", "1", "--quiet", "host", *SMOKE, *arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    *_, last = done.stdout.strip().splitlines()
    assert last.startswith("error")
    assert words in last


@pytest.mark.parametrize("name", ["{x}", "a{b", "a}b"])
def test_a_path_that_snakemake_cannot_run_is_one_line(workflow, tmp_path, name):
    shutil.copytree(workflow.folder, tmp_path / name / "copy")
    copy = replace(workflow, folder=tmp_path / name / "copy")
    done = copy.run("-n", "--cores", "1", *SMOKE)
    assert done.returncode != 0
    assert "for a wildcard; move the folder" in done.stdout.strip().splitlines()[-1]


# ---------------------------------------------------------------- what settings name
def test_a_pretrained_model_is_read_where_snakemake_runs(workflow, elsewhere):
    """A model of the repository's folder is none of the folder that --directory names."""
    own = '{"unconditional": {"pretrained": "models/mine"}}'
    target = "results/smoke/digits/diffusion/unconditional/n60/seed0/metrics.json"
    given = (*SMOKE, f"denoisers={own}", "--", target)
    (elsewhere.folder / "models" / "mine").mkdir(parents=True)
    (workflow.folder / "models").mkdir()
    done = workflow.run("-n", "--directory", str(elsewhere.folder), *given)
    assert done.returncode == 0, done.stdout
    assert "models/mine" in done.stdout
    done = workflow.run("-n", *given)
    assert done.returncode != 0
    *_, last = done.stdout.strip().splitlines()
    assert last == (
        "error: data set digits, denoisers.unconditional.pretrained is 'models/mine': no such "
        f"folder in {workflow.folder}; correct the setting, or save the model there"
    )


def test_missing_images_from_elsewhere_are_one_line(workflow):
    edited = workflow.folder / "config" / "generators.tsv"
    header = edited.read_text(encoding="utf-8").splitlines()[0].split("\t")
    cells = {"generator": "theirs", "title": "theirs", "images": "no/theirs.npz"}
    row = "\t".join(cells.get(name, "") for name in header)
    with edited.open("a", encoding="utf-8") as file:
        file.write(f"{row}\n")
    target = "results/smoke/digits/samples/theirs/n60/seed0/shard0.npz"
    done = workflow.run("-n", "--quiet", "host", *SMOKE, "--", target)
    assert done.returncode != 0
    *_, last = done.stdout.strip().splitlines()
    assert last == (
        "error: config/generators.tsv, theirs: images is 'no/theirs.npz': no such file or folder; "
        "correct the setting"
    )
