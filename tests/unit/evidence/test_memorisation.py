"""Cells of the distance to the training images, against means taken by hand."""

import pandas as pd
import pytest

from contrastdp.errors import InputError
from contrastdp.evidence import memorisation
from contrastdp.files import write_json

ARM = {"arm": "a", "dataset": "digits", "generator": "ddim", "real": 60, "seeds": [0, 1]}
NONE = ARM | {"arm": "none", "generator": None}


def measures(folder, rows):
    """Files as measure_samples writes them; rows: (generator, real, seed, nearest, heldout)."""
    paths = []
    for number, (generator, real, seed, nearest, heldout) in enumerate(rows):
        paths.append(str(folder / f"{number}.json"))
        of = {"dataset": "digits", "generator": generator, "real": real, "seed": seed}
        synthetic = {"n": 40, "nearest": nearest, "nearest_heldout": heldout}
        write_json(paths[-1], of | {"n_heldout": 50, "rows": {"synthetic": synthetic}})
    return paths


def test_means_over_the_arms_own_seeds_and_real_images(tmp_path):
    rows = [("ddim", 60, 0, 1.0, 4.0), ("ddim", 60, 1, 2.0, 6.0), ("ddim", 60, 2, 9.0, 9.0)]
    rows += [("ddim", 200, 0, 8.0, 8.0), ("hnm", 60, 0, 7.0, 4.0), ("hnm", 60, 1, 7.0, 6.0)]
    found = memorisation.read_nearest(measures(tmp_path, rows))
    assert found["digits", "hnm", 60, 1] == {"nearest": 7.0, "nearest_heldout": 6.0}
    cells = memorisation.nearest_cells(found, ARM)
    assert cells == {"nearest_mean": 1.5, "nearest_heldout_mean": 5.0}
    # Without a generator: no distance of its own, that of the test images as anyone's.
    cells = memorisation.nearest_cells(found, NONE)
    assert cells == {"nearest_mean": None, "nearest_heldout_mean": 5.0}
    cells = memorisation.nearest_cells(found, NONE | {"seeds": [0, 5]})
    assert set(cells.values()) == {None}
    assert set(memorisation.nearest_cells({}, ARM).values()) == {None}


def test_an_unmeasured_generator_is_told(tmp_path):
    found = memorisation.read_nearest(measures(tmp_path, [("ddim", 60, 0, 1.0, 4.0)]))
    with pytest.raises(InputError, match="arm a, seed 1: its generator ddim of 60 real images"):
        memorisation.nearest_cells(found, ARM)


def test_bad_files_are_told_in_one_line(tmp_path):
    paths = measures(tmp_path, [("ddim", 60, 0, 1.0, 4.0)] * 2)
    with pytest.raises(InputError, match="ddim of 60 real images, seed 0, was given twice"):
        memorisation.read_nearest(paths)
    write_json(paths[0], {"dataset": "digits"})
    with pytest.raises(InputError, match="lacks 'generator'; delete it"):
        memorisation.read_nearest(paths[:1])


def test_the_caption_gives_test_images_for_each_number_of_real_ones():
    def row(real, nearest, heldout):
        return {"dataset": "mnist", "real": real, "nearest_mean": nearest} | {
            "nearest_heldout_mean": heldout
        }

    rows = [row(1000, None, 5.0), row(1000, 4.0, 5.0), row(4000, 3.0, 4.0), row(4000, 3.5, 4.5)]
    text = memorisation.sentence(pd.DataFrame(rows))
    assert "lie at 5.00 (mnist, 1,000 real images), 4.00 to 4.50 (mnist, 4,000 real" in text
    assert memorisation.sentence(pd.DataFrame([row(1000, None, 5.0)])) == ""
