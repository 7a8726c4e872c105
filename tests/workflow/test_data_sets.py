"""MNIST, GTSRB and CIFAR-10: what each scale plans, and the smoke scale for real."""

import csv
import json
import math
import os
from pathlib import Path

import pytest
from job_counts import planned

from contrastdp.files import read_csv, read_json
from contrastdp.plan.experiments import PAPER_TABLES

# Written out by hand: images of the test split, of an attack shard and of a sampling shard
PAPER = {
    "mnist": (10_000, 5000, 512),
    "gtsrb": (12_630, 2000, 2560),
    "cifar10": (10_000, 2000, 10_240),
}
SHOWN = {"mnist": "mnist_fig3", "gtsrb": "gtsrb_table3", "cifar10": "cifar10_table2"}


def read_rows(root, name):
    with open(root / "config" / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def rows_of(root, scale):
    """Rows of a scale in the paper's tables, and one more, of its own generator, for each that
    contrast guides; rows that are trained alike share it."""
    rows = [
        row
        for row in read_rows(root, "arms.tsv")
        if row["scale"] == scale and set(row["tables"].split()) & set(PAPER_TABLES)
    ]
    contrast = {
        row["generator"]
        for row in read_rows(root, "generators.tsv")
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


def denoisers(root):
    found = {row["generator"]: row["denoiser"] for row in read_rows(root, "generators.tsv")}
    return found | {f"{name} at random": denoiser for name, denoiser in found.items()}


# ---------------------------------------------------------------- plans
@pytest.mark.parametrize("scale", ["reduced", "workstation", "paper"])
def test_a_scale_plans_the_jobs_that_its_rows_ask_for(workflow_copy, tmp_path, root, scale):
    done = workflow_copy(tmp_path).run("-n", "--cores", "1", "--config", f"scale={scale}")
    assert done.returncode == 0, done.stdout[-3000:]
    found = planned(done.stdout)
    rows, denoiser = rows_of(root, scale), denoisers(root)
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


def test_the_paper_scale_has_every_shard(workflow_copy, tmp_path, root):
    done = workflow_copy(tmp_path).run("-n", "--cores", "1", "--config", "scale=paper")
    found = planned(done.stdout)
    attacked, sampled = 0, set()
    for row in rows_of(root, "paper"):
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


@pytest.mark.parametrize("table", PAPER_TABLES)
@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_each_table_of_the_paper_is_a_target(workflow_copy, tmp_path, root, scale, table):
    workflow = workflow_copy(tmp_path)
    done = workflow.run("-n", "--cores", "1", table, "--config", f"scale={scale}")
    assert done.returncode == 0, done.stdout[-3000:]
    found = planned(done.stdout)
    assert found["make_paper_table"] == found["make_audit_table"] == 1
    arms = [
        row
        for row in rows_of(root, scale)
        if table in row["tables"].split()
        and (scale == "paper" or not row["generator"].endswith(" at random"))
    ]
    assert found["audit_network"] == sum(int(row["seeds"]) for row in arms)


def test_a_table_that_a_scale_lacks_is_told(workflow_copy, tmp_path):
    done = workflow_copy(tmp_path).run("-n", "--cores", "1", "cifar10_table9")
    assert done.returncode != 0
    assert "scale 'demo' has no arm of table 'cifar10_table9'" in done.stdout


# ---------------------------------------------------------------- the smoke scale for real
@pytest.fixture(scope="module")
def archives(root):
    """A folder of the data sets' archives."""
    folder = Path(os.environ.get("CONTRASTDP_MIRROR") or root.parent / "shared" / "data")
    for dataset in SHOWN:
        if not (folder / dataset).is_dir():
            pytest.skip(f"no {dataset} in {folder}; CONTRASTDP_MIRROR names a folder of archives")
    return folder


@pytest.fixture(scope="module")
def slices(workflow_copy, tmp_path_factory, archives):
    """A slice of each data set, run once."""
    workflow = workflow_copy(tmp_path_factory.mktemp("slices"))
    mirror = json.dumps({"address": str(archives), "checksums": "SHA256SUMS"})
    done = workflow.run(
        *("--cores", "2", *SHOWN.values(), "--config", "scale=smoke", f"mirror={mirror}"),
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return workflow


@pytest.mark.parametrize(("dataset", "table"), SHOWN.items())
def test_a_table_says_what_it_was_made_of(slices, root, dataset, table):
    results = slices.folder / "results" / "smoke"
    cells = read_csv(results / "tables" / f"{table}_paper_cells.csv")
    arms = [
        row["arm"]
        for row in read_rows(root, "arms.tsv")
        if row["scale"] == "smoke" and table in row["tables"].split()
    ]
    assert {cell["arm"] for cell in cells if cell["arm"]} == set(arms)
    assert not any("agrees" in cell["robust_verdict"] for cell in cells)

    origin = read_json(results / dataset / "data" / "origin.json")
    assert origin["subset"] == any(not archive["canonical"] for archive in origin["archives"])
    text = (results / "tables" / f"{table}_paper.md").read_text(encoding="utf-8")
    assert ("subset" in text.lower()) == origin["subset"]
    assert f"{table}.html" in {path.name for path in results.iterdir()}
    for kind in ("data", "samples", "tsne"):
        assert (results / "figures" / f"{kind}_{dataset}.png").stat().st_size > 1000


def test_evaluations_name_their_data_and_network(slices):
    attacks = slices.folder / "results" / "smoke" / "gtsrb" / "attacks"
    evaluation = read_json(attacks / "gtsrb_ddpm" / "seed0" / "evaluation.json")
    assert evaluation["network"]["architecture"] == "wide_resnet"
    assert evaluation["network"]["parameters"] > 70_000
    assert evaluation["data"]["train"] == 400


def test_after_the_download_nothing_asks_for_the_mirror(slices):
    done = slices.run("-n", "--cores", "1", *SHOWN.values(), "--config", "scale=smoke")
    assert "Nothing to be done" in done.stdout
    (slices.folder / "results" / "smoke" / "mnist" / "data" / "train.npz").unlink()
    target = "results/smoke/mnist/data/train.npz"
    done = slices.run("--cores", "1", target, "--config", "scale=smoke")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "rule download_data" not in done.stdout


def test_without_mirror_and_network_the_download_says_what_to_do(workflow_copy, tmp_path):
    workflow = workflow_copy(tmp_path)
    target = "results/archives/mnist/t10k-labels-idx1-ubyte.gz"
    done = workflow.run("--cores", "1", target, "--config", "scale=smoke")
    assert done.returncode != 0
    lines = [line for line in done.stdout.splitlines() if "error in download_data" in line]
    assert lines
    assert "mirror" in lines[0]
    assert not (workflow.folder / target).exists()
