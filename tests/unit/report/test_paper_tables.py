"""The paper's tables beside ours: numbers worked out by hand, each verdict, what is refused."""

import re
from pathlib import Path

import pytest
from scipy.stats import binomtest

from contrastdp.errors import InputError
from contrastdp.files import read_csv
from contrastdp.frames import as_rows, as_table
from contrastdp.report import paper_layout, paper_tables

REPORTED = Path(__file__).parents[3] / "config" / "reported" / "contrastive_dp.csv"
HEADER = ",".join(paper_tables.REPORTED_COLUMNS)
# An invented paper: table 1 with a plain and a guided generator at two sizes, and none.
LINES = (
    "none,1,cifar10,No data,0,70,,50,,v2,",
    "plain_1k,1,cifar10,Plain,1K,80,0.3,60,0.3,v2,",
    "plain_2k,1,cifar10,Plain,2K,82,,62,,v2,",
    "guided_1k,1,cifar10,Guided,1K,80,0.4,61,0.4,v2,",
    "guided_2k,1,cifar10,Guided,2K,,,63,,v2,",
    "old_plain_1k,1,cifar10,Plain,1K,70,,64,,v1,",
    "signs,3,gtsrb,Plain,1K,80,,60,,v2,",
)
LAYOUT = ["none", "plain_1k", "plain_2k", "guided_1k", "guided_2k"]
ATTACK = {"version": "standard", "attacks": ["apgd-ce"], "norm": "Linf", "eps": "8/255", "seed": 0}


@pytest.fixture
def reported(tmp_path):
    return read_reported(tmp_path, LINES)


def read_reported(folder, lines):
    path = folder / "reported.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return paper_tables.read_reported(path)


class Study:
    """Arms of one table with their evaluations."""

    def __init__(self):
        self.arms, self.found = [], {}

    def add(self, arm, synthetic, clean, robust, *, reported=(), baseline=None, **changes):
        own = {key: changes.pop(key) for key in ("data", "network") if key in changes}
        eps = changes.get("eps", "8/255")
        row = {"arm": arm, "dataset": "cifar10", "real": 500, "synthetic": synthetic}
        row |= {"generator": arm if synthetic else None, "trainer": "trades", "title": arm.upper()}
        row |= {"selection": "none" if synthetic else None, "seeds": list(range(len(robust)))}
        row |= {"baseline": baseline, "reported": list(reported)} | changes
        for seed, (a, b) in enumerate(zip(clean, robust, strict=True)):
            keys = ("arm", "dataset", "real", "synthetic", "generator", "trainer", "selection")
            self.found[arm, seed] = {key: row[key] for key in keys} | own
            self.found[arm, seed] |= {"seed": seed, "n_test": 100, "attack": ATTACK | {"eps": eps}}
            self.found[arm, seed] |= {"clean_accuracy": a / 100, "robust_accuracy": b / 100}
        self.arms.append(row)
        return self

    def cells(self, reported, layout=LAYOUT, comparable=True):
        table = paper_tables.cell_table(
            self.found, self.arms, reported, layout, comparable=comparable
        )
        return {row["id"] or row["arm"]: row for row in as_rows(table)}

    def comparisons(self, reported, layout=LAYOUT, comparable=True):
        table = paper_tables.comparison_table(
            self.found, self.arms, reported, layout, comparable=comparable
        )
        return {(row["arm"], row["measure"]): row for row in as_rows(table)}


def frame(cells):
    return as_table(cells, paper_tables.CELL_COLUMNS)


def laid_out(table):
    """Header, lines, and the columns that are set to the right."""
    cells, right = paper_layout.lay_out(table)
    return list(cells), cells.to_numpy().tolist(), [name in right for name in cells]


# ---------------------------------------------------------------- the paper's values
def test_the_papers_values_are_read_by_id(reported):
    assert reported["plain_1k"]["size"] == 1000
    assert reported["none"]["size"] == 0
    assert reported["guided_1k"]["robust_std"] == 0.4
    assert reported["guided_2k"]["clean_pct"] is None


