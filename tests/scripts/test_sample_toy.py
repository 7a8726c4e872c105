"""The toy's scripts, files in and files out, on a small version of the shipped settings."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from contrastdp.errors import InputError
from contrastdp.evidence import claims
from contrastdp.theory.toy_measures import read_points
from judge_claims import judge_claims
from plot_toy import plot_toy
from sample_toy import sample_toy

CONFIG = Path(__file__).parents[2] / "config"
SETTINGS = yaml.safe_load((CONFIG / "theory.yaml").read_text())["theory"]
FILES = {
    "points_npz": "points.npz",
    "measures": "measures.csv",
    "summary": "summary.csv",
    "training": "training.json",
}
FIGURES = [
    f"{name}_{kind}"
    for name in ("figure_2", "figure_6", "figure_7", "spreads")
    for kind in ("png", "pdf")
]


def sample(folder):
    """Every panel of the shipped settings, from few points, steps and batches."""
    settings = dict(SETTINGS["sample_toy"])
    settings |= {"points": 16, "real": 8, "resamples": 50}
    settings["denoiser"] = settings["denoiser"] | {"steps": 40, "width": 16, "batch": 64}
    settings["classifier"] = settings["classifier"] | {"steps": 20, "width": 8}
    settings["readings"] = {
        name: reading | {"steps": 8, "batches": 2, "plain_batches": 2}
        for name, reading in settings["readings"].items()
    }
    sample_toy(**{key: str(folder / name) for key, name in FILES.items()}, **settings)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sample(tmp_path_factory.mktemp("toy"))


def _rows(path):
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_panel_has_points_measures_and_a_summary(folder):
    summary = _rows(folder / "summary.csv")
    assert len(summary) == sum(
        1 + len(r["starts"]) * (2 + len(r["sizes"]) * len(SETTINGS["sample_toy"]["losses"]))
        for r in SETTINGS["sample_toy"]["readings"].values()
    )
    assert len(_rows(folder / "measures.csv")) == 2 * len(summary)
    for row in summary:
        assert float(row["within_low"]) <= float(row["within"]) <= float(row["within_high"])
        points, label = read_points(
            folder / "points.npz",
            reading=row["reading"],
            panel=row["panel"],
            start=float(row["start"]),
            size=float(row["size"]),
        )
        assert points.shape == (2, 16, 2) and label.shape == (2, 16)
        assert np.isfinite(points).all()
    told = json.loads((folder / "training.json").read_text())
    assert set(told) == {"loss", "distance", "provenance"}


def test_the_same_settings_give_the_same_tables(folder, tmp_path):
    again = sample(tmp_path)
    for name in ("measures.csv", "summary.csv"):
        assert (again / name).read_text() == (folder / name).read_text()


def test_claims_of_the_toy_are_all_judged(folder):
    judge_claims(
        claims=str(CONFIG / "claims.yaml"),
        evidence=[str(folder / "measures.csv")],
        names=["toy"],
        scopes=["toy"],
        csv=str(folder / "claims.csv"),
        md=str(folder / "claims.md"),
    )
    listed = yaml.safe_load((CONFIG / "claims.yaml").read_text())["claims"]
    found = _rows(folder / "claims.csv")
    assert [r["id"] for r in found] == [c["id"] for c in listed if c["scope"] == "toy"]
    assert len(found) == 11
    for row in found:
        assert row["verdict"] in (claims.REPRODUCED, claims.NOT_REPRODUCED, claims.INCONCLUSIVE)


def _draw(folder, place, **changes):
    paths = {key: str(place / ".".join(key.rsplit("_", 1))) for key in FIGURES}
    plot_toy(
        points_npz=str(folder / "points.npz"),
        summary=str(folder / "summary.csv"),
        mixture=SETTINGS["sample_toy"]["mixture"],
        **paths,
        **SETTINGS["plot_toy"] | changes,
    )
    return {name: Path(path).read_bytes() for name, path in paths.items()}


def test_figures_are_drawn_and_repeat_to_the_byte(folder):
    first, second = _draw(folder, folder / "first"), _draw(folder, folder / "second")
    assert first == second
    assert all(len(content) > 3000 for content in first.values())


def test_a_size_that_was_not_sampled_is_named(folder, tmp_path):
    with pytest.raises(InputError, match=r"no hnm.* at size 0\.7"):
        _draw(folder, tmp_path, size=0.7)
