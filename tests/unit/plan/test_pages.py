"""What pages show, at the project's scales, and the files behind them."""

import shutil

import pytest
from code_graph import ROOT
from one_line import told
from resolved_plans import claims, resolved, wildcards

from contrastdp.errors import InputError
from contrastdp.plan.needs import Needs
from contrastdp.plan.pages import REPORTED, Pages, read_claims, read_reported
from contrastdp.plan.paths import Paths
from contrastdp.theory.tables import KEY


def pages_of(scale):
    plan = resolved(scale=scale)
    return Pages(plan, Needs(plan, Paths(scale)), claims())


@pytest.fixture(scope="module")
def demo():
    return pages_of("demo")


@pytest.fixture(scope="module")
def paper():
    return pages_of("paper")


def test_the_report_shows_the_main_table_with_section_3(demo):
    assert demo.main == "robustness" and demo.names["report"] == "robustness"
    assert demo.file("robustness") == "results/demo/report.html"
    assert [table["title"] for table in demo.tables("robustness")] == [
        "Robustness",
        "Audit for false robustness",
        "Section 3: do the printed tables follow from the settings?",
    ]
    figures = demo.figures("robustness")
    names = [figure["png"].rsplit("/", 1)[1] for figure in figures]
    assert names[:3] == ["samples_digits.png", "sizes_digits_robustness.png", "tsne_digits.png"]
    assert len(names) == 3 + 7
    assert all(figure["title"] and figure["caption"] for figure in figures)


def test_other_tables_have_pages_of_their_name_without_section_3(demo):
    assert demo.file("guidance") == "results/demo/guidance.html"
    assert [table["csv"] for table in demo.tables("guidance")] == [
        "results/demo/tables/guidance.csv",
        "results/demo/tables/guidance_size.csv",
    ]
    inputs = demo.inputs(wildcards(page="ablations"))
    assert inputs["claims"] == "results/demo/tables/ablations_claims.csv"
    assert not any("theory" in path for path in (*inputs["details"], *inputs["needs"]))


def test_a_page_reads_the_claims_that_it_shows(demo):
    report = demo.inputs(wildcards(page="report"))
    assert report["claims"] == "results/theory/claims.csv"
    assert report["details"][-1] == "results/theory/toy/training.json"
    evidence = demo.inputs(wildcards(page="evidence"))
    assert evidence["claims"] == "results/demo/tables/evidence_claims.csv"


def test_a_table_of_the_paper_stands_beside_ours_with_quality_and_audit(paper):
    assert [table["csv"] for table in paper.tables("cifar10_table2")] == [
        f"results/paper/tables/cifar10_table2_{name}.csv" for name in ("paper", "quality", "audit")
    ]
    assert paper.runs("cifar10_table2") == "results/paper/tables/cifar10_table2_paper_runs.csv"
    names = [figure["png"].rsplit("/", 1)[1] for figure in paper.figures("cifar10_table2")]
    assert names == ["data_cifar10.png", "samples_cifar10.png", "tsne_cifar10.png"]


def test_printed_rows_are_those_of_the_sheet_s_data_set_and_number(paper):
    printed = [
        {"id": "a", "dataset": "cifar10", "table": "2", "text_version": "v2"},
        {"id": "b", "dataset": "cifar10", "table": "2", "text_version": "v1"},
        {"id": "c", "dataset": "cifar10", "table": "8", "text_version": "v2"},
        {"id": "d", "dataset": "mnist", "table": "", "text_version": "v2"},
    ]
    assert paper.plan.layout("cifar10_table2", printed) == ["a"]
    assert paper.plan.layout("cifar10_table8", printed) == ["c"]
    assert paper.plan.layout("mnist_fig3", printed) == []


def test_arms_of_ablations_are_attacked_by_their_version(paper):
    attack = paper.plan.datasets["cifar10"]["attack"]
    assert paper.plan.version("cifar10_table8") == attack["ablations"]
    assert paper.plan.version("cifar10_table2") == attack["version"]
    for arm in paper.plan.table("cifar10_table8"):
        assert paper.plan.attack(arm)["version"] == attack["ablations"]


def test_a_table_without_arms_is_told_in_one_line(demo):
    with pytest.raises(InputError, match="scale 'demo' has no arm of table 'mnist_fig3'"):
        demo.file("mnist_fig3")


def test_the_repository_keeps_the_tables_and_claims_of_a_page(paper, demo):
    kept = paper.recorded("cifar10_table2")
    assert "results/paper/tables/cifar10_table2_paper_runs.csv" in kept
    assert "results/paper/tables/cifar10_table2_claims.md" in kept
    assert "results/demo/tables/robustness.md" in demo.recorded("robustness")
    assert len(set(kept)) == len(kept)


def test_links_show_the_evidence_of_every_claimed_scope(demo):
    links = demo.links()
    assert {"theory", "toy"} <= set(links)
    assert links["robustness"][0] == "results/demo/tables/robustness.md"
    assert demo.judged()[0] == "results/theory/claims.csv"


@pytest.mark.parametrize(
    "text",
    ["", "claim: []", "claims: 3", "claims: [a]", "claims: [{id: a}]", "claims: [{scope: 1}]"],
)
def test_claims_that_are_no_list_with_scopes_are_told(tmp_path, text):
    path = tmp_path / "claims.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"claims\.yaml: holds no list 'claims'"):
        read_claims(path)


def test_the_plan_and_the_jobs_name_a_printed_cell_alike():
    """The plan may not import pandas, so that the key stands in both."""
    assert {REPORTED["gaussian"], REPORTED["gaussian_version1"]} == {KEY}


# ---------------------------------------------------------------- what the paper prints
@pytest.mark.parametrize("name", REPORTED)
def test_a_reported_row_that_stands_twice_is_told(tmp_path, name):
    folder = ROOT / "config" / "reported"
    assert {path.stem for path in folder.iterdir()} == {*REPORTED}
    shutil.copytree(folder, tmp_path / "reported")
    assert len(read_reported(folder)[name]) > 10
    path = tmp_path / "reported" / f"{name}.csv"
    header, first, *rest = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([header, first, *rest, first]) + "\n", encoding="utf-8")
    place = f"{path}, line {len(rest) + 3}: repeats the row '"
    assert told(read_reported, path.parent).startswith(place)
    key = REPORTED[name][0]
    path.write_text("\n".join([header.replace(key, "x", 1), first, *rest]), encoding="utf-8")
    assert f"column '{key}' is missing" in told(read_reported, path.parent)