def test_the_stored_table_is_whole():
    rows = paper_tables.read_reported(REPORTED)
    assert len(rows) == 71
    tables = {(row["table"], row["dataset"]) for row in rows.values()}
    assert tables == {("3", "gtsrb")} | {("2", "cifar10")} | {
        (table, "cifar10") for table in ("8", "9", "10", "11")
    }
    assert {row["size"] for row in rows.values()} == {0, 50_000, 200_000, 1_000_000}
    for name, row in rows.items():
        assert name.startswith(f"t{row['table']}{'v1' if row['text_version'] == 'v1' else ''}_")
    # The one derived value: both of its sums, as its note writes them out, must give it.
    sums = re.findall(r"([\d.]+)-([\d.]+)", rows["t2_none"]["note"])
    assert len(sums) == 2
    for robust, gain in sums:
        assert float(robust) - float(gain) == pytest.approx(rows["t2_none"]["robust_pct"])
        assert float(robust) in {row["robust_pct"] for row in rows.values()}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("plain_1k,1,cifar10,Plain,1K,80,,60,,v2,", "stands twice"),
        ("Plain-3k,1,cifar10,Plain,1K,80,,60,,v2,", "expected snake case"),
        ("plain_3k,1,cifar10,Plain,3B,80,,60,,v2,", "synthetic is '3B'"),
        ("plain_3k,1,cifar10,Plain,3K,high,,60,,v2,", "clean_pct is 'high'"),
    ],
)
def test_an_ill_formed_reported_row_is_refused(tmp_path, line, said):
    with pytest.raises(InputError, match=said) as error:
        read_reported(tmp_path, [*LINES, line])
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- intervals and absolute verdicts
def test_the_interval_counts_seeds_and_images():
    wilson = binomtest(82, 100).proportion_ci(method="wilson")
    # t(2) at 97.5% is 4.302653, times 2 / sqrt(3)
    half = 4.968276
    ours, low, high = paper_tables.accuracy_interval([80, 84, 82], 100)
    assert (ours.mean, ours.std) == (82, 2)
    assert low == pytest.approx(82 - ((82 - 100 * wilson.low) ** 2 + half**2) ** 0.5, abs=1e-4)
    assert high == pytest.approx(82 + ((100 * wilson.high - 82) ** 2 + half**2) ** 0.5, abs=1e-4)
    _, low, high = paper_tables.accuracy_interval([82], 100)
    assert (low, high) == (pytest.approx(100 * wilson.low), pytest.approx(100 * wilson.high))
    _, low, high = paper_tables.accuracy_interval([100, 90], 100)
    assert (high, low < 90) == (100.0, True)


def test_a_cell_holds_both_values_and_an_absolute_verdict(reported):
    study = Study().add("plain", 1000, [80, 84, 82], [40, 44, 42], reported=["plain_1k"])
    cell = study.cells(reported)["plain_1k"]
    assert (cell["paper_clean"], cell["paper_clean_std"]) == (80.0, 0.3)
    assert (cell["clean_mean"], cell["clean_std"], cell["seeds"]) == (82.0, 2.0, 3)
    assert (cell["clean_low"], cell["clean_high"]) == pytest.approx((72.01, 90.02), abs=0.005)
    assert (cell["synthetic_used"], cell["real"], cell["n_test"]) == (1000, 500, 100)
    assert cell["clean_verdict"] == "agrees"
    assert cell["robust_verdict"] == "differs by −18.0 points"


def test_one_seed_says_so(reported):
    study = Study().add("plain", 1000, [80], [42], reported=["plain_1k"])
    cell = study.cells(reported)["plain_1k"]
    assert cell["clean_verdict"] == "agrees, one seed"
    assert cell["robust_verdict"] == "differs by −18.0 points, one seed"
    assert cell["clean_std"] is None


