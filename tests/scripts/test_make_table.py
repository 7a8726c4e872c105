"""make_table on three tiny evaluations: the same numbers in CSV, Markdown and LaTeX."""

import csv
from pathlib import Path

import pytest

from contrastdp.errors import InputError
from contrastdp.files import write_json
from make_table import make_table

PROMISED = (
    *("arm", "real", "synthetic", "trainer", "seeds", "clean_mean", "clean_std"),
    *("robust_mean", "robust_std", "n_test"),
)


@pytest.fixture
def study(tmp_path):
    arms, paths = [], []
    for name, synthetic, robust in (("none", 0, (0.5, 0.6)), ("ddim", 50, (0.7, 0.75))):
        arm = {"arm": name, "dataset": "digits", "generator": name, "real": 20}
        arm |= {"synthetic": synthetic, "selection": "none", "trainer": "trades"}
        for seed in (0, 1):
            path = tmp_path / f"{name}{seed}.json"
            content = arm | {"seed": seed, "n_test": 20, "clean_accuracy": 0.9}
            attack = {"version": "standard", "attacks": ["fab"], "norm": "Linf", "eps": "1/10"}
            write_json(path, content | {"robust_accuracy": robust[seed], "attack": attack})
            paths.append(str(path))
        arms.append(arm | {"seeds": [0, 1], "title": f"{name.upper()} images"})
    files = {
        kind: str(tmp_path / f"table.{kind[:2]}") for kind in ("csv", "markdown", "latex", "runs")
    }
    return {"evaluations": paths, "arms": arms, "reference": "ddim", **files}


def read(path):
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_the_promised_columns_come_first_and_hold_percent(study):
    make_table(**study)
    none, ddim = read(study["csv"])
    assert tuple(none)[: len(PROMISED)] == PROMISED
    assert (none["arm"], none["real"], none["synthetic"], none["seeds"]) == ("none", "20", "0", "2")
    assert float(none["robust_mean"]) == 55.0
    assert float(ddim["robust_mean"]) == 72.5
    assert float(none["robust_std"]) == pytest.approx(50**0.5, abs=1e-4)
    assert float(none["difference"]) == -17.5
    assert (ddim["difference"], ddim["difference_low"]) == ("", "")


def test_the_runs_stand_one_a_seed(study):
    make_table(**study)
    runs = read(study["runs"])
    assert [(run["arm"], run["seed"], run["robust"]) for run in runs] == [
        *(("none", "0", "50.0"), ("none", "1", "60.0")),
        *(("ddim", "0", "70.0"), ("ddim", "1", "75.0")),
    ]
    assert {(run["n_test"], run["eps"], run["printed"]) for run in runs} == {("20", "1/10", "")}


def test_the_twins_agree_with_the_csv(study):
    make_table(**study)
    latex = Path(study["latex"]).read_text(encoding="utf-8")
    for text in (latex, Path(study["markdown"]).read_text(encoding="utf-8")):
        assert "NONE images" in text
        assert "72.5" in text
        assert "17.50" in text
        assert "20 test images" in text
    assert r"\toprule" in latex


def test_a_table_needs_no_reference(study):
    del study["reference"]
    make_table(**study)
    assert {row["difference"] for row in read(study["csv"])} == {""}
    assert "Difference" not in Path(study["markdown"]).read_text(encoding="utf-8")


def test_a_missing_evaluation_leaves_no_table(study, tmp_path):
    with pytest.raises(InputError, match="arm ddim, seed 1: has no evaluation"):
        make_table(**study | {"evaluations": study["evaluations"][:-1]})
    assert not list(tmp_path.glob("table.*"))
