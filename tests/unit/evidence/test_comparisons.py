"""Comparisons of two arms: outcomes joined to evaluations, counts by hand, one family a table."""

import pandas as pd
import pytest
from scipy.stats import binomtest

from contrastdp.errors import InputError
from contrastdp.evidence import comparisons
from contrastdp.evidence.comparisons import adjusted, compare, p_text, read_outcomes, sentence
from contrastdp.evidence.outcomes import read_images
from contrastdp.frames import as_rows, write_table

# One letter an image: robust, broken by an attack, misclassified unattacked.
BROKEN_BY = {"r": "", "b": "square", "m": "clean"}
SHOWN = {
    ("ours", 0): "rrrrrrbm",
    ("base", 0): "rrbbbbrm",
    ("ours", 1): "rrbbbmmm",
    ("base", 1): "rrbbbmbb",
    ("base", 7): "rrrrrrrr",
}


def images(letters):
    return pd.DataFrame(
        {
            "index": range(len(letters)),
            "label": 3,
            "clean_prediction": [4 if by == "m" else 3 for by in letters],
            "broken_by": [BROKEN_BY[by] for by in letters],
        }
    )


@pytest.fixture
def study():
    outcomes = {name: images(letters) for name, letters in SHOWN.items()}
    evaluations = {
        name: {
            "n_test": len(letters),
            "attack": {"version": "standard"},
            "clean_accuracy": 1 - letters.count("m") / len(letters),
            "robust_accuracy": letters.count("r") / len(letters),
        }
        for name, letters in SHOWN.items()
    }
    return evaluations, outcomes


OURS, BASE = {"arm": "ours", "seeds": [0, 1]}, {"arm": "base", "seeds": [0, 1, 7]}


def test_counts_by_hand(study):
    robust = compare(OURS, BASE, "robust", *study)
    # Seed 0: four won, one lost; seed 1: none of either.
    assert (robust["images_won"], robust["images_lost"]) == (4, 1)
    assert robust["mcnemar_p"] == f"0: {binomtest(4, 5).pvalue:.3g}; 1: 1"
    assert robust["sign_flip_p"] == 1.0  # +3/8 and 0: either sign is as far out
    clean = compare(OURS, BASE, "clean", *study)
    assert (clean["images_won"], clean["images_lost"]) == (0, 2)
    assert clean["mcnemar_p"] == "0: 1; 1: 0.5"
    assert list(clean) == list(comparisons.COLUMNS)
    # Two of eight lost at seed 1; an interval that holds its difference, in points.
    assert clean["image_difference"].startswith("0: +0.00 [-")
    low, high = map(float, clean["image_difference"].split("-25.00 [")[1].rstrip("]").split(", "))
    assert low < -25 < high


def test_without_outcomes_or_shared_seeds_the_cells_are_empty(study):
    evaluations, outcomes = study
    del outcomes["ours", 1]
    found = compare(OURS, BASE, "robust", evaluations, outcomes)
    assert found["sign_flip_p"] == 1.0
    assert found["images_won"] is found["mcnemar_p"] is None
    alone = compare(OURS, BASE | {"seeds": [7]}, "robust", *study)
    assert set(alone.values()) == {None}


@pytest.mark.parametrize("key", ["index", "label"])
def test_other_images_are_not_compared(study, key):
    study[1]["base", 1].loc[2, key] = 5
    with pytest.raises(InputError, match="ours and base, seed 1: were attacked on different test"):
        compare(OURS, BASE, "robust", *study)


