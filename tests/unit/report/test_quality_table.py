"""The table of sample quality from measurements written by hand."""

import copy

import pytest

from contrastdp.errors import InputError
from contrastdp.files import write_json
from contrastdp.frames import as_rows
from contrastdp.report import quality_table as table

TITLES = {"guided": "Guided | all", "plain": "Plain"}


def row(value, **given):
    return {"n": 50} | dict.fromkeys(table.METRICS, value) | given


def content(generator, seed, value, real=20):
    unseen = row(0.25, frechet_debiased=-0.5)
    training = row(0.5, n=20, nearest=None, nearest_ratio=None, copies=None)
    return {
        "dataset": "digits",
        "generator": generator,
        "real": real,
        "seed": seed,
        "n_heldout": 60,
        "features": 8,
        "settings": {"images": 50, "neighbours": 5, "groups": 10},
        "rows": {"synthetic": row(value), "unseen": unseen, "training": training},
    }


ALL = [content("plain", 0, 1.0), content("plain", 1, 2.0), content("guided", 0, 4.0)]


def read(folder, contents):
    for number, each in enumerate(contents):
        write_json(folder / f"{number}.json", each)
    return table.read_measures(str(folder / f"{n}.json") for n in range(len(contents)))


def test_rows_are_means_over_seeds_with_real_images_first(tmp_path):
    rows = as_rows(table.quality_table(read(tmp_path, ALL), TITLES))
    assert [r["images"] for r in rows] == ["unseen", "training", "guided", "plain"]
    unseen, training, guided, plain = rows
    assert (plain["recall_mean"], plain["seeds"], plain["n"]) == (1.5, 2, 50)
    assert plain["recall_std"] == pytest.approx(0.5**0.5, rel=1e-5)
    assert (guided["recall_mean"], guided["recall_std"], guided["seeds"]) == (4.0, None, 1)
    assert (unseen["seeds"], unseen["frechet_debiased_mean"]) == (2, -0.5)
    assert (training["n"], training["nearest_mean"]) == (20, None)
    assert all(set(r) == set(table.COLUMNS) for r in rows)


def test_each_number_of_real_images_has_its_rows(tmp_path):
    more = content("plain", 0, 3.0, real=40)
    del more["rows"]["unseen"]
    made = table.quality_table(read(tmp_path, [*ALL, more]), TITLES)
    rows = as_rows(made)
    assert [(r["real"], r["images"]) for r in rows[4:]] == [(40, "training"), (40, "plain")]
    assert "| Images | Real | n |" in table.markdown_table(made, "")


def test_markdown(tmp_path):
    measures = read(tmp_path, ALL)
    made = table.quality_table(measures, TITLES)
    text = table.caption(made, ALL[0])
    assert text.startswith("Mean ± standard deviation over 1 or 2 seeds.")
    assert "60 images of the test split" in text
    assert "only rows of the same n compare" in text
    assert "standard error 0.25 to 4.00 within" in text
    lines = table.markdown_table(made, text).splitlines()
    assert lines[2].startswith("| Images | n | Fréchet | Fréchet, debiased |")
    assert lines[4].startswith("| Real, unseen | 50 | 0.25 ± 0.00 | −0.50 ± 0.00 |")
    assert lines[5].endswith("| – | – | – |")
    assert lines[6].startswith("| Guided \\| all | 50 | 4.00 | 4.00 |")
    assert lines[7].startswith("| Plain | 50 | 1.50 ± 0.71 |")
    assert lines[7].endswith("| 150.0% ± 70.7% |")
    assert len({line.replace("\\|", "").count("|") for line in lines[2:]}) == 1


def spoil(contents, what):
    last = contents[-1]
    if what == "twice":
        contents.append(copy.deepcopy(last))
    elif what == "settings":
        last["settings"]["images"] = 40
    elif what == "heldout":
        last["n_heldout"] = 61
    elif what == "key":
        del last["features"]
    elif what == "metric":
        del last["rows"]["synthetic"]["recall"]
    elif what == "none":
        contents.clear()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("twice", "generator guided of 20 real images, seed 0, was given twice"),
        ("settings", "settings images is 40 but 50"),
        ("heldout", "n_heldout is 61 but 60"),
        ("key", "lacks 'features'"),
        ("metric", "rows.synthetic lacks 'recall'"),
        ("none", "no measurements"),
    ],
)
def test_measurements_that_do_not_fit_are_refused(tmp_path, what, said):
    contents = copy.deepcopy(ALL)
    spoil(contents, what)
    with pytest.raises(InputError) as error:
        read(tmp_path, contents)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_generator_without_a_title_and_seeds_of_unlike_counts(tmp_path):
    with pytest.raises(InputError, match="guided"):
        table.quality_table(read(tmp_path, ALL), {"plain": "Plain"})
    unlike = copy.deepcopy(ALL)
    unlike[1]["rows"]["synthetic"]["n"] = 30
    with pytest.raises(InputError, match="30 and 50 images"):
        table.quality_table(read(tmp_path, unlike), TITLES)
