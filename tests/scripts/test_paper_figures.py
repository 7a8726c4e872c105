"""Figure 3 and the sheets of images on tiny input: what is drawn and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from figure_files import files
from matplotlib.image import imread

from contrastdp.data.images import write_images
from contrastdp.errors import InputError
from contrastdp.files import write_json
from contrastdp.report import figures
from plot_data import plot_data
from plot_real_sizes import plot_real_sizes


# ---------------------------------------------------------------- Figure 3
def make_study(folder, *, eps=("3/10",), seeds=(0, 1)):
    """Arms of 30 images in all: ddpm and guided with 10, 20 and 30 real ones, and without."""
    arms, paths = [], []
    for one in eps:
        for generator in (None, "ddpm", "guided"):
            for real in (10, 20, 30):
                name = f"{generator}_{real}_{one.replace('/', '_')}"
                arm = {"arm": name, "dataset": "mnist", "generator": generator, "real": real}
                arm |= {"synthetic": (30 - real or 30) if generator else 0, "trainer": "trades"}
                arm |= {"selection": "none" if generator else None}
                for seed in seeds:
                    robust = 0.5 + real / 100 + seed / 50 + (0.1 if generator else 0)
                    content = arm | {"seed": seed, "n_test": 50, "clean_accuracy": 0.9}
                    content |= {"robust_accuracy": robust, "attack": {"eps": one}}
                    paths.append(str(folder / f"{name}_{seed}.json"))
                    write_json(paths[-1], content)
                alone = "synthetic" if generator and real == 30 else None
                arm |= {"title": name, "seeds": list(seeds), "eps": one, "train_on": alone}
                arms.append(arm)
    return {
        "evaluations": paths,
        "arms": arms,
        "generators": {"ddpm": "DDPM", "guided": "Contrastive-DP"},
        "total": 30,
        **files(folder),
    }


def bars(axes):
    """Whether each error bar has a bar, in drawing order."""
    return [container.has_yerr for container in axes.containers]


def test_two_seeds_are_points_without_bars(tmp_path, drawn):
    study = make_study(tmp_path)
    plot_real_sizes(**study)
    clean, robust = drawn[0].axes
    assert (clean.get_ylabel(), robust.get_ylabel()) == (
        "clean accuracy (%)",
        "robust accuracy (%)",
    )
    assert clean.get_title() == "ε = 3/10"
    assert not any(bars(robust))
    points = [offset for group in robust.collections for offset in group.get_offsets()[:, 1]]
    # Without synthetic images 50 + real + 2 seed, with them 10 more, two lines of those.
    alone = [50 + real + 2 * seed for real in (10, 20, 30) for seed in (0, 1)]
    expected = alone + 2 * [value + 10 for value in alone]
    assert sorted(points) == pytest.approx(sorted(expected))
    dashed = [line for line in robust.lines if line.get_linestyle() == "--"]
    assert [line.get_ydata()[0] for line in dashed] == [pytest.approx(81.0)]
    assert drawn[0].get_size_inches()[0] == figures.SINGLE
    said = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert said == [
        *("real images alone", "DDPM", "Contrastive-DP"),
        *("30 real images", "30 synthetic images alone"),
    ]


def test_synthetic_images_alone_are_not_joined(tmp_path, drawn):
    plot_real_sizes(**make_study(tmp_path))
    robust = drawn[0].axes[1]
    lengths = [len(line.get_xdata()) for line in robust.lines if line.get_linestyle() == "-"]
    assert [n for n in lengths if n > 1] == [3, 2, 2]
    hollow = [c.lines[0] for c in robust.containers if c.lines[0].get_markerfacecolor() == "white"]
    assert [round(float(line.get_xdata()[0])) for line in hollow] == [30, 31]
    assert [line.get_ydata()[0] for line in hollow] == [pytest.approx(91.0)] * 2


def test_three_seeds_have_bars_and_each_eps_a_column(tmp_path, drawn):
    plot_real_sizes(**make_study(tmp_path, eps=("1/10", "3/10"), seeds=(0, 1, 2)))
    axes = drawn[0].axes
    assert [one.get_title() for one in axes] == ["ε = 1/10", "ε = 3/10", "", ""]
    assert all(bars(axes[2]))
    # Seeds are 2 points apart: mean ± 4.302653 * 2 / sqrt(3).
    segments = axes[2].containers[0].lines[2][0].get_segments()[0][:, 1]
    assert segments == pytest.approx([62 - 4.968276, 62 + 4.968276], abs=1e-4)
    assert drawn[0].get_size_inches()[0] == figures.DOUBLE
    first = Path(files(tmp_path)["pdf"]).read_bytes()
    plot_real_sizes(**make_study(tmp_path, eps=("1/10", "3/10"), seeds=(0, 1, 2)))
    assert first == Path(files(tmp_path)["pdf"]).read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["generators"].update(ddim="DDIM"), "generator ddim: no arm has it"),
        (lambda s: s.update(total=40), "trains on 10 real and 20 synthetic images, not 40"),
        (lambda s: s["arms"][5].update(train_on=None), "trains on 30 real and 30 synthetic"),
        (lambda s: s["arms"][0].update(eps="1/10"), "was attacked with eps 3/10, not 1/10"),
    ],
)
def test_arms_that_do_not_fit_are_refused(tmp_path, change, said):
    study = make_study(tmp_path)
    change(study)
    with pytest.raises(InputError, match=said):
        plot_real_sizes(**study)
    assert not list(tmp_path.glob("figure.*"))


# ---------------------------------------------------------------- sheets of images
@pytest.fixture
def train(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    write_images(tmp_path / "train.npz", image=image, label=np.arange(20) % 3)
    return str(tmp_path / "train.npz"), image


def test_a_sheet_is_drawn_by_its_seed(tmp_path, drawn, train):
    path, image = train
    settings = {"train": path, "classes": 3, "images": 12}
    plot_data(**settings, seed=0, **files(tmp_path, "a"))
    plot_data(**settings, seed=0, **files(tmp_path, "b"))
    plot_data(**settings, seed=1, names=["cat", "dog", "frog"], **files(tmp_path, "c"))
    pages = [Path(files(tmp_path, name)["png"]).read_bytes() for name in "abc"]
    assert pages[0] == pages[1] != pages[2]
    assert imread(files(tmp_path, "a")["png"]).std() > 0.01
    (axes,) = drawn[0].axes
    shown = [one.get_array() for one in axes.get_images()]
    index = [next(i for i in range(20) if np.array_equal(image[i], one)) for one in shown]
    assert len(set(index)) == 12
    assert index != sorted(index)
    assert [text.get_text() for text in axes.texts] == [str(i % 3) for i in index]
    assert {text.get_text() for text in drawn[2].axes[0].texts} == {"cat", "dog", "frog"}
    assert axes.get_xlim() == (0, 8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": 0}, "ask for 1 or more"),
        ({"names": ["cat"]}, "1 for 3 classes"),
        ({"classes": 2}, "labels span 0 to 2"),
    ],
)
def test_a_sheet_that_cannot_be_drawn_is_refused(tmp_path, train, changes, said):
    settings = {"train": train[0], "classes": 3, "images": 4, "seed": 0}
    with pytest.raises(InputError, match=said):
        plot_data(**settings | changes, **files(tmp_path))
