"""The three figures on tiny input: what is drawn, what is refused, and the same bytes twice."""

from pathlib import Path

import numpy as np
import pytest
from figure_files import files
from matplotlib.image import imread
from sklearn.neighbors import KNeighborsClassifier

from contrastdp.data.images import write_images
from contrastdp.errors import InputError
from contrastdp.frames import as_table, write_table
from contrastdp.report import figures
from contrastdp.report.tables import COLUMNS
from plot_samples import plot_samples
from plot_sizes import plot_sizes
from plot_tsne import plot_tsne


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def twice(folder, plot, **arguments):
    """Draw twice; the files must be whole pictures with the same bytes."""
    content = []
    for name in ("first", "second"):
        paths = files(folder, name)
        plot(**arguments, **paths)
        content.append([Path(path).read_bytes() for path in paths.values()])
    assert content[0] == content[1]
    assert content[0][1].startswith(b"%PDF")
    assert b"CreationDate" not in content[0][1]
    assert imread(paths["png"]).std() > 0.01


# ---------------------------------------------------------------- samples
def write_shards(folder, name, images, labels, index, channels=1):
    paths = []
    for number, part in enumerate(np.array_split(np.arange(len(index)), 2)):
        paths.append(str(folder / f"{name}{number}.npz"))
        write_images(
            paths[-1],
            image=np.repeat(images[part][..., None], channels, -1).astype(np.uint8),
            label=np.asarray(labels, np.int64)[part],
            index=np.asarray(index, np.int64)[part],
        )
    return paths


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 8, 8))


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_pair_images_by_index(tmp_path, drawn, images, channels):
    order = [5, 3, 1, 0, 2, 4]
    plain = write_shards(tmp_path, "plain", images, range(6), range(6), channels)
    # The guided shards hold the images in another order, each pixel changed by 10, one relabelled.
    changed = np.where(images >= 10, images - 10, images + 10)[order]
    labels = [9 if index == 2 else index for index in order]
    guided = write_shards(tmp_path, "guided", changed, labels, order, channels)
    shards = {"without guidance": plain, "HNM": guided}
    twice(tmp_path, plot_samples, shards=shards, images=4)
    said = texts(drawn[0])
    assert said[0] == "without guidance"
    assert said[1:5] == ["0", "1", "2", "3"]
    assert said[5] == "HNM\nmean change 10.0 / 255"
    assert said[6:10] == ["0", "1", "9", "3"]
    bold = [t.get_text() for t in drawn[0].axes[0].texts if t.get_fontweight() == "bold"]
    assert bold == ["9"]
    shown = drawn[0].axes[0].get_images()
    assert len(shown) == 8
    first = shown[2].get_array()
    assert np.array_equal(first[..., 0] if channels == 3 else first, images[2])
    assert all(image.get_interpolation() == "nearest" for image in shown)


def test_samples_need_no_labels_and_fold_into_blocks(tmp_path, drawn):
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8))
    paths = write_shards(tmp_path, "plain", images, [-1] * 30, range(30))
    shards = dict.fromkeys(("plain", "A", "B"), paths)
    plot_samples(shards=shards, images=30, **files(tmp_path))
    said = texts(drawn[0])
    assert len(said) == 3 * 3  # three rows in each of three blocks, and no labels
    assert len(drawn[0].axes[0].get_images()) == 90


def test_samples_that_do_not_fit_are_refused(tmp_path, images):
    plain = write_shards(tmp_path, "plain", images, range(6), range(6))
    larger = write_shards(tmp_path, "larger", np.ones((6, 9, 9)), range(6), range(6))
    apart = write_shards(tmp_path, "apart", images, range(6), range(10, 16))
    for guided, said in (
        (larger, "differ in shape"),
        (apart, "no image index is shared"),
        ([*plain, *plain], "index twice"),
        ([], "no shards"),
    ):
        with pytest.raises(InputError, match=said):
            plot_samples(shards={"plain": plain, "HNM": guided}, images=4, **files(tmp_path))


# ---------------------------------------------------------------- sizes
def make_row(arm, generator, synthetic, robust, **changes):
    row = dict.fromkeys(COLUMNS) | {"arm": arm, "generator": generator, "synthetic": synthetic}
    row |= {"title": arm, "dataset": "digits", "real": 200, "trainer": "trades", "seeds": 3}
    row |= {"selection": "none", "n_test": 100, "clean_mean": 90.0, "clean_std": 1.0}
    row |= {"clean_low": 88.0, "clean_high": 92.0, "robust_mean": robust, "robust_std": 2.0}
    return row | {"robust_low": robust - 5, "robust_high": robust + 5} | changes


