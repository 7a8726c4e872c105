"""The audit's table from flags written by hand: each measure, each sign, and bad files."""

import copy

import pytest

from contrastdp.errors import InputError
from contrastdp.files import write_json
from contrastdp.report import audit_table as table

N = 100
ATTACK = {"norm": "Linf", "eps": "1/10", "seed": 0, "batch": 9, "images": N, "steps": 4}
ATTACK |= {"queries": 50, "factors": [1]}
TITLES = {"plain": "Plain", "guided": "Guided | all"}


def flags(count, start=0):
    """True for `count` images from `start` on."""
    return [start <= index < start + count for index in range(N)]


def content(arm="plain", seed=0, **images):
    """An honest network: 90 right, 70 under gradient attacks, 72 under Square and transfer."""
    own = flags(70)
    rungs = [{"eps": eps, "right": right} for eps, right in ((0.1, own), (1.0, flags(0)))]
    honest = {"clean": flags(90), "at_zero": flags(90), "zero_gradient": flags(0)}
    honest |= {"saturated": flags(45), "apgd_ce": own, "apgd_dlr": own, "by_eps": rungs}
    honest |= {"square": flags(72), "transfer": flags(72)}
    shared = {"dataset": "digits", "other": "ddim", "attack": ATTACK, "n": N}
    return {"arm": arm, "seed": seed, "images": honest | images} | shared


def row_of(**images):
    return table.audit_row(content(**images), "Plain")


def read(folder, contents):
    for number, each in enumerate(contents):
        write_json(folder / f"{number}.json", each)
    return table.read_audits(str(folder / f"{n}.json") for n in range(len(contents)))


# ---------------------------------------------------------------- measures
def test_measures_of_an_honest_network():
    row = row_of()
    assert set(row) == set(table.COLUMNS)
    assert row["verdict"] == table.NO_SIGN
    assert (row["clean"], row["apgd_ce"], row["square"], row["transfer"]) == (90, 70, 72, 72)
    # Wilson (1927) by hand: 90 of 100, z = 1.96
    assert (row["clean_low"], row["clean_high"]) == (82.56, 94.48)
    assert (row["zero_gradient"], row["square_of_left"], row["largest_eps"]) == (0, 0, 0)
    assert row["zero_gradient_high"] == 4.09  # z² / (n + z²) of the 90 right images
    assert row["saturated"] == 50
    assert (row["square_alone"], row["apgd_ce_alone"], row["left"]) == (0, 2, 70)
    assert row["by_eps"] == "0.1: 70.0; 1: 0.0"


def test_left_is_what_no_gradient_attack_breaks():
    row = row_of(apgd_dlr=flags(60), square=flags(70, start=12))
    assert (row["left"], row["square_of_left"]) == (60, 20.0)
    assert (row["square_alone"], row["apgd_ce_alone"]) == (12, 12)


def test_without_another_arm_or_a_right_image_cells_are_empty():
    row = row_of(transfer=None)
    assert row["transfer"] is row["transfer_alone"] is row["transfer_low"] is None
    assert row["verdict"] == table.NO_SIGN
    nothing = dict.fromkeys(("clean", "at_zero", "apgd_ce", "apgd_dlr", "square"), flags(0))
    row = row_of(**nothing, transfer=flags(0), by_eps=[{"eps": 1.0, "right": flags(0)}])
    assert row["zero_gradient"] is row["square_of_left"] is row["saturated"] is None
    assert row["verdict"] == table.NO_SIGN


# ---------------------------------------------------------------- signs
def rungs(*rights):
    return [{"eps": 0.1 * (i + 1), "right": right} for i, right in enumerate(rights)]


@pytest.mark.parametrize(
    ("images", "sign"),
    [
        # the smallest numbers of 90, or of 70, whose Wilson interval lies above 2%
        ({"zero_gradient": flags(5)}, "zero_gradient"),
        ({"square": flags(86, start=5)}, "square_of_left"),
        ({"at_zero": flags(89)}, "at_zero"),
        ({"by_eps": rungs(flags(70), flags(1))}, "largest_eps"),
        # four to none is the fewest that chance does not give at 5%, by Wilson's interval
        ({"transfer": flags(66)}, "transfer"),
        ({"by_eps": rungs(flags(30), flags(34), flags(0))}, "by_eps"),
    ],
)
def test_each_sign_is_named_alone(images, sign):
    assert row_of(**images)["verdict"] == table.VERDICTS[sign]


