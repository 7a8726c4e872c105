"""Rows of measured.tsv: generators that are measured and trained on by no arm."""

import one_line
import pytest
from configuration import told
from resolved_plans import resolved, wildcards

from contrastdp.plan.measured import Measured, check_pairs
from contrastdp.plan.needs import Needs
from contrastdp.plan.paths import Paths

ROW = {"scale": "demo", "table": "ablations", "panel": "scales", "dataset": "digits"}
ROW |= {"generator": "hnm_early", "real": "150", "images": "2100", "seeds": "2"}
ROW |= {"method": "robust classifier", "setting": "s=1"}
PLAIN = ROW | {"generator": "ddim", "method": "unguided", "setting": ""}


def write(folder, *rows):
    """The rows before those of the sheet as it stands."""
    path = folder / "measured.tsv"
    header, *rest = path.read_text(encoding="utf-8").splitlines()
    assert header.split("\t") == list(ROW)
    lines = [header, *("\t".join(row.values()) for row in rows), *rest]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def only(plan):
    """The rows of the table that these tests write into."""
    return plan.measured.of_table("ablations")


def test_a_row_has_its_cells_typed(folder):
    write(folder, ROW, PLAIN | {"scale": "smoke"})
    (row,) = only(resolved(folder))
    assert (row["real"], row["images"], row["seeds"], row["setting"]) == (150, 2100, 2, "s=1")


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"generator": "hnm_earli"}, ["line 2 (hnm_earli)", "did you mean hnm_early?"]),
        ({"scale": "demos"}, ["scale 'demos'", "did you mean demo?"]),
        ({"table": "ablation"}, ["table 'ablation'", "did you mean ablations?"]),
        ({"panel": "scale"}, ["panel is 'scale'", "did you mean scales?"]),
        ({"method": "robust"}, ["method is 'robust'", "did you mean robust classifier?"]),
        ({"dataset": "mnist"}, ["data set 'mnist' does not exist"]),
        ({"real": "2000"}, ["real is 2000; the training split has 1097 images"]),
        ({"images": "10"}, ["10 images are measured; 10 groups and 3 neighbours need 20"]),
        ({"images": "2.5"}, ["images: is '2.5'; write a whole number"]),
        ({"seeds": "0"}, ["seeds is 0; it must be at least 1"]),
        ({"seeds": ""}, ["seeds is empty; fill it in"]),
        ({"method": ""}, ["method", "must not be empty"]),
        ({"images": "50000000", "seeds": "9"}, ["line 2 (hnm_early)", "jobs would arise"]),
    ],
)
def test_an_impossible_row_is_refused_in_one_line(folder, cells, words):
    write(folder, ROW | cells)
    line = told(folder)
    assert line.startswith("config/measured.tsv")
    assert all(word in line for word in words), line


def test_rows_of_one_generator_measure_as_many_images(folder):
    write(folder, ROW, ROW | {"panel": "threats", "images": "500"})
    assert "images is 500, and 2100 in another row of this generator" in told(folder)


def test_a_setting_stands_once_in_its_panel(folder):
    same = PLAIN | {"panel": "scales", "method": "robust classifier", "setting": "s=1"}
    write(folder, ROW, same)
    assert "another row has this panel, method and setting" in told(folder)


def test_its_images_are_sampled_and_measured(folder):
    """2,100 images are two shards, of which an arm's generator needs no more than before."""
    write(folder, ROW, PLAIN | {"real": "200"})
    plan = resolved(folder)
    needs = Needs(plan, Paths("demo"))
    names = wildcards(dataset="digits", generator="hnm_early", real=150, seed=1)
    found = needs.measuring_row(names)
    place = "results/demo/digits/labelled/hnm_early/n150/seed1"
    assert found["shards"] == [f"{place}/shard0.npz", f"{place}/shard1.npz"]
    assert plan.measuring("digits", "hnm_early", 150) == {
        "images": 2100,
        "neighbours": 3,
        "groups": 10,
    }
    assert plan.most_candidates("digits", "hnm_early", 150) == 2100
    assert plan.most_candidates("digits", "hnm_early", 200) == 2000  # an arm's
    names = wildcards(dataset="digits", generator="ddim", real=200, seed=0)
    assert len(needs.measuring(names)["shards"]) == 1  # as without the sheet
    measures = needs.measured_table("ablations")
    assert measures[:2] == [
        f"results/demo/digits/measured/hnm_early/n150/seed{seed}.json" for seed in (0, 1)
    ]
    assert len(measures) == 4


def row(method, **changes):
    return {"table": "t", "panel": "quality", "dataset": "digits", "method": method} | {
        "generator": method,
        "real": 200,
        "seeds": 3,
        **changes,
    }


def test_gradients_need_both_classifiers_alike():
    both = [row("unguided"), row("vanilla classifier"), row("robust classifier")]
    found = Measured(both)
    check_pairs(found, "t", ["digits"], "sheet")
    assert found.pair("t", "digits")["robust"]["generator"] == "robust classifier"
    line = one_line.told(check_pairs, Measured(both[:2]), "t", ["digits"], "sheet")
    assert "has no row of the robust classifier; add it" in line
    other = [*both[:2], row("robust classifier", seeds=2)]
    assert "real or seeds differ" in one_line.told(
        check_pairs, Measured(other), "t", ["digits"], "sheet"
    )
