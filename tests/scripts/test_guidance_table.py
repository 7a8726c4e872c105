"""The table and figure of the guidance's size, on planted shards."""

from pathlib import Path

import numpy as np
import pytest

from contrastdp.data.images import write_images
from contrastdp.errors import InputError
from contrastdp.frames import as_rows, as_table, read_table, write_table
from contrastdp.report import figures
from contrastdp.report.guidance_table import COLUMNS, markdown_table, measure_shards
from contrastdp.report.tables import COLUMNS as ROBUSTNESS
from make_guidance_table import make_guidance_table
from plot_guidance import plot_guidance

SIZES = {"plain": 0.0, "hnm_low": 0.1, "hnm": 0.2, "infonce": 0.4, "hnm_random": 0.2}
ARM = {"dataset": "digits", "generator": "g", "batch": 20, "seeds": [0, 1]}
HNM = {"loss": "hnm", "pairs": "both_states", "head": 64, "at": "state", "tau": 10.0}


def arms():
    own = {"plain": {}, "hnm_low": HNM | {"lambda": 10.0}, "hnm": HNM | {"lambda": 20.0}}
    own["hnm_random"] = own["hnm"] | {"direction": "random"}
    own["infonce"] = HNM | {"loss": "infonce", "head": 0, "lambda": 3.0}
    return [ARM | {"arm": name, "title": name.upper()} | own[name] for name in SIZES]


@pytest.fixture
def made(tmp_path):
    """Two shards for each arm and seed: sizes around the arm's, a tenth larger for seed 1."""
    shards, owners = [], []
    for arm, size in SIZES.items():
        for seed in (0, 1):
            for shard in (0, 1):
                path = tmp_path / f"{arm}{seed}{shard}.npz"
                around = size * (1 + 0.1 * seed) * np.where(np.arange(20) % 2, 0.5, 1.5)
                write_images(
                    path,
                    image=np.zeros((20, 2, 2, 1), np.uint8),
                    label=np.arange(20) % 4,
                    confidence=np.full(20, 0.5, np.float32),
                    guidance_size=around.astype(np.float32),
                )
                shards.append(str(path))
                owners.append([arm, seed])
    robust = [
        {"arm": arm, "seeds": 2, "clean_mean": 90, "robust_mean": 70 + k}
        | {"robust_low": 69 + k, "robust_high": 71 + k}
        | ({"difference": k, "difference_low": k - 1, "difference_high": k + 1} if k else {})
        for k, arm in enumerate(SIZES)
    ]
    write_table(tmp_path / "guidance.csv", as_table(robust, ROBUSTNESS))
    make_guidance_table(
        shards=shards,
        owners=owners,
        arms=arms(),
        robustness=str(tmp_path / "guidance.csv"),
        csv=str(tmp_path / "size.csv"),
        markdown=str(tmp_path / "size.md"),
    )
    return tmp_path


def test_sizes_are_means_over_images_then_seeds(made):
    rows = {row["arm"]: row for row in as_rows(read_table(made / "size.csv", COLUMNS))}
    assert list(rows) == list(SIZES)
    for k, (arm, size) in enumerate(SIZES.items()):
        assert rows[arm]["size_mean"] == pytest.approx(1.05 * size, rel=1e-5)
        # two seeds: std 0.1 size / sqrt(2), and t(1) = 12.706 makes the half-width of 12.706 * 0.05
        assert rows[arm]["size_high"] == pytest.approx((1.05 + 0.05 * 12.7062) * size, rel=1e-4)
        assert rows[arm]["robust_mean"] == 70 + k
        assert (rows[arm]["confidence"], rows[arm]["rarest_class"]) == (0.5, 0.25)
    assert rows["plain"]["loss"] is None
    assert float(rows["hnm"]["lambda"]) == 20.0


def test_the_table_for_people(made):
    text = (made / "size.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| HNM |")]
    assert lines == [
        "| HNM | both states | 64 | 20 | 20 | 0.210 [0.083, 0.337] | 72.00 | +2.00 [+1.00, +3.00] |"
    ]
    assert "| PLAIN |  |  |  |  | 0.000 [0.000, 0.000] | 70.00 |  |" in text


def test_a_shard_without_sizes_is_named(tmp_path):
    path = tmp_path / "old.npz"
    write_images(path, image=np.zeros((1, 2, 2, 1), np.uint8), label=np.zeros(1, int))
    with pytest.raises(InputError, match=r"old.npz: has no array 'guidance_size'"):
        measure_shards([str(path)])


def test_an_arm_that_the_robustness_table_lacks_is_named(made, tmp_path):
    with pytest.raises(InputError, match="arm other"):
        make_guidance_table(
            shards=[],
            owners=[],
            arms=[ARM | {"arm": "other", "title": "x"}],
            robustness=str(made / "guidance.csv"),
            csv=str(tmp_path / "a.csv"),
            markdown=str(tmp_path / "a.md"),
        )


def test_one_seed_has_no_interval(made):
    table = as_table([{"title": "A", "size_mean": 0.5, "robust_mean": 1.0}], COLUMNS)
    assert "| A |  |  |  |  | 0.500 | 1.00 |  |" in markdown_table(table)


def test_the_figure_shows_every_guided_arm_and_joins_the_swept(made, monkeypatch):
    kept, save = [], figures.save
    monkeypatch.setattr(
        figures, "save", lambda figure, **paths: (kept.append(figure), save(figure, **paths))
    )
    content = []
    for name in ("a", "b"):
        paths = {kind: str(made / f"{name}.{kind}") for kind in ("png", "pdf")}
        swept = [["hnm", "hnm_low"]]
        plot_guidance(table=str(made / "size.csv"), dataset="digits", swept=swept, **paths)
        content.append([Path(path).read_bytes() for path in paths.values()])
    assert content[0] == content[1]
    left, right = kept[0].axes
    names = [label.get_text() for label in right.get_yticklabels()]
    assert names == ["HNM_LOW (0.1)", "HNM (0.21)", "INFONCE (0.42)"]
    # the twin has no line of its own: its marker lies a little below its arm's
    markers = [line for line in right.get_lines() if len(line.get_xdata()) == 1]
    places = {line.get_xdata()[0]: line.get_ydata()[0] for line in markers}
    assert places == {1.0: 0, 2.0: 1, 3.0: 2, 4.0: pytest.approx(1.3)}
    lines = [line for line in left.get_lines() if line.get_label() == "HNM, lambda alone"]
    assert lines[0].get_xdata() == pytest.approx([0.105, 0.21], rel=1e-4)
    assert list(lines[0].get_ydata()) == [71.0, 72.0]


def test_a_table_without_a_guided_row_of_the_data_set_is_told(made):
    with pytest.raises(InputError, match="no guided row of cifar10"):
        plot_guidance(
            table=str(made / "size.csv"),
            dataset="cifar10",
            swept=[],
            png=str(made / "x.png"),
            pdf=str(made / "x.pdf"),
        )
