"""Rows of the robustness table against numbers worked out by hand, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from contrastdp.errors import InputError
from contrastdp.frames import as_rows, as_table, read_table, write_table
from contrastdp.report import tables

ATTACK = {
    "version": "standard",
    "attacks": ["apgd-ce", "square"],
    "norm": "Linf",
    "eps": "1/10",
    "seed": 0,
}
ROBUST = {"ddim": [0.80, 0.84, 0.82], "none": [0.75, 0.80, 0.77], "hnm": [0.82, 0.83, 0.80]}


def make_arm(name, **changes):
    arm = {"arm": name, "dataset": "digits", "generator": name, "real": 200, "synthetic": 2000}
    arm |= {"selection": "none", "trainer": "trades", "seeds": [0, 1, 2], "title": name.upper()}
    return arm | changes


def make_evaluation(arm, seed, robust, **changes):
    return (
        {key: arm[key] for key in ("arm", *tables.SHARED)}
        | {"seed": seed, "n_test": 100, "clean_accuracy": 0.9, "robust_accuracy": robust}
        | {"attack": ATTACK}
        | changes
    )


def make_study():
    arms = [make_arm("none", synthetic=0), make_arm("ddim"), make_arm("hnm")]
    found = {
        (arm["arm"], seed): make_evaluation(arm, seed, ROBUST[arm["arm"]][seed])
        for arm in arms
        for seed in arm["seeds"]
    }
    return found, arms


def make_rows(*study, **how):
    return as_rows(tables.robustness_table(*study, **how))


def frame(rows):
    return as_table(rows, tables.COLUMNS)


def human(rows):
    """Header and cells that people read."""
    cells = tables.human_cells(frame(rows))
    return list(cells), cells.to_numpy().tolist()


def test_rows_hold_percentages_worked_out_by_hand():
    found, arms = make_study()
    rows = {row["arm"]: row for row in make_rows(found, arms, "ddim")}
    assert list(rows) == ["none", "ddim", "hnm"]
    ddim, none, hnm = rows["ddim"], rows["none"], rows["hnm"]
    assert (ddim["robust_mean"], ddim["robust_std"]) == (82.0, 2.0)
    # t(2) at 97.5% is 4.302653; 2 / sqrt(3) = 1.154701
    assert ddim["robust_low"] == pytest.approx(82 - 4.302653 * 1.154701, abs=1e-4)
    assert ddim["robust_high"] == pytest.approx(82 + 4.302653 * 1.154701, abs=1e-4)
    assert (ddim["clean_mean"], ddim["clean_std"], ddim["n_test"]) == (90.0, 0.0, 100)
    assert none["difference"] == pytest.approx((-5 - 4 - 5) / 3, abs=1e-4)
    assert (none["pairs"], none["reference"], none["synthetic"]) == (3, "ddim", 0)
    assert hnm["difference"] == pytest.approx((2 - 1 - 2) / 3, abs=1e-4)
    assert hnm["difference_low"] < 0 < hnm["difference_high"]
    # -5 -4 -5 are of one sign: 2 of 8 patterns. No sum of ±2 ±1 ±2 is nearer to 0 than 1.
    assert (none["sign_flip_p"], hnm["sign_flip_p"]) == (0.25, 1.0)
    assert (none["holm_p"], hnm["holm_p"], ddim["holm_p"]) == (0.5, 1.0, None)
    assert none["images_won"] is none["mcnemar_p"] is None
    assert ddim["robust_error_seeds"] == pytest.approx(1.1547, abs=1e-4)
    assert ddim["robust_error_images"] == pytest.approx(100 * (0.82 * 0.18 / 100) ** 0.5, abs=1e-4)
    assert ddim["difference"] is ddim["reference"] is ddim["pairs"] is None
    # Wilson's interval of 82 of 100, from a published calculator's formula worked by hand.
    assert ddim["robust_wilson_low"] == pytest.approx(73.3, abs=0.1)
    assert ddim["robust_wilson_high"] == pytest.approx(88.3, abs=0.1)


def test_one_seed_leaves_the_spread_empty():
    arm = make_arm("ddim", seeds=[4])
    found = {("ddim", 4): make_evaluation(arm, 4, 0.8)}
    (row,) = make_rows(found, [arm])
    assert row["robust_mean"] == 80.0
    for key in ("robust_std", "robust_low", "robust_high", "clean_low", "difference"):
        assert row[key] is None
    assert (
        "±"
        not in tables.markdown_table(
            frame([row]), tables.caption(found, frame([row]))
        ).splitlines()[-1]
    )


def test_each_data_set_has_its_own_attack_and_reference():
    arms = [make_arm("ddim"), make_arm("hnm")]
    arms += [make_arm(name, dataset="mnist") for name in ("m_ddim", "m_hnm")]
    found = {}
    for arm in arms:
        for seed in arm["seeds"]:
            other = {"n_test": 50, "attack": ATTACK | {"eps": "3/10"}}
            changes = other if arm["dataset"] == "mnist" else {}
            found[arm["arm"], seed] = make_evaluation(arm, seed, 0.5, **changes)
    rows = {row["arm"]: row for row in make_rows(found, arms, ["ddim", "m_ddim"])}
    assert rows["m_hnm"]["reference"] == "m_ddim"
    assert rows["hnm"]["reference"] == "ddim"
    text = tables.caption(found, frame(rows.values()))
    assert "eps = 1/10" in text
    assert "eps = 3/10" in text
    assert human(rows.values())[0][0] == "Data"


def spoil(found, arms, what):
    first = ("ddim", 1)
    if what == "missing":
        del found[first]
    elif what == "unasked":
        arms.pop()
    elif what == "no seeds":
        arms[1]["seeds"] = []
    elif what == "seed twice":
        arms[1]["seeds"] = [0, 1, 1]
    elif what == "no title":
        del arms[1]["title"]
    elif what == "attack":
        found[first]["attack"] = ATTACK | {"eps": "2/10"}
    elif what == "n_test":
        found[first]["n_test"] = 99
    else:
        found[first][what] = 7


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing", "arm ddim, seed 1: has no evaluation"),
        ("unasked", "is evaluated but in no row"),
        ("no seeds", "has no seeds"),
        ("seed twice", "named twice"),
        ("no title", "lacks 'title'"),
        ("attack", "attack eps is '2/10' but '1/10'"),
        ("n_test", "n_test is 99 but 100"),
        *((key, f"arm ddim, seed 1: {key} is 7 in its evaluation") for key in tables.SHARED),
    ],
)
def test_rows_that_may_not_be_compared_are_refused_in_one_line(what, said):
    found, arms = make_study()
    spoil(found, arms, what)
    with pytest.raises(InputError) as error:
        make_rows(found, arms, "none")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_attacks_are_mixed_only_when_told_and_the_caption_says_so():
    found, arms = make_study()
    other = ATTACK | {"version": "aa+mt", "iterations": {"mt": 200}}
    for seed in arms[2]["seeds"]:
        found["hnm", seed]["attack"] = other
    assert tables.mixtures(*make_study()) == []
    with pytest.raises(InputError, match="attack version is 'aa"):
        make_rows(found, arms, "ddim", mixed_attacks=["mnist"])
    rows = make_rows(found, arms, "ddim", mixed_attacks=["digits"])
    text = tables.caption(found, frame(rows), tables.mixtures(found, arms))
    assert text.count("Attacks of digits are mixed") == 1
    assert "arm hnm differs from arm ddim in version, iterations." in text
    found["hnm", 1]["n_test"] = 99
    with pytest.raises(InputError, match="n_test is 99"):
        make_rows(found, arms, "ddim", mixed_attacks=["digits"])


def test_an_eps_is_a_fraction_however_written():
    found, arms = make_study()
    found["hnm", 1]["attack"] = ATTACK | {"eps": "0.1"}
    tables.check_evaluations(found, arms)
    found["hnm", 1]["attack"] = ATTACK | {"eps": "0.11"}
    with pytest.raises(InputError, match="attack eps"):
        tables.check_evaluations(found, arms)


def test_steps_of_an_attack_are_said():
    said = tables.describe_attack(ATTACK | {"iterations": {"apgd-ce": 100, "square": 5000}})
    assert "(apgd-ce 100, square 5000)" in said


@pytest.mark.parametrize(
    ("reference", "said"), [("dim", "no arm"), (["ddim", "hnm"], "one already")]
)
def test_a_reference_must_be_one_arm_of_the_table(reference, said):
    found, arms = make_study()
    with pytest.raises(InputError, match=said):
        make_rows(found, arms, reference)


def test_an_arm_with_a_baseline_of_its_own_is_compared_with_that():
    found, arms = make_study()
    arms[2]["baseline"] = "none"
    rows = {row["arm"]: row for row in make_rows(found, arms, "ddim")}
    assert (rows["hnm"]["reference"], rows["none"]["reference"]) == ("none", "ddim")
    # hnm - ddim is 2, -1, -2 and none - ddim -5, -4, -5
    assert rows["hnm"]["difference"] == pytest.approx((7 + 3 + 3) / 3, abs=1e-4)
    arms[2]["baseline"] = "dim"
    with pytest.raises(InputError, match="arm hnm: its baseline dim is no arm"):
        make_rows(found, arms, "ddim")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"robust_accuracy": 83.0}, "fraction"),
        ({"n_test": 0}, "n_test is 0"),
        ({"attack": None}, None),
    ],
)
def test_evaluations_are_read_once_each(tmp_path, changes, said):
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(make_evaluation(make_arm("ddim"), 0, 0.8) | changes))
    if said is None:
        assert list(tables.read_evaluations([path])) == [("ddim", 0)]
        with pytest.raises(InputError, match=r"seed 0 was already given"):
            tables.read_evaluations([path, path])
    else:
        with pytest.raises(InputError, match=said):
            tables.read_evaluations([path])


def test_an_evaluation_that_lacks_a_key_is_refused(tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"arm": "ddim", "seed": 0}))
    with pytest.raises(InputError, match="lacks 'dataset'"):
        tables.read_evaluations([path])


def test_a_table_written_is_read_back_alike(tmp_path):
    rows = make_rows(*make_study(), "ddim")
    path = tmp_path / "t.csv"
    write_table(path, frame(rows))
    assert as_rows(read_table(path, tables.COLUMNS)) == rows
    added = list(tables.COLUMNS)[list(tables.COLUMNS).index("robust_error_seeds") :]
    write_table(path, frame(rows).drop(columns=added))
    back = as_rows(read_table(path, tables.COLUMNS))
    assert back[0]["difference"] == rows[0]["difference"]
    assert {row[key] for row in back for key in added} == {None}
    assert tables.comparisons.HEADER not in human(back)[0]
    path.write_text("arm,reel\na,1\n")
    with pytest.raises(InputError, match="missing or unknown"):
        read_table(path, tables.COLUMNS)


def test_people_see_signs_intervals_and_the_reference():
    found, arms = make_study()
    arms[2]["title"] = "50% | HNM_head & more"
    rows = make_rows(found, arms, "ddim")
    text = tables.caption(found, frame(rows))
    markdown = tables.markdown_table(frame(rows), text)
    assert "100 test images" in markdown
    assert "eps = 1/10" in markdown
    assert "over 3 seeds" in markdown
    assert "82.0 ± 2.0 [77.0, 87.0] | reference | – |" in markdown
    widths = [row["robust_wilson_high"] - row["robust_wilson_low"] for row in rows]
    assert f"by up to {max(widths) / 2:.1f} points" in text
    assert "mean ± standard deviation over 3 seeds" in text
    assert "−4.67 [−6.10, −3.23]" in markdown
    assert "| 50% \\| HNM_head & more |" in markdown
    latex = tables.latex_table(frame(rows), text, "robustness")
    assert r"50\% | HNM\_head \& more" in latex
    assert r"\label{tab:robustness}" in latex
    # As many cells in each row as the header has.
    lines = latex.split(r"\toprule")[1].split(r"\bottomrule")[0].splitlines()
    assert {line.replace(r"\&", "").count("&") for line in lines if line.endswith(r"\\")} == {7}


def test_warnings_of_gate_and_attack_stand_in_the_caption_with_their_arm():
    found, arms = make_study()
    scaled = {"name": "scaled-logits", "says": "100% of it is large", "images": 3, "of": 9}
    same = {"name": "constant-logits", "says": "the same", "images": None, "of": None}
    found["ddim", 0]["gate"] = [scaled]
    lower = {"name": "square-lowers", "says": "Square breaks more", "images": 2, "of": 100}
    found["ddim", 1]["warnings"] = [lower]
    found["none", 1]["warnings"] = []
    found["ddim", 2]["gate"] = [scaled | {"images": 4}, same]
    found["none", 1]["gate"] = []
    rows = make_rows(found, arms, "none")
    text = tables.caption(found, frame(rows))
    first = "Warning of DDIM, scaled-logits: 100% of it is large (seed 0, 3 of 9; 2, 4 of 9)."
    assert first in text
    assert "Warning of DDIM, constant-logits: the same (seed 2)." in text
    assert "Warning of DDIM, square-lowers: Square breaks more (seed 1, 2 of 100)." in text
    assert text.count("Warning") == 3
    assert first in tables.markdown_table(frame(rows), text)
    assert r"100\% of it is large" in tables.latex_table(frame(rows), text, "robustness")
    assert "Warning" not in tables.caption(
        found, frame(row for row in rows if row["arm"] != "ddim")
    )


# ---------------------------------------------------------------- beside the best checkpoint
def attack_last(found, arm, robust):
    for seed, value in enumerate(robust):
        last = {"clean_accuracy": value + 0.1, "robust_accuracy": value, "gate": []}
        found[arm, seed]["last"] = last


def test_the_last_checkpoint_has_its_columns_and_changes_nothing_else(tmp_path):
    found, arms = make_study()
    plain = make_rows(found, arms, "ddim")
    assert tables.LAST_HEADER not in human(plain)[0]
    assert tables.LAST_SENTENCE not in tables.caption(found, frame(plain))
    attack_last(found, "ddim", [0.50, 0.56, 0.62])
    attack_last(found, "none", [0.50, 0.56])  # not in its third seed
    rows = {row["arm"]: row for row in make_rows(found, arms, "ddim")}
    assert (rows["ddim"]["last_clean_mean"], rows["ddim"]["last_robust_mean"]) == (66.0, 56.0)
    for name in ("none", "hnm"):
        assert rows[name]["last_clean_mean"] is rows[name]["last_robust_mean"] is None
    for before, after in zip(plain, rows.values(), strict=True):
        assert before == after | dict.fromkeys(tables.LAST)
    rows = list(rows.values())
    header, cells = human(rows)
    place = header.index("Robust, last")
    assert header[place - 1] == "Robust"
    assert [line[place] for line in cells] == ["–", "56.0", "–"]
    assert tables.LAST_SENTENCE in tables.caption(found, frame(rows))
    write_table(tmp_path / "t.csv", frame(rows))
    assert as_rows(read_table(tmp_path / "t.csv", tables.COLUMNS)) == rows


def test_warnings_of_the_last_checkpoint_are_told_as_its_own():
    found, arms = make_study()
    attack_last(found, "ddim", [0.5, 0.5, 0.5])
    warning = {"name": "scaled-logits", "says": "large", "images": 3, "of": 9}
    found["ddim", 1]["last"]["gate"] = [warning]
    text = tables.caption(found, frame(make_rows(found, arms)))
    assert "Warning of DDIM (last checkpoint), scaled-logits: large (seed 1, 3 of 9)." in text
    assert text.count("Warning") == 1


def test_the_nearest_training_image_stands_beside_the_accuracy():
    found, arms = make_study()
    arms[0]["generator"] = None
    for seed in (0, 1, 2):
        found["none", seed]["generator"] = None
    nearest = {
        ("digits", name, 200, seed): {"nearest": value + seed, "nearest_heldout": 7.0 + seed}
        for name, value in (("ddim", 5.0), ("hnm", 3.0))
        for seed in (0, 1, 2)
    }
    rows = make_rows(found, arms, "ddim", nearest=nearest)
    assert [row["nearest_mean"] for row in rows] == [None, 6.0, 4.0]
    assert [row["nearest_heldout_mean"] for row in rows] == [8.0] * 3
    header, cells = human(rows)
    place = header.index("Nearest training image")
    assert [line[place] for line in cells] == ["–", "6.00", "4.00"]
    assert "lie at 8.00 (digits, 200 real images)." in tables.caption(found, frame(rows))
    bare = make_rows(found, arms, "ddim")
    assert "Nearest" not in " ".join([*human(bare)[0], tables.caption(found, frame(bare))])


def test_the_reporting_end_loads_no_torch():
    code = (
        "import sys; from contrastdp.report import figures, page, tables; "
        "import make_table, write_report, plot_sizes, plot_tsne, plot_samples, gather_attacks; "
        "print('torch' in sys.modules)"
    )
    scripts = Path(__file__).parents[3] / "scripts"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=scripts, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_one_data_set_may_be_attacked_with_several_eps():
    arms, found = [], {}
    for eps, written in (("1/10", "0.1"), ("2/10", "2/10")):
        for name in ("ddim", "hnm"):
            arm = make_arm(f"{name}_{written}", eps=eps)
            arms.append(arm)
            for seed in arm["seeds"]:
                attack = ATTACK | {"eps": written}
                robust = ROBUST[name][seed]
                found[arm["arm"], seed] = make_evaluation(arm, seed, robust, attack=attack)
    rows = make_rows(found, arms, ["ddim_0.1", "ddim_2/10"])
    assert [row["reference"] for row in rows] == [None, "ddim_0.1", None, "ddim_2/10"]
    text = tables.caption(found, frame(rows))
    assert "eps = 0.1" in text
    assert "eps = 2/10" in text
    with pytest.raises(InputError, match="one already"):
        make_rows(found, arms, ["ddim_0.1", "hnm_0.1"])
    arms[0]["eps"] = "3/10"
    with pytest.raises(InputError, match=r"attacked with eps 0\.1, not 3/10"):
        make_rows(found, arms)


@pytest.mark.parametrize(("accuracy", "fine"), [(0.0, True), (1.0, True), (-0.01, False)])
def test_an_accuracy_is_a_fraction_ends_included(tmp_path, accuracy, fine):
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(make_evaluation(make_arm("ddim"), 0, accuracy)))
    if fine:
        assert tables.read_evaluations([str(path)])["ddim", 0]["robust_accuracy"] == accuracy
    else:
        with pytest.raises(InputError, match=r"robust_accuracy is -0\.01"):
            tables.read_evaluations([str(path)])


@pytest.mark.parametrize("key", ["seed", "n_test", "clean_accuracy", "robust_accuracy"])
@pytest.mark.parametrize("value", ["0.5", True, None, [0.5]])
def test_what_is_no_number_in_an_evaluation_is_told(tmp_path, key, value):
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(make_evaluation(make_arm("ddim"), 0, 0.5) | {key: value}))
    with pytest.raises(InputError) as error:
        tables.read_evaluations([str(path)])
    assert str(error.value).startswith(f"{path}: {key} is {value!r}, expected a number")


def test_images_won_are_the_arms_own_and_holm_counts_all_comparisons():
    found, arms = make_study()
    images = {
        name: pd.DataFrame(
            {
                "index": range(100),
                "label": 0,
                "broken_by": [
                    "" if i < round(100 * e["robust_accuracy"]) else "b" for i in range(100)
                ],
            }
        )
        for name, e in found.items()
    }
    rows = {r["arm"]: r for r in make_rows(found, arms, "ddim", outcomes=images)}
    # 82, 83, 80 against 80, 84, 82 images, the same ones first
    assert (rows["hnm"]["images_won"], rows["hnm"]["images_lost"]) == (2, 3)
    assert (rows["none"]["images_won"], rows["none"]["images_lost"]) == (0, 14)
    # 2/8 for three losses; two comparisons
    assert (rows["none"]["sign_flip_p"], rows["none"]["holm_p"]) == (0.25, 0.5)