SIZES = [
    make_row("none", "none", 0, 70.0),
    make_row("ddim_8000", "ddim", 8000, 86.0),
    make_row("ddim", "ddim", 2000, 83.0),
    make_row("hnm", "hnm", 2000, 82.0),
    make_row("top", "ddim", 2000, 60.0, selection="entropy"),
    make_row("pgd", "ddim", 2000, 61.0, trainer="pgd_at"),
    make_row("few", "ddim", 2000, 62.0, real=100),
    make_row("other", "ddim", 2000, 63.0, dataset="mnist"),
]
WANTED = {"dataset": "digits", "real": 200, "trainer": "trades"}


def write_tables(folder, *groups):
    paths = []
    for number, rows in enumerate(groups):
        paths.append(str(folder / f"table{number}.csv"))
        write_table(paths[-1], as_table(rows, COLUMNS))
    return paths


def test_sizes_draw_matching_rows_of_all_tables(tmp_path, drawn):
    tables = write_tables(tmp_path, SIZES[:4], SIZES[1:])
    generators = {"ddim": "DDIM", "hnm": "Guided"}
    twice(tmp_path, plot_sizes, tables=tables, generators=generators, **WANTED)
    robust = drawn[0].axes[1]
    lines = {box.get_label(): box.lines[0] for box in robust.containers}
    assert list(lines["DDIM"].get_ydata()) == [83.0, 86.0]
    assert lines["DDIM"].get_xdata() == pytest.approx([2000, 8000], rel=0.1)
    assert list(lines["Guided"].get_ydata()) == [82.0]
    (dashed,) = [line for line in robust.lines if line.get_label() == "no synthetic data"]
    assert set(dashed.get_ydata()) == {70.0}
    band = robust.patches[0].get_extents().transformed(robust.transData.inverted())
    assert (band.y0, band.y1) == (pytest.approx(65.0), pytest.approx(75.0))
    assert "95% t interval over 3 seeds" in drawn[0].legends[0].get_title().get_text()


@pytest.mark.parametrize(("bars", "half"), [("interval", 5.0), ("std", 2.0)])
def test_bars_are_what_the_figure_says(tmp_path, drawn, bars, half):
    tables = write_tables(tmp_path, SIZES[:4])
    plot_sizes(tables=tables, generators={"hnm": "G"}, bars=bars, **WANTED, **files(tmp_path))
    (bar,) = drawn[0].axes[1].containers[0].lines[2][0].get_segments()
    assert bar[:, 1] == pytest.approx([82 - half, 82 + half])
    said = drawn[0].legends[0].get_title().get_text()
    assert ("standard deviation" in said) == (bars == "std")


def test_sizes_take_one_seed_and_no_baseline(tmp_path, drawn):
    one = dict.fromkeys(("clean_std", "clean_low", "clean_high", "robust_std"))
    row = make_row("ddim", "ddim", 2000, 83.0, seeds=1, robust_low=None, robust_high=None, **one)
    tables = write_tables(tmp_path, [row])
    plot_sizes(tables=tables, generators={"ddim": "DDIM"}, **WANTED, **files(tmp_path))
    assert drawn[0].legends[0].get_title().get_text() == "1 seed, no bars"


def test_sizes_that_are_not_there_or_twice_are_refused(tmp_path):
    twin = make_row("ddim_again", "ddim", 2000, 84.0)
    empty = make_row("none_again", "none", 0, 71.0)
    for rows, generators, said in (
        (SIZES, {"infonce": "InfoNCE"}, "generator infonce: no row"),
        ([*SIZES, twin], {"ddim": "DDIM"}, "arms ddim and ddim_again"),
        ([*SIZES, empty], {"ddim": "DDIM"}, "arms none and none_again"),
    ):
        with pytest.raises(InputError, match=said):
            plot_sizes(
                tables=write_tables(tmp_path, rows),
                generators=generators,
                **WANTED,
                **files(tmp_path),
            )


# ---------------------------------------------------------------- t-SNE
def write_features(path, spread, count=60):
    rng = np.random.default_rng(1)
    label = np.arange(count) % 3
    feature = 4 * np.eye(3, 8)[label]
    feature = (feature + rng.normal(0, spread, feature.shape)).astype(np.float32)
    np.savez(path, feature=feature, label=label)
    return str(path), feature, label


