"""audit_network and make_audit_table on a small network: which images, which attack, which row."""

import numpy as np
import pytest

from audit_network import audit_network
from contrastdp.attack import audit as library
from contrastdp.data.images import write_images
from contrastdp.data.tensors import to_tensor
from contrastdp.files import read_csv, read_json
from contrastdp.networks.build import build_network
from contrastdp.networks.checkpoint import load_network, save_network
from make_audit_table import make_audit_table

SETTINGS = {"images": 12, "factors": [1, 2], "steps": 5, "queries": 20}
ATTACK = {"norm": "Linf", "eps": "1/10", "version": "standard"}
ATTACK |= {"seed": 3, "shard": 50, "batch": 5}
IDENTITY = {"dataset": "toy", "arm": "plain", "seed": 7, "other": "guided"}


@pytest.fixture
def inputs(tmp_path):
    sizes = {"channels": 1, "classes": 3, "image_size": 4, "width": 8, "features": 16}
    paths = {name: str(tmp_path / name) for name in ("model", "other", "validation")}
    for seed, name in enumerate(("model", "other")):
        save_network(paths[name], build_network("small_cnn", **sizes, seed=seed))
    image = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)
    guess = load_network(paths["model"])(to_tensor(image)).argmax(dim=1).numpy()
    write_images(paths["validation"], image=image, label=guess)
    return paths


def run(inputs, folder, **changes):
    given = {"identity": IDENTITY, "attack": ATTACK, "settings": SETTINGS, "classes": 3}
    path = folder / "audit.json"
    audit_network(**inputs, **(given | changes), audit=str(path), device="cpu")
    return read_json(path)


def test_the_first_images_are_audited_at_the_arms_eps(inputs, tmp_path, monkeypatch):
    seen = {}
    audit = library.audit

    def watched(network, x, y, **how):
        seen.update(how, x=x, y=y)
        return audit(network, x, y, **how)

    monkeypatch.setattr("audit_network.look_for_signs", watched)
    found = run(inputs, tmp_path)
    data = np.load(inputs["validation"])
    assert np.array_equal(seen["y"].numpy(), data["label"][:12])
    np.testing.assert_allclose(
        seen["x"].numpy(), data["image"][:12, None, :, :, 0] / 255, rtol=1e-6
    )
    named = {name: seen[name] for name in ("eps", "seed", "batch", "steps", "queries", "factors")}
    assert named == {"eps": 0.1, "seed": 3, "batch": 5} | {
        name: SETTINGS[name] for name in ("steps", "queries", "factors")
    }
    assert {name: found[name] for name in IDENTITY} == IDENTITY
    assert found["n"] == 12
    assert found["attack"] == {"norm": "Linf", "eps": "1/10", "seed": 3, "batch": 5} | SETTINGS
    assert found["images"]["clean"] == [True] * 12
    assert len(found["images"]["transfer"]) == 12


def test_fewer_images_than_asked_and_no_other_arm(inputs, tmp_path):
    del inputs["other"]
    identity = IDENTITY | {"other": None}
    found = run(inputs, tmp_path, identity=identity, settings=SETTINGS | {"images": 99})
    assert found["n"] == 20
    assert found["images"]["transfer"] is None


def test_table_of_an_audit(inputs, tmp_path):
    run(inputs, tmp_path)
    paths = {kind: str(tmp_path / f"audit.{kind}") for kind in ("csv", "md")}
    make_audit_table(
        audits=[str(tmp_path / "audit.json")],
        titles={"plain": "Plain"},
        csv=paths["csv"],
        markdown=paths["md"],
    )
    (row,) = read_csv(paths["csv"])
    assert (row["title"], row["seed"], row["clean"], row["changed_at_zero"]) == (
        *("Plain", "7", "100.0", "0"),
    )
    assert row["verdict"]
    assert "| Plain | 7 |" in (tmp_path / "audit.md").read_text(encoding="utf-8")