@pytest.mark.parametrize(
    ("changes", "synthetic", "comparable", "reason"),
    [
        ({"data": {"subset": True}}, 1000, True, "a subset of the data"),
        ({}, 1000, False, "settings that are not the paper's"),
        ({}, 300, True, "300 synthetic images for 1,000"),
    ],
)
def test_reduced_runs_are_not_compared(reported, changes, synthetic, comparable, reason):
    study = Study().add("plain", synthetic, [80, 81], [60, 61], reported=["plain_1k"], **changes)
    cell = study.cells(reported, comparable=comparable)["plain_1k"]
    assert cell["clean_verdict"] == f"not comparable (reduced: {reason})"
    assert cell["robust_verdict"] == cell["clean_verdict"]


def test_nothing_is_blank_or_copied(reported):
    study = Study().add("guided", 2000, [80, 81], [60, 61], reported=["guided_2k"])
    study.add("extra", 700, [80, 81], [60, 61])
    cells = study.cells(reported)
    assert list(cells) == [*LAYOUT, "extra"]
    for name in ("none", "plain_1k", "plain_2k", "guided_1k"):
        assert cells[name]["clean_verdict"] == cells[name]["robust_verdict"] == "not run"
        assert cells[name]["arm"] is cells[name]["clean_mean"] is cells[name]["robust_mean"] is None
    assert cells["guided_2k"]["clean_verdict"] == "not given in the paper's text"
    assert cells["guided_2k"]["clean_mean"] == 80.5
    assert cells["extra"]["robust_verdict"] == "ours only"
    assert cells["extra"]["paper_robust"] is None


def test_data_and_network_are_said_and_have_defaults(reported):
    data = {"subset": True, "train": 400, "test": 200, "title": "CIFAR-10"}
    network = {"architecture": "wide_resnet", "depth": 10, "parameters": 1234}
    study = Study().add("plain", 1000, [80], [60], data=data, network=network)
    study.add("guided", 1000, [80], [60])
    said = [{key: cell[key] for key in paper_tables.USED} for cell in study.cells({}, []).values()]
    assert said[0] == {
        "data": "CIFAR-10",
        "subset": "yes",
        "train": 400,
        "test": 200,
        "network": "wide_resnet, depth 10",
        "parameters": 1234,
    }
    assert said[1] == {
        "data": "cifar10",
        "subset": "not recorded",
        "train": None,
        "test": 100,
        "network": "not recorded",
        "parameters": None,
    }


def test_seeds_of_one_arm_have_one_network(reported):
    study = Study().add("plain", 1000, [80, 81], [60, 61], network={"parameters": 5})
    study.found["plain", 1] = study.found["plain", 1] | {"network": {"parameters": 6}}
    with pytest.raises(InputError, match="arm plain, seed 1: parameters is 6 but 5"):
        study.cells(reported)


# ---------------------------------------------------------------- comparisons
def compare(reported, gains, *, ids=("guided_1k", "plain_1k"), size=1000, layout=LAYOUT):
    """The comparison of a guided arm whose robust accuracy is above its twin's by `gains`."""
    base = [60.0 + seed for seed in range(len(gains))]
    study = Study().add("plain", size, base, base, reported=ids[1:])
    ours = [a + b for a, b in zip(base, gains, strict=True)]
    study.add("guided", size, ours, ours, reported=ids[:1], baseline="plain")
    return study.comparisons(reported, layout)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([2.0, 1.0, 3.0], "inconclusive"),  # 2 ± 2.48
        ([2.0, 2.1, 1.9], "reproduced"),
        ([-2.0, -2.1, -1.9], "not reproduced"),
        ([2.0, 2.0, 2.0], "inconclusive"),  # alike by luck
        ([2.0], "inconclusive"),
    ],
)
def test_a_comparison_is_about_the_sign(reported, gains, verdict):
    row = compare(reported, gains)["guided", "robust"]
    assert row["paper_difference"] == 1.0
    assert row["paper_std"] == 0.5  # sqrt(0.3² + 0.4²)
    assert row["difference"] == pytest.approx(sum(gains) / len(gains))
    assert (row["pairs"], row["verdict"]) == (len(gains), verdict)
    if gains == [2.0, 1.0, 3.0]:
        # t(2) at 97.5% is 4.302653, times 1 / sqrt(3)
        assert (row["low"], row["high"]) == (-0.4841, 4.4841)


