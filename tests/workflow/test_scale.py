"""Many shards: they plan, and what reads them all does not hold them all."""

import re
import tracemalloc

import numpy as np
import pytest

from contrastdp.data.images import write_images
from select_images import select_images

SIDE, SHARD, CLASSES = 16, 100, 4


# ---------------------------------------------------------------- the plan
def test_two_thousand_shards_plan(workflow_copy, tmp_path):
    """Arms of 40,000 images in shards of 20: one job a shard samples, one labels."""
    workflow = workflow_copy(tmp_path)
    config = workflow.folder / "config"
    scale = config / "scales" / "smoke.yaml"
    text = scale.read_text(encoding="utf-8")
    assert "sampling: {batch: 20, shard: 60}" in text
    scale.write_text(text.replace("shard: 60", "shard: 20"), encoding="utf-8")
    rows = (config / "arms.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    (row,) = [row for row in rows if row.startswith("smoke\tcontrastive_hnm\t")]
    cells = row.split("\t")
    place = rows[0].split("\t").index("synthetic")
    cells[place] = "40000"
    rows[rows.index(row)] = "\t".join(cells)
    (config / "arms.tsv").write_text("".join(rows), encoding="utf-8")

    target = "results/smoke/digits/selected/contrastive_hnm/seed0/images.npz"
    done = workflow.run("-n", "--cores", "1", target, "--quiet", "host", "--config", "scale=smoke")
    assert done.returncode == 0, done.stdout[-3000:]
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, flags=re.MULTILINE))
    assert jobs["sample_images"] == jobs["label_images"] == "2000"
    assert jobs["select_images"] == "1"


# ---------------------------------------------------------------- memory
def write_shards(folder, count):
    rng = np.random.default_rng(0)
    for shard in range(count):
        write_images(
            folder / f"shard{shard}.npz",
            image=rng.integers(0, 256, (SHARD, SIDE, SIDE, 3), dtype=np.uint8),
            label=rng.integers(0, CLASSES, SHARD),
            index=np.arange(shard * SHARD, (shard + 1) * SHARD),
            confidence=rng.random(SHARD).astype(np.float32),
        )
    return [str(folder / f"shard{shard}.npz") for shard in range(count)]


def peak_of_selecting(paths, output, synthetic, **options):
    """Peak of Python's and numpy's memory, in bytes, of a selection from all of `paths`."""
    candidates = SHARD * len(paths)
    tracemalloc.start()
    try:
        select_images(
            shards=paths,
            synthetic=synthetic,
            candidates=candidates,
            classes=CLASSES,
            real=8,
            seed=0,
            eps="1/10",
            step_size="1/40",
            attack_steps=1,
            images=str(output),
            **options,
        )
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def score_by_mean(monkeypatch):
    """A score that reads every pixel and needs no network."""
    import contrastdp.synthesis.scoring

    def score(rule, pool, **options):
        blocks = pool.images(np.arange(len(pool)))
        return np.concatenate([image.mean(axis=(1, 2, 3), dtype=np.float32) for image in blocks])

    monkeypatch.setattr(contrastdp.synthesis.scoring, "score_candidates", score)


@pytest.mark.parametrize("rule", ["none", "entropy"])
def test_memory_does_not_grow_with_the_candidates(tmp_path, score_by_mean, rule):
    paths = write_shards(tmp_path, 80)
    few, many = (
        peak_of_selecting(paths[:count], tmp_path / f"{count}.npz", 200, rule=rule)
        for count in (20, 80)
    )
    pixels = 60 * SHARD * SIDE * SIDE * 3  # what 60 more shards hold
    assert many - few < pixels / 8


def test_memory_does_not_grow_with_the_selected(tmp_path):
    paths = write_shards(tmp_path, 80)
    few, many = (
        peak_of_selecting(paths, tmp_path / f"{count}.npz", count, rule="none")
        for count in (2000, 8000)
    )
    pixels = 6000 * SIDE * SIDE * 3
    assert many - few < pixels / 8
    with np.load(tmp_path / "8000.npz") as file:
        found = file["image"]
    for shard in (0, 79):
        with np.load(paths[shard]) as file:
            assert np.array_equal(found[shard * SHARD : (shard + 1) * SHARD], file["image"])
