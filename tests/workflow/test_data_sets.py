"""MNIST, GTSRB and CIFAR-10: a slice of each, run for real; archives whose checksum changes."""

import gzip
import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from sheets import read_rows

from contrastdp.files import read_csv, read_json

# One shard, and the last checkpoint not attacked: AutoAttack's steps cost the time, not the images.
# MNIST's slice has the whole of it, the others a few steps of AA+MT.
SHORT = """attack:
      version: aa+mt
      ablations: aa+mt
      budget: {apgd_restarts: 1, apgd_steps: 5, mt_restarts: 1, mt_steps: 5}
      shard: 10
"""
SETTINGS = ("--config", "scale=smoke", 'attack={"shard": 50, "last": false}')
SHOWN = {"mnist": "mnist_fig3", "gtsrb": "gtsrb_table3", "cifar10": "cifar10_table2"}


@pytest.fixture(scope="module")
def archives(root):
    """A folder of the data sets' archives."""
    folder = Path(os.environ.get("CONTRASTDP_MIRROR") or root.parent / "shared" / "data")
    for dataset in SHOWN:
        if not (folder / dataset).is_dir():
            pytest.skip(f"no {dataset} in {folder}; CONTRASTDP_MIRROR names a folder of archives")
    return folder


@pytest.fixture(scope="module")
def slices(workflow_copy, working_python, tmp_path_factory, archives):
    """A slice of each data set, run once."""
    workflow = replace(workflow_copy(tmp_path_factory.mktemp("slices")), scripts=working_python)
    scale = workflow.folder / "config" / "scales" / "smoke.yaml"
    text, changed = re.subn(r"attack: \{shard: 10\b.*\n", SHORT, scale.read_text(encoding="utf-8"))
    assert changed == 2
    scale.write_text(text, encoding="utf-8")
    mirror = json.dumps({"address": str(archives), "checksums": "SHA256SUMS"})
    done = workflow.run(
        *("--cores", "2", *SHOWN.values(), *SETTINGS, f"mirror={mirror}"), timeout=3000
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return workflow


@pytest.mark.parametrize(("dataset", "table"), SHOWN.items())
def test_a_table_says_what_it_was_made_of(slices, dataset, table):
    results = slices.folder / "results" / "smoke"
    cells = read_csv(results / "tables" / f"{table}_paper_cells.csv")
    arms = [
        row["arm"]
        for row in read_rows("arms.tsv")
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
    done = slices.run("-n", "--cores", "1", *SHOWN.values(), *SETTINGS)
    assert "Nothing to be done" in done.stdout
    (slices.folder / "results" / "smoke" / "mnist" / "data" / "train.npz").unlink()
    target = "results/smoke/mnist/data/train.npz"
    done = slices.run("--cores", "1", target, *SETTINGS)
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


def test_an_archive_is_never_taken_under_another_checksum_nor_lost(workflow_copy, tmp_path):
    workflow, mirror = workflow_copy(tmp_path), tmp_path / "mirror"
    mirror.mkdir()
    name = "t10k-labels-idx1-ubyte.gz"
    target = workflow.folder / "results" / "archives" / "mnist" / name
    own, origin = workflow.folder / "config/datasets/mnist.yaml", target.with_name(f"{name}.json")
    old, new = (gzip.compress(text, mtime=0) for text in (b"old labels", b"new labels"))

    def download(wanted, on_mirror, *more):
        """Ask for what prepare_data needs beside an archive, with the digests of `wanted`."""
        (mirror / name).unlink(missing_ok=True)
        if on_mirror:
            (mirror / name).write_bytes(on_mirror)
        settings = yaml.safe_load(own.read_text(encoding="utf-8"))
        digests = {kind: hashlib.new(kind, wanted).hexdigest() for kind in ("md5", "sha256")}
        settings["archives"]["test_labels"] |= {"bytes": len(wanted), **digests}
        own.write_text(yaml.safe_dump(settings), encoding="utf-8")
        asked = str(origin.relative_to(workflow.folder))
        given = ("--config", "scale=smoke", f'mirror={{"address": "{mirror}"}}')
        done = workflow.run("--cores", "1", *more, *given, "--", asked)
        return done.returncode, done.stdout

    status, told = download(old, old)
    assert status == 0, told
    first = read_json(origin)
    assert first["address"] == f"mirror:{name}"
    status, told = download(new, old)
    assert status == 1 and "error in download_data" in told
    assert target.read_bytes() == old
    assert "Nothing to be done" not in download(new, old, "-n")[1]
    assert download(new, old)[0] == 1
    status, told = download(old, None)  # as before: without the network, and as it was known
    assert status == 0, told
    assert read_json(origin) == first
    status, told = download(new, new)
    assert status == 0, told
    assert target.read_bytes() == new