def test_outcomes_are_read_back_and_belong_to_their_evaluation(study, tmp_path):
    evaluations, outcomes = study
    paths = []
    for number, rows in enumerate(outcomes.values()):
        paths.append(str(tmp_path / f"{number}.csv"))
        write_table(paths[-1], rows)
    found = read_outcomes(paths, evaluations)
    assert list(found) == list(outcomes)
    for name, rows in outcomes.items():
        assert as_rows(found[name]) == as_rows(rows)
    with pytest.raises(InputError, match=r"as evaluated for arm ours, seed 0; give its own"):
        read_outcomes([paths[1], paths[0], *paths[2:]], evaluations)
    # as many right in all, but other images: clean accuracy alone tells
    for number, letters in ((0, "rrrrrrmm"), (1, "rrbbbbrb"), (0, "rrrrrrbmm")):
        odd = [*paths]
        odd[number] = str(tmp_path / "odd.csv")
        write_table(odd[number], images(letters))
        with pytest.raises(InputError, match=rf"odd.csv: {len(letters)} images with "):
            read_outcomes(odd, evaluations)
    with pytest.raises(InputError, match="4 outcome files for 5 evaluations"):
        read_outcomes(paths[1:], evaluations)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("index,label\n0,1\n", "expected images with index, label"),
        ("index,label,clean_prediction,broken_by\n1,3,3,\n", "index is not 0 to 0"),
        ("index,label,clean_prediction,broken_by\n0,cat,3,\n", "'cat'"),
    ],
)
def test_ill_formed_outcomes_are_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "outcomes.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as error:
        read_images(str(path))
    assert "\n" not in str(error.value)


def rows(*p_values, **changes):
    return pd.DataFrame(
        [
            {"arm": f"a{i}", "sign_flip_p": p, "holm_p": None, "pairs": 10, "mcnemar_p": None}
            | changes
            for i, p in enumerate(p_values)
        ]
    )


def holm_of(table):
    found = adjusted(table, ["arm"])["holm_p"]
    return [None if pd.isna(p) else p for p in found]


def test_holm_counts_a_comparison_once_and_leaves_the_rest_empty():
    found = holm_of(pd.concat([rows(0.01, 0.04, 0.03, None), rows(0.01)]))
    # Three comparisons: 3 x 0.01, 2 x 0.03, and 0.04 kept from falling below.
    assert found == [0.03, 0.06, 0.06, None, 0.03]
    assert holm_of(rows(None, None)) == [None, None]
    # Equal p are still two comparisons; four decimals are kept.
    assert holm_of(rows(0.0011, 0.0011)) == [0.0022, 0.0022]


def test_the_sign_flips_of_ten_seeds_keep_their_digits():
    arms = [{"arm": name, "seeds": list(range(10))} for name in ("ours", "base")]
    found = {
        (arm["arm"], seed): {"robust_accuracy": 0.5 + 0.01 * (arm["arm"] == "ours") * (seed + 1)}
        for arm in arms
        for seed in arm["seeds"]
    }
    assert compare(*arms, "robust", found, {})["sign_flip_p"] == round(2 / 1024, 6)


def test_an_attack_beyond_the_evaluations_version_is_left_out(study, tmp_path):
    evaluations, outcomes = study
    name = "base", 7
    path = str(tmp_path / "worst.csv")
    write_table(path, outcomes[name].assign(broken_by="mt"))
    (found,) = read_outcomes([path], {name: evaluations[name]}).values()
    assert set(found["broken_by"]) == {""}


def test_few_seeds_are_said_to_prove_nothing():
    text = sentence(adjusted(rows(0.5, 1.0, pairs=2), ["arm"]), ["arm"])
    assert "2 comparisons" in text
    assert "2 pairs of seeds cannot give less than 1.000" in text
    assert "McNemar" not in text
    text = sentence(adjusted(rows(0.002), ["arm"]), ["arm"])
    assert "1 comparison of" in text
    assert "10 pairs of seeds cannot give less than 0.002" in text  # 2 / 2^10
    assert sentence(rows(None), ["arm"]) == ""
    few = adjusted(rows(0.5, pairs=2, arm="few"), ["arm"])
    many = adjusted(rows(0.5, mcnemar_p="0: 1"), ["arm"])
    text = sentence(pd.concat([few, many]), ["arm"])
    assert "10 pairs of seeds" in text
    assert "McNemar" in text


@pytest.mark.parametrize(("p", "text"), [(0.0004, "<0.001"), (0.001, "0.001"), (1.0, "1.000")])
def test_p_for_people(p, text):
    assert p_text(p) == text
