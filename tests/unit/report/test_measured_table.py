"""The table of images by setting, on measures that are made up."""

import json

import one_line
import pytest

from contrastdp.frames import as_rows, as_table
from contrastdp.report import measured_table
from contrastdp.report.quality_table import METRICS

ROW = {"scale": "demo", "table": "robust_guidance", "panel": "scales", "dataset": "digits"}
ROW |= {"generator": "robust_1", "real": 200, "images": 50, "seeds": 2, "setting": "s=1"}
ROW |= {"method": "robust classifier", "title": "Robust, s = 1"}
REPORTED = [
    ("5", "cifar10", "robust classifier", "s=1", "fid", 7.58, None),
    ("6", "imagenet128", "robust classifier", "s=1", "precision", 0.82, "needs weights"),
    (
        "2",
        "imagenet128",
        "robust classifier",
        "threshold=60%",
        "preferred_pct",
        51.0,
        "asks people",
    ),
    ("2", "imagenet128", "no preference", "threshold=60%", "preferred_pct", 57.0, "asks people"),
    ("2", "imagenet128", "no preference", "threshold=50%", "preferred_pct", 100.0, "asks people"),
]


def reported():
    names = list(measured_table.REPORTED)
    rows = [dict(zip(names, row, strict=True)) for row in REPORTED]
    return as_table(rows, measured_table.REPORTED)


def measures(folder, seed, frechet, **changes):
    made = dict.fromkeys(METRICS, 0.5) | {"n": 50, "frechet": frechet}
    content = {"dataset": "digits", "generator": "robust_1", "real": 200, "seed": seed}
    content |= {"n_heldout": 50, "features": 64, "rows": {"synthetic": made | changes}}
    content |= {"settings": {"images": 50, "neighbours": 3, "groups": 10}}
    path = folder / f"seed{seed}_{frechet}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.fixture
def runs(tmp_path):
    return measured_table.measured_runs([ROW], [measures(tmp_path, k, 3.0 + k) for k in (0, 1)])


def test_a_run_has_its_rows_words_and_its_files_numbers(runs):
    first, second = as_rows(runs)
    assert (first["seed"], second["seed"]) == (0, 1)
    assert (first["frechet"], second["frechet"]) == (3.0, 4.0)
    assert (first["setting"], first["neighbours"], first["n"]) == ("s=1", 3, 50)


def test_means_have_t_intervals_and_printed_values_beside_them(runs):
    rows = as_rows(measured_table.measured_table(runs, reported()))
    by_metric = {row["metric"]: row for row in rows if row["seeds"]}
    frechet = by_metric["frechet"]
    half = 12.706 * (0.5**0.5) / 2**0.5  # t(1) = 12.706, std of 3 and 4 is sqrt(1/2)
    assert (frechet["mean"], frechet["low"]) == pytest.approx((3.5, 3.5 - half), rel=1e-4)
    assert (frechet["paper"], frechet["paper_dataset"]) == (7.58, "cifar10")
    assert by_metric["precision"]["paper"] == 0.82
    assert frechet["compared"] == "not comparable: data set and features differ"
    assert by_metric["frechet_debiased"]["paper"] is None


def test_the_same_data_set_still_differs_in_its_features(tmp_path):
    row = ROW | {"dataset": "cifar10"}
    runs = as_table(
        [{"panel": "scales", "seed": 0, "n": 9, "neighbours": 3, "frechet": 1.0, "features": 4}
         | {name: row[name] for name in ("dataset", "method", "setting", "generator", "title")}
         | {"n_heldout": 9, "precision": 0.1, "recall": 0.1, "frechet_debiased": 1.0}],
        measured_table.RUNS,
    )  # fmt: skip
    rows = as_rows(measured_table.measured_table(runs, reported()))
    assert rows[0]["compared"] == "not comparable: features differ"


def test_what_is_not_run_stands_with_its_reason_and_the_sum_that_is_off(runs):
    rows = as_rows(measured_table.measured_table(runs, reported()))
    off = [row for row in rows if row["seeds"] is None]
    assert len(off) == 4
    assert off[0]["compared"] == "not run: needs weights"
    said = "not run: asks people; the printed row sums to 108%"
    assert [row["compared"] for row in off[1:]] == [said, said, "not run: asks people"]
    assert {row["panel"] for row in off} == {"scales", "survey"}


def test_the_markdown_shows_both(runs):
    table = measured_table.measured_table(runs, reported())
    text = measured_table.markdown_table(table, measured_table.caption(runs))
    assert "no FID" in text
    assert "| fid 7.58 (cifar10), precision 0.82 (imagenet128) |" in text
    assert text.count("not run: asks people") == 3
    assert "nearest 3 neighbours" in text


def test_missing_and_repeated_measures_are_told(tmp_path):
    first = measures(tmp_path, 0, 3.0)
    line = one_line.told(measured_table.measured_runs, [ROW], [first])
    assert "measures of robust_1 (digits, 200 real images, seed 1) are missing" in line
    line = one_line.told(measured_table.measured_runs, [ROW], [first, measures(tmp_path, 0, 4.0)])
    assert "a second time" in line


def test_seeds_measured_on_other_numbers_are_refused(tmp_path):
    paths = [measures(tmp_path, 0, 3.0), measures(tmp_path, 1, 4.0, n=40)]
    runs = measured_table.measured_runs([ROW], paths)
    line = one_line.told(measured_table.measured_table, runs, reported())
    assert "seeds measured on 40 and 50 images" in line


# ---------------------------------------------------------------- the printed file itself
def test_the_printed_file_has_what_the_paper_prints(root):
    found = measured_table.read_reported(str(root / "config/reported/robust_guidance.csv"))
    assert found.groupby("table").size().to_dict() == {
        "1": 9,
        "2": 12,
        "3": 6,
        "4": 15,
        "5": 10,
        "6": 24,
    }
    rows = as_rows(found)
    for row in rows:
        assert (row["not_run"] is None) == (row["dataset"] == "cifar10"), row
        asks = "asks people" if row["table"] == "2" else "128x128 ADM checkpoint"
        assert row["not_run"] is None or asks in row["not_run"]
    off = measured_table.measured_table(as_table([], measured_table.RUNS), found)
    assert {row["setting"] for row in as_rows(off) if "108%" in row["compared"]} == {
        "threshold=60%"
    }


def test_printed_values_are_runs_of_one_seed(root):
    found = measured_table.read_reported(str(root / "config/reported/robust_guidance.csv"))
    rows = as_rows(measured_table.printed_runs(found))
    wanted = {"panel": "scales", "method": "robust classifier", "setting": "s=0.5"}
    both = [row for row in rows if wanted.items() <= row.items()]
    assert [(row["dataset"], row["frechet"], row["recall"]) for row in both] == [
        ("cifar10", 7.79, None),
        ("imagenet128", None, 0.6),
    ]
    assert {row["seed"] for row in rows} == {0}
