"""import_images: shards of images from elsewhere, and what follows takes them as its own."""

import hashlib
import json

import numpy as np
import pytest
from generator_files import write_generator

from contrastdp.data.images import read_images
from import_images import import_images
from label_images import label_images
from select_images import select_images

RNG = np.random.default_rng(1)
IMAGE = RNG.integers(0, 256, (10, 8, 8, 1), dtype=np.uint8)
LABEL = RNG.integers(0, 3, 10).astype(np.int32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two shards of a source of ten images, imported and labelled."""
    folder = write_generator(tmp_path_factory.mktemp("import"))
    np.savez(folder / "theirs.npz", image=IMAGE, label=LABEL)
    for shard in range(2):
        import_images(
            source=str(folder / "theirs.npz"),
            shape=[8, 8, 1],
            classes=3,
            start=6 * shard,
            stop=6 * shard + 6,
            needed=10,
            images=str(folder / f"shard{shard}.npz"),
            origin=str(folder / f"shard{shard}.json"),
        )
        label_images(
            images=str(folder / f"shard{shard}.npz"),
            labeler=str(folder / "labeler.safetensors"),
            conditional=True,
            labelled=str(folder / f"labelled{shard}.npz"),
            device="cpu",
        )
    return folder


def test_shards_hold_the_source_and_say_that_it_is_external(folder):
    parts = [read_images(folder / f"shard{shard}.npz", classes=3) for shard in range(2)]
    for name, whole in {"image": IMAGE, "label": LABEL, "index": np.arange(10)}.items():
        assert np.array_equal(np.concatenate([part[name] for part in parts]), whole)
    assert [len(part["label"]) for part in parts] == [6, 4]
    sha256 = hashlib.sha256((folder / "theirs.npz").read_bytes()).hexdigest()
    for shard, count in enumerate((6, 4)):
        origin = json.loads((folder / f"shard{shard}.json").read_text())
        assert origin["origin"] == "external"
        assert origin["files"] == {str(folder / "theirs.npz"): sha256}
        assert origin["images"] == count
        assert origin["provenance"]["settings"]["start"] == 6 * shard


@pytest.mark.parametrize("rule", ["none", "entropy"])
def test_labelling_and_selection_go_on_with_their_labels(folder, tmp_path, rule):
    files = {name: str(folder / f"{name}.safetensors") for name in ("labeler", "encoder")}
    select_images(
        shards=[str(folder / f"labelled{shard}.npz") for shard in range(2)],
        images=str(tmp_path / "images.npz"),
        train=str(folder / "train.npz"),
        rule=rule,
        synthetic=7,
        candidates=9,
        classes=3,
        real=20,
        seed=0,
        eps="1/10",
        step_size="1/40",
        attack_steps=2,
        device="cpu",
        **files,
    )
    chosen = read_images(tmp_path / "images.npz", classes=3)
    assert set(chosen) == {"image", "label", "index", "confidence", "score"}
    assert len(chosen["label"]) == 7
    assert np.array_equal(chosen["image"], IMAGE[chosen["index"]])
    assert np.array_equal(chosen["label"], LABEL[chosen["index"]])
    if rule == "none":
        assert chosen["index"].tolist() == list(range(7))
