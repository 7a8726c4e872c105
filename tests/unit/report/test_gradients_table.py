"""The table and figures of gradients, on measures that are made up."""

import json

import numpy as np
import one_line
import pytest

from contrastdp.frames import as_rows
from contrastdp.report import gradient_figures, gradients_table

SEEDS = (0, 1, 2)


def content(seed, dataset="digits", bands=((0, 499), (500, 999))):
    def of(name, k):
        base = {"robust": 0.6, "vanilla": 0.2}[name] - 0.1 * k + 0.01 * seed
        return dict.fromkeys(gradients_table.MEASURES, base)

    each = [
        {"low": low, "high": high, "n": 20, **{name: of(name, k) for name in ("robust", "vanilla")}}
        for k, (low, high) in enumerate(bands)
    ]
    known = {"dataset": dataset, "real": 200, "seed": seed, "low_frequency": 0.5}
    return known | {"bands": each}


@pytest.fixture
def runs(tmp_path):
    paths = []
    for seed in SEEDS:
        paths.append(tmp_path / f"{seed}.json")
        paths[-1].write_text(json.dumps(content(seed)), encoding="utf-8")
    return gradients_table.gradient_runs(map(str, paths))


def test_bands_and_their_mean_with_paired_differences(runs):
    rows = as_rows(gradients_table.gradients_table(runs))
    assert len(rows) == 3 * 3
    first, second, every = rows[:3]
    assert [(row["t_low"], row["t_high"]) for row in rows[:3]] == [(0, 499), (500, 999), (0, 999)]
    assert (first["robust_mean"], second["robust_mean"]) == pytest.approx((0.61, 0.51))
    assert every["robust_mean"] == pytest.approx(0.56)
    assert (first["n"], every["n"], every["seeds"]) == (60, 120, 3)
    half = 4.3027 * 0.01 / 3**0.5  # t(2) = 4.3027, std of 0, 0.01 and 0.02 is 0.01
    assert first["robust_high"] - first["robust_mean"] == pytest.approx(half, rel=1e-4)
    assert first["difference"] == pytest.approx(0.4)  # alike in each seed: no spread
    assert first["difference_high"] - first["difference_low"] == pytest.approx(0, abs=1e-9)


def test_the_markdown_says_what_the_scores_are_of(runs):
    table = gradients_table.gradients_table(runs)
    text = gradients_table.markdown_table(table, gradients_table.caption(runs))
    assert "no denoiser here has a label for 'no class'" in text
    assert "at most 0.5 Nyquist" in text
    assert "| Cosine with the difference of scores | 0 to 499 | 60 | 3 |" in text


def test_bands_come_in_order_without_their_mean(runs):
    table = gradients_table.gradients_table(runs)
    found = gradients_table.of_dataset(table, "digits")
    assert [row["t_low"] for row in found["score"]] == [0, 500]
    assert "no gradients of mnist" in one_line.told(gradients_table.of_dataset, table, "mnist")


def test_a_single_band_is_its_own_mean(tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(content(0, bands=((0, 999),))), encoding="utf-8")
    table = gradients_table.gradients_table(gradients_table.gradient_runs([str(path)]))
    assert len(table) == 3
    assert len(gradients_table.of_dataset(table, "digits")["score"]) == 1


def test_a_damaged_or_repeated_file_is_told(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content(0)), encoding="utf-8")
    line = one_line.told(gradients_table.gradient_runs, [str(path), str(path)])
    assert "digits, seed 0, was given twice" in line
    path.write_text("{}", encoding="utf-8")
    assert "lacks 'dataset'" in one_line.told(gradients_table.gradient_runs, [str(path)])


# ---------------------------------------------------------------- figures
def test_the_figure_has_two_lines_in_three_panels(runs):
    table = gradients_table.gradients_table(runs)
    figure = gradient_figures.alignment_figure(gradients_table.of_dataset(table, "digits"))
    assert len(figure.axes) == 3
    for axes in figure.axes:
        assert [bars.get_label() for bars in axes.containers] == [
            *("robust classifier", "vanilla classifier")
        ]
        line = axes.containers[0].lines[0]
        assert line.get_ydata() == pytest.approx([0.61, 0.51])


def test_a_gradient_is_grey_where_it_is_zero():
    gradient = np.zeros((4, 4, 1))
    assert (gradient_figures.grey_centred(gradient) == 128).all()
    gradient[0, 0], gradient[1, 1] = -2.0, 1.0
    shown = gradient_figures.grey_centred(gradient)
    assert (shown[0, 0, 0], shown[1, 1, 0], shown[2, 2, 0]) == (0, 191, 128)


def pictures(k=2, m=5, s=6, side=8, channels=1):
    rng = np.random.default_rng(0)

    def drawn(*lead):
        return rng.integers(0, 256, (*lead, side, side, channels), dtype=np.uint8)

    found = {"image": drawn(k), "label": np.arange(k), "target": np.arange(k) + 1}
    found |= {"timesteps": np.arange(m) * 200, "noisy": drawn(m, k)}
    for name in ("robust", "vanilla"):
        found[f"{name}_gradient"] = rng.normal(size=(m, k, side, side, channels))
        found |= {f"{name}_attacked": drawn(k), f"{name}_predicted": drawn(s, k)}
        found[f"{name}_step"] = np.arange(s)
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_every_picture_is_drawn(channels):
    found = pictures(channels=channels)
    assert len(gradient_figures.maps_figure(found).axes[0].images) == 2 * 3 * 5
    assert len(gradient_figures.targeted_figure(found).axes[0].images) == 3 * 2
    assert len(gradient_figures.predicted_figure(found).axes[0].images) == 2 * 2 * 6


def test_a_file_without_an_array_is_told(tmp_path):
    path = tmp_path / "pictures.npz"
    kept = {name: value for name, value in pictures().items() if name != "robust_step"}
    np.savez(path, **kept)
    assert "has no array 'robust_step'" in one_line.told(gradient_figures.read_pictures, path)