def test_a_fall_in_the_paper_is_reproduced_by_a_fall(tmp_path):
    reported = read_reported(tmp_path, [line.replace(",61,0.4", ",59,0.4") for line in LINES])
    assert compare(reported, [-2.0, -2.1, -1.9])["guided", "robust"]["verdict"] == "reproduced"
    assert compare(reported, [2.0, 2.1, 1.9])["guided", "robust"]["verdict"] == "not reproduced"


def test_no_difference_in_the_paper_decides_nothing(reported):
    row = compare(reported, [2.0, 2.1, 1.9])["guided", "clean"]
    assert (row["paper_difference"], row["verdict"]) == (0.0, "inconclusive")


def test_without_a_difference_in_the_paper_ours_stands_alone(reported):
    found = compare(reported, [2.0, 2.1, 1.9], ids=("guided_2k", "plain_2k"), size=2000)
    assert (found["guided", "clean"]["paper_difference"]) is None
    assert found["guided", "clean"]["verdict"] == "ours only: higher"
    assert found["guided", "robust"]["verdict"] == "reproduced"
    assert found["guided", "robust"]["paper_std"] is None
    found = compare({}, [-2.0, -2.1, -1.9], ids=(), layout=[])
    assert (found["guided", "clean"]["id"], found["guided", "clean"]["verdict"]) == (
        None,
        "ours only: lower",
    )


@pytest.mark.parametrize("other", ["plain_2k", "old_plain_1k"])
def test_twins_are_of_one_size_and_text(reported, other):
    row = compare(reported, [2.0, 2.1, 1.9], ids=("guided_1k", other))["guided", "robust"]
    assert (row["baseline_id"], row["verdict"]) == (None, "ours only: higher")


def test_synthetic_data_is_held_against_none(reported):
    study = Study().add("none", 0, [70, 71], [50, 51], reported=["none"])
    study.add("plain", 1000, [75, 76.2], [56, 57.1], reported=["plain_1k"], baseline="none")
    row = study.comparisons(reported)["plain", "clean"]
    assert (row["baseline_id"], row["paper_difference"], row["paper_std"]) == ("none", 10.0, None)
    assert row["difference"] == pytest.approx(5.1)


# ---------------------------------------------------------------- what is refused
def spoil(study, what):
    layout = list(LAYOUT)
    guided = study.arms[1]
    if what == "layout":
        layout.append("plain_9k")
    elif what == "cell twice":
        layout.append("plain_1k")
    elif what == "unknown":
        guided["reported"] = ["guided_9k"]
    elif what == "other data":
        guided["reported"] = ["signs"]
    elif what == "taken":
        guided["reported"] = ["plain_1k"]
    elif what == "no baseline":
        guided["baseline"] = "ddpm"
    elif what == "itself":
        guided["baseline"] = "guided"
    elif what == "unequal":
        study.arms[0]["synthetic"] = 700
        for seed in (0, 1):
            study.found["plain", seed]["synthetic"] = 700
    elif what == "no key":
        del guided["reported"]
    return layout


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("layout", "layout: no reported row has the id 'plain_9k'"),
        ("cell twice", "ids plain_1k and plain_1k are one cell"),
        ("unknown", "arm guided: no reported row has the id 'guided_9k'"),
        ("other data", "is of cifar10 but the reported row signs of gtsrb"),
        ("taken", "arms plain and guided: both have the reported row plain_1k"),
        ("no baseline", "arm guided: its baseline ddpm is no other arm"),
        ("itself", "arm guided: its baseline guided is no other arm"),
        ("unequal", "has 1000 synthetic images but its baseline plain 700"),
        ("no key", "arm guided: lacks 'reported'"),
    ],
)
def test_rows_that_do_not_fit_are_refused_in_one_line(reported, what, said):
    study = Study().add("plain", 1000, [80, 81], [60, 61], reported=["plain_1k"])
    study.add("guided", 1000, [80, 81], [60, 61], reported=["guided_1k"], baseline="plain")
    layout = spoil(study, what)
    for make in (study.cells, study.comparisons):
        with pytest.raises(InputError) as error:
            make(reported, layout)
        assert said in str(error.value)
        assert "\n" not in str(error.value)


