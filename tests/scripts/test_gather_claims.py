"""gather_claims over the repository's own claims and printed values."""

from pathlib import Path

import pytest
import yaml
from sheets import read_rows

from contrastdp.errors import InputError
from contrastdp.evidence.claims import COLUMNS
from contrastdp.files import read_csv
from contrastdp.frames import as_table, read_table, write_table
from contrastdp.report import claims_page, paper_tables
from gather_claims import gather_claims
from judge_claims import judge_claims

CONFIG = Path(__file__).parents[2] / "config"
TABLES = [row["table"] for row in read_rows("tables.tsv")]
PAPER_TABLES = [row["table"] for row in read_rows("tables.tsv") if row["kind"] == "paper"]
LISTED = yaml.safe_load((CONFIG / "claims.yaml").read_text(encoding="utf-8"))["claims"]


def make_runs():
    """Three seeds of the robustness table: guided arms 2 points above DDIM, which is below none."""
    levels = {"none": 55, "ddim": 50, "ddpm": 51, "contrastive_hnm": 52, "contrastive_infonce": 52}
    rows = []
    for name, robust in levels.items():
        own = {"arm": name, "dataset": "digits", "generator": None if name == "none" else name}
        own |= {"real": 200, "synthetic": 0 if name == "none" else 2000, "trainer": "trades"}
        own |= {"eps": "1/10", "n_test": 500, "data": "Digits", "subset": "no"}
        for seed in range(3):
            wobble = seed % 2 * len(name) / 50
            rows.append(own | {"seed": seed, "clean": 90 + wobble, "robust": robust + wobble})
    return rows


@pytest.fixture
def study(tmp_path):
    runs, judged = tmp_path / "runs.csv", tmp_path / "judged.csv"
    write_table(runs, as_table(make_runs(), paper_tables.RUN_COLUMNS))
    judge_claims(
        claims=str(CONFIG / "claims.yaml"),
        evidence=[str(runs)],
        names=["robustness"],
        scopes=["robustness"],
        csv=str(judged),
        md=str(tmp_path / "judged.md"),
    )
    return {
        "listed": LISTED,
        "judged": [str(judged)],
        "runs": [str(runs)],
        "arms": str(CONFIG / "arms.tsv"),
        "reported": str(CONFIG / "reported/contrastive_dp.csv"),
        "gaussian": str(CONFIG / "reported/gaussian.csv"),
        "measured": str(CONFIG / "reported/robust_guidance.csv"),
        "names": ["robustness"],
        "printed": PAPER_TABLES,
        "optional": [table for table in TABLES if table not in PAPER_TABLES],
        "links": {"robustness": [str(tmp_path / "tables" / "robustness.md")]},
        "scale": "demo",
        "csv": str(tmp_path / "claims.csv"),
        "md": str(tmp_path / "claims.md"),
    }


def test_the_papers_printed_values_under_its_own_claims(study):
    gather_claims(**study)
    rows = {row["id"]: row for row in read_csv(study["csv"])}
    # By hand from the printed tables: the smallest difference of each claim.
    smallest = {
        "cifar10_guided_robust": 56.18 - 56.30,  # DDPM, 50K
        "cifar10_large_margin": 56.18 - 50.42,
        "gtsrb_guided": 86.94 - 86.79,
        "gtsrb_synthetic": 86.79 - 78.52,
        "cifar10_loss_small": 85.71 - 85.65,  # clean, 200K, with and without embedding
        "cifar10_loss_large": 56.28 - 56.12,
        "cifar10_lambda": 56.84 - 56.83,
        "cifar10_lambda_clean_small": 83.66 - 84.41,
        "cifar10_lambda_clean_large": 86.35 - 86.30,
        "cifar10_selection_robust": 49.47 - 49.49,
        "cifar10_selection_clean": 84.64 - 85.09,
        "cifar10_pgd_guided": 54.74 - 54.97,
        "cifar10_pgd_guided_most": 5 / 6,
    }
    for name, value in smallest.items():
        assert float(rows[name]["paper_effect"]) == pytest.approx(value, abs=1e-4), name
        assert rows[name]["verdict"] == "not run"
    assert rows["mnist_guided"]["paper_effect"] == ""  # a figure prints no values
    assert rows["table_1_beats_real_robust"]["paper_effect"] == "1.0"


def test_the_second_papers_printed_values_under_its_claims(study):
    """Tables 4 to 6, by hand; of what it prints no table of, there is no figure."""
    gather_claims(**study | {"optional": []})
    rows = {row["id"]: row for row in read_csv(study["csv"])}
    ranks = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]
    robust = [0.70, 0.74, 0.77, 0.82, 0.86, 0.89]
    rise = 5 * sum(a * b for a, b in zip(ranks, robust, strict=True)) / sum(a * a for a in ranks)
    expected = {
        "guidance_precision_rises_robust": rise,
        "robust_guidance_beats_vanilla": 7.62 - 7.58,
        "robust_guidance_best_threat": 7.61 - 7.60,
    }
    for name, value in expected.items():
        assert float(rows[name]["paper_effect"]) == pytest.approx(value, rel=1e-3), name
    assert float(rows["guidance_recall_falls_vanilla"]["paper_effect"]) > 0.2
    assert rows["robust_guidance_best_scale"]["paper_effect"] == ""
    assert rows["robust_gradients_along_scores"]["paper_effect"] == ""


def test_what_was_run_stands_beside_what_was_not(study):
    gather_claims(**study)
    rows = {row["id"]: row for row in read_csv(study["csv"])}
    absent = set(study["optional"]) - set(study["names"])
    shown = [claim for claim in LISTED if claim["scope"] not in absent]
    assert list(rows) == [claim["id"] for claim in shown]
    guided = rows["digits_guided_robust"]
    assert guided["verdict"] == "reproduced"
    assert 2 < float(guided["effect"]) < 2.5
    assert (guided["seeds"], guided["n_test"], guided["data"]) == ("3", "500", "Digits")
    assert rows["digits_synthetic"]["verdict"] == "not reproduced"
    text = Path(study["md"]).read_text(encoding="utf-8")
    assert "[robustness.md](tables/robustness.md)" in text
    assert text.count("**not run**") == len(shown) - 3
    assert {row["scale"] for row in rows.values()} == {"demo"}
    assert list(guided) == list(claims_page.COLUMNS)


def test_claims_judged_by_an_older_list_are_refused(study, tmp_path):
    (path,) = study["judged"]
    write_table(path, read_table(path, COLUMNS).query("id != 'digits_synthetic'"))
    with pytest.raises(InputError, match="claim digits_synthetic"):
        gather_claims(**study)
    assert not list(tmp_path.glob("claims.*"))
