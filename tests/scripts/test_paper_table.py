"""make_paper_table on tiny evaluations: all files tell the same, and none is left when refused."""

from pathlib import Path

import pytest

from contrastdp.errors import InputError
from contrastdp.files import read_csv, write_json
from contrastdp.report import paper_tables
from make_paper_table import make_paper_table

FILES = ("csv", "markdown", "latex", "cells", "comparisons", "runs")
REPORTED = (
    "plain_1k,1,cifar10,Plain,1K,80,0.3,60,0.3,v2,",
    "guided_1k,1,cifar10,Guided,1K,80,0.4,61,0.4,v2,",
    "guided_2k,1,cifar10,Guided,2K,80,,62,,v2,",
)


@pytest.fixture
def study(tmp_path):
    arms, paths = [], []
    for name, baseline, robust in (("plain", None, (50, 52)), ("guided", "plain", (51, 53.2))):
        arm = {"arm": name, "dataset": "cifar10", "generator": name, "real": 500}
        arm |= {"synthetic": 1000, "selection": "none", "trainer": "trades"}
        for seed in (0, 1):
            content = arm | {"seed": seed, "n_test": 1000, "clean_accuracy": 0.81}
            content |= {"robust_accuracy": robust[seed] / 100}
            content |= {"attack": {"version": "standard", "norm": "Linf", "eps": "8/255"}}
            content |= {"data": {"subset": True, "train": 500, "test": 1000, "title": "CIFAR-10"}}
            paths.append(str(tmp_path / f"{name}{seed}.json"))
            write_json(paths[-1], content)
        own = {"baseline": baseline, "reported": [f"{name}_1k"], "title": f"{name} images"}
        arms.append(arm | own | {"seeds": [0, 1]})
    reported = tmp_path / "reported.csv"
    reported.write_text("\n".join([",".join(paper_tables.REPORTED_COLUMNS), *REPORTED]) + "\n")
    files = {name: str(tmp_path / f"out_{name}") for name in FILES}
    layout = ["plain_1k", "guided_1k", "guided_2k"]
    given = {"evaluations": paths, "reported": str(reported), "arms": arms, "layout": layout}
    return given | {"version": "standard", "comparable": False} | files


def test_every_file_tells_the_same(study):
    make_paper_table(**study)
    plain, guided, missing = read_csv(study["cells"])
    assert (plain["robust_mean"], guided["robust_mean"]) == ("51.0", "52.1")
    assert missing["robust_verdict"] == "not run"
    pairs = {row["measure"]: row for row in read_csv(study["comparisons"])}
    assert (pairs["robust"]["paper_difference"], pairs["robust"]["difference"]) == ("1.0", "1.1")
    assert pairs["robust"]["verdict"] == "inconclusive"  # two pairs: 1.1 ± 1.27
    runs = read_csv(study["runs"])
    assert [(run["arm"], run["seed"], run["robust"]) for run in runs] == [
        *(("plain", "0", "50.0"), ("plain", "1", "52.0")),
        *(("guided", "0", "51.0"), ("guided", "1", "53.2")),
    ]
    assert {run["eps"] for run in runs} == {"8/255"}
    assert len({run["attack"] for run in runs}) == 1
    assert {(run["printed"], run["data"], run["subset"]) for run in runs} == {
        ("1K", "CIFAR-10", "yes")
    }
    laid = read_csv(study["csv"])
    assert [(row["Method"], row["Run"]) for row in laid] == [
        *(("Plain", "paper"), ("Plain", "ours (subset)"), ("Plain", "verdict")),
        *(("Guided", "paper"), ("Guided", "ours (subset)"), ("Guided", "verdict")),
    ]
    assert laid[4]["Robust, 1K"].startswith("52.10 ± 1.56 [")
    assert laid[4]["Robust, 2K"] == "not run"
    markdown = Path(study["markdown"]).read_text(encoding="utf-8")
    latex = Path(study["latex"]).read_text(encoding="utf-8")
    for text in (markdown, latex):
        for said in ("60.00", "52.10", "+1.10", "not run", "(subset)", "inconclusive"):
            assert said in text
    assert laid[4]["Robust, 1K"] in markdown
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 3
    assert r"\label{tab:out_latex_comparisons}" in latex
    assert latex.count("{") == latex.count("}")


def test_a_table_without_runs_or_without_the_papers_numbers(study):
    make_paper_table(**study | {"evaluations": [], "arms": []})
    assert "52.10" not in Path(study["markdown"]).read_text(encoding="utf-8")
    assert {row["robust_verdict"] for row in read_csv(study["cells"])} == {"not run"}
    assert read_csv(study["comparisons"]) == []
    make_paper_table(**study | {"layout": []})
    assert [row["Run"].split(" (")[0] for row in read_csv(study["csv"])] == ["ours only"] * 2
    assert "prints no numbers" in Path(study["markdown"]).read_text(encoding="utf-8")


def test_bad_input_leaves_no_file(study, tmp_path):
    with pytest.raises(InputError, match="no reported row has the id 'plain_9k'"):
        make_paper_table(**study | {"layout": ["plain_9k"]})
    assert not list(tmp_path.glob("out_*"))