def test_tsne_shows_two_arms_and_their_separation(tmp_path, drawn):
    near, *_ = write_features(tmp_path / "near.npz", 0.2)
    far, *_ = write_features(tmp_path / "far.npz", 8.0)
    twice(tmp_path, plot_tsne, features=[near, far], titles=["Near", "Far"], seed=0)
    first, second = (axes.get_title() for axes in drawn[0].axes)
    assert first.startswith("Near\n5-NN accuracy 100.0%")
    assert second.startswith("Far\n5-NN accuracy")
    assert "100.0%" not in second
    assert len(drawn[0].axes[0].collections) == 3
    assert sum(len(points.get_offsets()) for points in drawn[0].axes[0].collections) == 60


def test_separation_agrees_with_slow_loops():
    rng = np.random.default_rng(2)
    label = rng.integers(0, 3, 40)
    feature = np.eye(3, 4)[label] + rng.normal(0, 0.6, (40, 4))
    nearest, silhouette = figures.separation(feature, label, neighbours=3)
    hits, widths = 0, []
    for i in range(40):
        others = np.arange(40) != i
        model = KNeighborsClassifier(3).fit(feature[others], label[others])
        hits += model.predict(feature[i : i + 1])[0] == label[i]
        distance = np.linalg.norm(feature - feature[i], axis=1)
        mean = [distance[others & (label == c)].mean() for c in range(3)]
        own, other = mean[label[i]], min(m for c, m in enumerate(mean) if c != label[i])
        widths.append((other - own) / max(own, other))
    assert nearest == pytest.approx(hits / 40)
    assert silhouette == pytest.approx(np.mean(widths))


def test_tsne_draws_at_most_the_points_asked_for(tmp_path):
    _, feature, label = write_features(tmp_path / "a.npz", 0.5)
    panel = {"title": "A", "feature": feature, "label": label}
    figure = figures.tsne_panels([panel, panel], seed=0, points=30)
    places = [
        np.concatenate([points.get_offsets() for points in axes.collections])
        for axes in figure.axes
    ]
    assert len(places[0]) == 30
    assert np.array_equal(*places)


@pytest.mark.parametrize("spread", [0.0, 1e-30, 1e-15, 1e15, 1e30])
def test_features_that_t_sne_cannot_map_get_no_map(tmp_path, drawn, spread):
    """In a process of its own it would end by a signal; another arm's map is drawn all the same."""
    good, feature, label = write_features(tmp_path / "good.npz", 0.5)
    flat = np.ones_like(feature) if spread == 0 else (feature * spread).astype(np.float32)
    np.savez(tmp_path / "flat.npz", feature=flat, label=label)
    paths = [str(tmp_path / "flat.npz"), good]
    plot_tsne(features=paths, titles=["Flat", "Good"], seed=0, **files(tmp_path))
    first, second = drawn[0].axes
    assert [text.get_text()[:7] for text in first.texts] == ["no map:"]
    assert not second.texts
    shown = [
        sum(np.ma.count(points.get_offsets()) for points in axes.collections)
        for axes in (first, second)
    ]
    assert shown == [0, 2 * len(label)]


def test_features_that_are_none_are_refused(tmp_path):
    path, feature, label = write_features(tmp_path / "a.npz", 0.5)
    one = {"titles": ["A"], "seed": 0, **files(tmp_path)}
    with pytest.raises(InputError, match="2 titles for 1 files"):
        plot_tsne(features=[path], **one | {"titles": ["A", "B"]})
    with pytest.raises(InputError, match="no such file"):
        plot_tsne(features=[str(tmp_path / "gone.npz")], **one)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:300])
    with pytest.raises(InputError, match=r"cut\.npz: damaged"):
        plot_tsne(features=[str(tmp_path / "cut.npz")], **one)
    for change, said in (
        ({"feature": feature * np.nan}, "not finite"),
        ({"feature": feature[0]}, "expected"),
        ({"feature": feature[:, :1]}, "expected"),
        ({"label": label[:9]}, "expected"),
        ({"label": label * 0}, "too few"),
    ):
        np.savez(path, **{"feature": feature, "label": label} | change)
        with pytest.raises(InputError, match=said):
            plot_tsne(features=[path], **one)
