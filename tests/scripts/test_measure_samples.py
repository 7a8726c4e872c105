"""measure_samples and make_quality_table on small images: which images are held against which."""

import numpy as np
import pytest

from contrastdp.data.images import write_images
from contrastdp.data.tensors import draw_subset
from contrastdp.errors import InputError
from contrastdp.files import read_csv, read_json
from contrastdp.networks.build import build_network
from contrastdp.networks.checkpoint import save_network
from contrastdp.streams import derive_seed
from contrastdp.synthesis import quality
from make_quality_table import make_quality_table
from measure_samples import measure_samples

SETTINGS = {"images": 40, "neighbours": 3, "groups": 5}
IDENTITY = {"dataset": "toy", "generator": "plain", "real": 30, "seed": 7}


def pictures(count, seed):
    random = np.random.default_rng(seed)
    label = np.arange(count) % 3
    image = random.integers(0, 128, (count, 4, 4, 1), dtype=np.uint8)
    image[np.arange(count), label, 1, 0] += 100
    return image, label


@pytest.fixture
def inputs(tmp_path):
    """Paths of a toy data set; synthetic images 0 to 19 are those trained on, 20 to 59 are new."""
    sizes = {"channels": 1, "classes": 3, "image_size": 4, "width": 8, "features": 16}
    paths = {name: str(tmp_path / name) for name in ("train", "test", "encoder", "labeler")}
    for seed, name in enumerate(("encoder", "labeler")):
        save_network(paths[name], build_network("small_cnn", **sizes, seed=seed))
    image, label = pictures(90, 0)
    write_images(paths["train"], image=image, label=label)
    test_image, test_label = pictures(60, 1)
    write_images(paths["test"], image=test_image, label=test_label)
    used = draw_subset(label, 30, derive_seed(7, "subset"))
    new, new_label = pictures(40, 2)
    synthetic = np.concatenate([image[used[:20]], new])
    named = np.concatenate([label[used[:20]], new_label])
    # the later images first, so that the order of the shards cannot stand for that of index
    paths["shards"] = []
    for number, part in enumerate((slice(30, 60), slice(0, 30))):
        paths["shards"].append(str(tmp_path / f"shard{number}"))
        write_images(
            paths["shards"][-1],
            image=synthetic[part],
            label=named[part],
            index=np.arange(60)[part],
            confidence=np.full(30, 0.5, np.float32),
        )
    return paths


def run(inputs, folder, **changes):
    given = {"identity": IDENTITY, "settings": SETTINGS} | changes
    measure_samples(**inputs, **given, measures=str(folder / "measures.json"), device="cpu")
    return read_json(folder / "measures.json")


def test_each_set_is_the_one_it_is_called(inputs, tmp_path):
    found = run(inputs, tmp_path)
    assert {name: found[name] for name in IDENTITY} == IDENTITY
    assert (found["n_heldout"], found["features"], found["settings"]) == (40, 16, SETTINGS)
    counts = {name: values["n"] for name, values in found["rows"].items()}
    assert counts == {"synthetic": 40, "unseen": 40, "training": 30}
    # of the first 40 synthetic images by index, 20 are those that the models were trained on
    assert found["rows"]["synthetic"]["copies"] == pytest.approx(0.5, abs=0.05)
    assert found["rows"]["unseen"]["copies"] <= 0.1
    assert found["rows"]["training"]["nearest"] is None
    assert found["provenance"]["seed"] == 7


def test_numbers_are_those_of_the_library(inputs, tmp_path, monkeypatch):
    """The held-out images are the test split, all of them measured against the same ones."""
    seen = []
    measure = quality.measure

    def watched(images, training, *, heldout, **how):
        seen.append((images, training, heldout))
        return measure(images, training, heldout=heldout, **how)

    monkeypatch.setattr(quality, "measure", watched)
    run(inputs, tmp_path, settings=SETTINGS | {"images": 1000})
    train, test = (
        np.load(inputs[name])["image"].reshape(-1, 16) / 255 for name in ("train", "test")
    )
    used = draw_subset(np.arange(90) % 3, 30, derive_seed(7, "subset"))
    unseen = np.setdiff1d(np.arange(90), used)
    (synthetic, known, heldout), (other, also_known, _), (trained, none, _) = seen
    np.testing.assert_allclose(heldout.pixels, test, rtol=1e-6)
    np.testing.assert_allclose(synthetic.pixels[:20], train[used[:20]], rtol=1e-6)
    np.testing.assert_allclose(known, train[used], rtol=1e-6)
    np.testing.assert_allclose(also_known, known)
    np.testing.assert_allclose(other.pixels, train[unseen], rtol=1e-6)
    np.testing.assert_allclose(trained.pixels, train[used], rtol=1e-6)
    assert none is None
    assert all(given is heldout for _, _, given in seen)


def test_no_row_of_unseen_images_where_all_are_trained_on(inputs, tmp_path):
    found = run(inputs, tmp_path, identity=IDENTITY | {"real": 85})
    assert set(found["rows"]) == {"synthetic", "training"}


def test_a_shard_without_confidence_is_refused(inputs, tmp_path):
    image, label = pictures(30, 0)
    write_images(inputs["shards"][0], image=image, label=label)
    with pytest.raises(InputError, match="label it again"):
        run(inputs, tmp_path)
    assert not (tmp_path / "measures.json").exists()


def test_table_of_a_measurement(inputs, tmp_path):
    found = run(inputs, tmp_path)
    make_quality_table(
        measures=[str(tmp_path / "measures.json")],
        titles={"plain": "Plain"},
        csv=str(tmp_path / "quality.csv"),
        markdown=str(tmp_path / "quality.md"),
    )
    rows = read_csv(tmp_path / "quality.csv")
    assert [row["title"] for row in rows] == ["Real, unseen", "Real, trained on", "Plain"]
    density = found["rows"]["synthetic"]["density"]
    assert float(rows[2]["density_mean"]) == pytest.approx(density, rel=1e-5)
    assert "Plain" in (tmp_path / "quality.md").read_text(encoding="utf-8")