# ---------------------------------------------------------------- layout
def test_methods_are_rows_and_sizes_columns(reported):
    subset = {"data": {"subset": True, "train": 400, "test": 200, "title": "CIFAR-10"}}
    study = Study().add("plain", 300, [80, 82], [60, 61], reported=["plain_1k"], **subset)
    study.add("extra", 700, [50], [40], train_on="synthetic", **subset)
    cells = frame(study.cells(reported, comparable=False).values())
    header, lines, right = laid_out(cells)
    assert header == [
        *("Method", "Run", "Clean, none", "Robust, none", "Clean, 1K", "Robust, 1K"),
        *("Clean, 2K", "Robust, 2K", "Clean, ours only", "Robust, ours only"),
    ]
    assert right == [False, False, *[True] * 8]
    assert [line[:2] for line in lines] == [
        ["No data", "paper"],
        ["No data", "ours"],
        ["Plain", "paper"],
        ["Plain", "ours (subset)"],
        ["Plain", "verdict"],
        ["Guided", "paper"],
        ["Guided", "ours"],
        ["EXTRA", "ours only (subset), 0 real + 700 synthetic"],
    ]
    assert lines[1][2:] == ["not run", "not run", *["–"] * 6]
    assert lines[2][2:8] == ["–", "–", "80.00 ± 0.30", "60.00 ± 0.30", "82.00", "62.00"]
    assert re.fullmatch(r"81\.00 ± 1\.41 \[\d\d\.\d, \d+\.\d\] \(2; 300 images\)", lines[3][4])
    assert lines[3][6:] == ["not run", "not run", "–", "–"]
    assert lines[4][4:] == ["not comparable", "not comparable", "–", "–", "–", "–"]
    assert lines[5][6:8] == ["not given", "63.00"]
    assert lines[7][:-2][2:] == ["–"] * 6
    assert lines[7][-1].startswith("40.00 [")
    assert not any(cell == "" for line in lines for cell in line)


def test_the_last_checkpoint_and_the_nearest_images_stand_beside_ours(reported):
    study = Study().add("plain", 1000, [80, 82], [60, 61], reported=["plain_1k"])
    study.add("more", 2000, [80, 82], [60, 61], reported=["plain_2k"], generator="plain")
    study.add("extra", 700, [50], [40])
    for name, values in (("plain", (0.5, 0.52)), ("extra", (0.3,))):
        for seed, value in enumerate(values):
            study.found[name, seed]["last"] = {"clean_accuracy": 0.7, "robust_accuracy": value}
    nearest = {
        ("cifar10", name, 500, seed): {"nearest": 4.0 + seed, "nearest_heldout": 6.0}
        for name in ("plain", "extra")
        for seed in (0, 1)
    }
    table = paper_tables.cell_table(
        study.found, study.arms, reported, LAYOUT, comparable=True, nearest=nearest
    )
    by_arm = {cell["arm"]: cell for cell in as_rows(table) if cell["arm"]}
    assert (by_arm["plain"]["last_robust_mean"], by_arm["more"]["last_robust_mean"]) == (51.0, None)
    assert by_arm["extra"]["nearest_mean"] == 4.0
    header, lines, right = laid_out(table)
    assert {len(line) for line in lines} == {len(header)} == {len(right)}
    assert header[-1] == "Nearest training image"
    shown = {tuple(line[:2]): line for line in lines}
    last = shown["Plain", "ours, last checkpoint"]
    assert last[4:] == ["70.00", "51.00", "–", "–", "–", "–", "–"]
    assert shown["EXTRA", "ours, last checkpoint"][-3:] == ["70.00", "30.00", "–"]
    assert shown["Plain", "ours"][-1] == "4.50"
    assert lines[-2][-1] == "4.00"
    assert shown["Plain", "paper"][-1] == shown["Guided", "ours"][-1] == "–"
    assert ("Guided", "ours, last checkpoint") not in shown
    text = paper_layout.caption(study.found, table, comparable=True)
    assert "Ours, last checkpoint: mean of the last training step's" in text
    assert "test images, which nobody copied, lie at 6.00 (cifar10, 500 real images)" in text
    runs = as_rows(paper_tables.run_table(study.found, study.arms, reported))
    assert [(run["last_clean"], run["last_robust"]) for run in runs] == [
        *((70.0, 50.0), (70.0, 52.0), (None, None), (None, None), (70.0, 30.0))
    ]