@pytest.mark.parametrize(
    "images",
    [
        {"zero_gradient": flags(4)},
        {"zero_gradient": flags(10, start=90)},  # of wrong images, which nobody attacks
        {"square": flags(87, start=3)},
        {"transfer": flags(67)},
        {"transfer": flags(70, start=10)},
        {"by_eps": rungs(flags(30), flags(33), flags(0))},
        {"saturated": flags(90)},
    ],
)
def test_what_chance_gives_is_no_sign(images):
    assert row_of(**images)["verdict"] == table.NO_SIGN


def test_square_ahead_of_apgd_is_a_sign_and_signs_are_joined():
    found = row_of(square=flags(66), zero_gradient=flags(90))
    named = ("zero_gradient", "square_of_left", "square")
    assert found["verdict"] == "; ".join(table.VERDICTS[sign] for sign in named[:1] + named[1:])
    # what APGD-DLR breaks as well is no more than APGD-CE's failure
    found = row_of(square=flags(66), apgd_dlr=flags(66))
    assert found["verdict"] == table.VERDICTS["square"]


def test_a_rise_is_that_of_the_same_images():
    found = row_of(by_eps=rungs(flags(40), flags(45, start=30), flags(0)))
    assert found["rises"] == 5
    assert found["verdict"] == table.NO_SIGN  # 35 images one way, 30 the other


# ---------------------------------------------------------------- files and text
def test_rows_are_in_the_order_of_arms_and_seeds(tmp_path):
    found = read(tmp_path, [content("guided", 1), content("guided", 0), content("plain", 2)])
    made = table.audit_table(found, TITLES)
    assert list(zip(made["arm"], made["seed"], strict=True)) == [
        ("plain", 2),
        ("guided", 0),
        ("guided", 1),
    ]
    text = table.markdown_table(made, table.caption(made, found))
    lines = text.splitlines()
    assert lines[0].startswith("0 of 3 networks show a sign")
    assert "first 100 images of the validation split" in lines[0]
    assert "AutoPGD with 4 steps, Square with 50 queries" in lines[0]
    assert len(lines) == 2 + 2 + 3
    assert len({line.replace("\\|", "").count("|") for line in lines[2:]}) == 1
    assert "| Guided \\| all | 0 | no sign of masking | 90.0 [82.6, 94.5] | 0 |" in text
    assert "72.0 [62.5, 79.9] (0 / 2)" in text


def test_arms_of_one_title_are_told_apart_by_name(tmp_path):
    found = read(tmp_path, [content("guided"), content("plain")])
    text = table.markdown_table(table.audit_table(found, dict.fromkeys(TITLES, "Same")), "")
    assert "| plain | 0 |" in text
    assert "Same" not in text


def damaged(path, value):
    broken = copy.deepcopy(content(seed=1))
    *parents, last = path
    place = broken
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return broken


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("attack",), None, "lacks 'attack'"),
        (("images", "square"), None, "images lacks 'square'"),
        (("images", "clean"), [True], "images.clean has 1 entries for 100"),
        (("images", "transfer"), [True], "images.transfer has 1 entries"),
        (("images", "by_eps"), [{"eps": 1.0, "right": []}], "images.by_eps 1.0 has 0"),
        (("seed",), 0, "given twice"),
        (("attack",), ATTACK | {"steps": 5}, "audit steps is 5 but 4"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path, path, value, words):
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path, [content(), damaged(path, value)])
    assert "\n" not in str(caught.value)


def test_another_eps_and_another_data_set_may_stand_in_one_table(tmp_path):
    larger = damaged(("attack",), ATTACK | {"eps": "1/5"})
    elsewhere = damaged(("attack",), ATTACK | {"steps": 9}) | {"dataset": "mnist", "arm": "guided"}
    assert len(read(tmp_path, [content(), larger, elsewhere])) == 3


def test_nothing_to_read_and_an_arm_without_title(tmp_path):
    with pytest.raises(InputError, match="no audits given"):
        table.read_audits([])
    with pytest.raises(InputError, match="arm plain: has no title"):
        table.audit_table(read(tmp_path, [content()]), {"guided": "Guided"})