def test_the_caption_says_what_was_used(reported):
    subset = {"data": {"subset": True, "train": 400, "test": 200, "title": "CIFAR-10"}}
    network = {"network": {"architecture": "wide_resnet", "parameters": 1234}}
    study = Study().add("plain", 1000, [80], [60], reported=["plain_1k"], **subset, **network)
    text = paper_layout.caption(
        study.found, frame(study.cells(reported, comparable=False).values()), comparable=False
    )
    assert "4 of the paper's 5 cells were not run" in text
    assert "Subset: a part of CIFAR-10 stood for the whole, 400 training and 200 test" in text
    assert "Network: wide_resnet (1,234 parameters)" in text
    assert "eps = 8/255" in text
    assert "not comparable" in text
    assert "Warning" not in text
    full = Study().add("plain", 1000, [80], [60], reported=["plain_1k"])
    warning = {"name": "scaled-logits", "says": "large", "images": 1, "of": 100}
    full.found["plain", 0]["gate"] = [warning]
    text = paper_layout.caption(full.found, frame(full.cells(reported).values()), comparable=True)
    assert "Warning of PLAIN, scaled-logits: large (seed 0, 1 of 100)." in text
    assert "ubset" not in text
    assert "not comparable" not in text


def test_several_eps_stand_in_one_table():
    study = Study()
    for eps in ("1/10", "0.2"):
        name = eps.replace("/", "_").replace(".", "_")
        study.add(f"plain_{name}", 1000, [80, 81], [60, 61], eps=eps)
        study.add(f"guided_{name}", 1000, [80, 81], [60, 62], eps=eps, baseline=f"plain_{name}")
    cells = study.cells({}, [])
    assert [cell["eps"] for cell in cells.values()] == ["1/10", "1/10", "0.2", "0.2"]
    text = paper_layout.caption(study.found, frame(cells.values()), comparable=True)
    assert "eps = 1/10" in text
    assert "eps = 0.2" in text
    assert "prints no numbers" in text
    study.arms[1]["baseline"] = "plain_0_2"
    with pytest.raises(InputError, match="no other arm of this table with its data set and eps"):
        study.cells({}, [])


def test_the_reported_file_has_the_promised_columns():
    assert list(read_csv(REPORTED)[0]) == list(paper_tables.REPORTED_COLUMNS)


def test_runs_name_their_attack_however_its_eps_is_written():
    study = Study().add("plain", 1000, [80, 80, 80], [50, 51, 52])
    study.found["plain", 1]["attack"] = dict(reversed(ATTACK.items())) | {"eps": "16/510"}
    study.found["plain", 2]["attack"] = ATTACK | {"iterations": {"apgd-ce": 20}}
    first, same, shorter = as_rows(paper_tables.run_table(study.found, study.arms))
    assert set(first) == set(paper_tables.RUN_COLUMNS)
    assert re.fullmatch("standard [0-9a-f]{8}", first["attack"])
    assert first["attack"] == same["attack"] != shorter["attack"]
    assert first["mixed_attacks"] is None
    allowed = paper_tables.run_table(study.found, study.arms, mixed_attacks=["cifar10"])
    assert set(allowed["mixed_attacks"]) == {"yes"}
