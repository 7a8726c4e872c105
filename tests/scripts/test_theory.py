"""The theory's scripts, files in and files out, on a small version of the shipped settings."""

import csv
from pathlib import Path

import pytest
import yaml
from one_line import told

from contrastdp.evidence import claims
from judge_claims import judge_claims
from make_gaussian_table import make_gaussian_table
from plot_gaussian import plot_gaussian
from simulate_gaussian import simulate_gaussian

CONFIG = Path(__file__).parents[2] / "config"
SETTINGS = yaml.safe_load((CONFIG / "theory.yaml").read_text())["theory"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Everything the theory makes, from few trials and test points."""
    folder = tmp_path_factory.mktemp("theory")
    settings = dict(SETTINGS["simulate_gaussian"])
    settings |= {"trials": 8, "test_points": 300, "regenerations": 12}
    settings["proposition_settings"] = settings["proposition_settings"] | {
        "trials": 60,
        "synthetic": 50,
        "angles": [-90, -45, 0, 45, 90],
    }
    settings["theorem_settings"] = settings["theorem_settings"] | {
        "trials": 60,
        "resamples": 20,
        "largest": 400,
        "steps": 15,
    }
    simulate_gaussian(
        reported=str(CONFIG / "reported/gaussian.csv"),
        **{k: str(folder / f"{k}.csv") for k in ("cells", "proposition", "theorem")},
        **settings,
    )
    make_gaussian_table(
        cells=str(folder / "cells.csv"),
        reported=str(CONFIG / "reported/gaussian.csv"),
        version1=str(CONFIG / "reported/gaussian_version1.csv"),
        csv=str(folder / "gaussian.csv"),
        md=str(folder / "gaussian.md"),
        tex=str(folder / "gaussian.tex"),
        verdicts_csv=str(folder / "verdicts.csv"),
        verdicts_md=str(folder / "verdicts.md"),
        misfits=str(folder / "misfits.csv"),
        geometry=settings["geometry"],
        trials=settings["trials"],
        test_points=settings["test_points"],
        **SETTINGS["make_gaussian_table"] | {"level": 0.1},
    )
    return folder


def test_a_printed_cell_that_stands_twice_is_told_before_anything_is_simulated(tmp_path):
    rows = (CONFIG / "reported/gaussian.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "twice.csv").write_text("\n".join([*rows, rows[3]]) + "\n", encoding="utf-8")
    nowhere = dict.fromkeys(("cells", "proposition", "theorem"), str(tmp_path / "none.csv"))
    line = told(
        simulate_gaussian,
        reported=str(tmp_path / "twice.csv"),
        **nowhere,
        **SETTINGS["simulate_gaussian"],
    )
    cell = " ".join(rows[3].split(",")[:5])
    place = f"{tmp_path / 'twice.csv'}, line {len(rows) + 1}"
    assert line.startswith(f"{place}: repeats the cell '{cell}' (table angle d source n)")
    assert not (tmp_path / "none.csv").exists()


def _rows(path):
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_printed_cell_has_both_variants(folder):
    printed = _rows(CONFIG / "reported/gaussian.csv")
    table = _rows(folder / "gaussian.csv")
    assert len(table) == 2 * len(printed) == 240
    keys = ("table", "angle", "d", "source", "n")
    for variant in ("fitted", "as_printed"):
        found = [[row[k] for k in keys] for row in table if row["variant"] == variant]
        assert found == [[row[k] for k in keys] for row in printed]
    for row, cell in zip(
        [row for row in table if row["variant"] == "fitted"], printed, strict=True
    ):
        assert float(row["paper_robust"]) == float(cell["rob"])
        assert float(row["paper_clean_std"]) == float(cell["clean_std"])


def test_twins_are_laid_out_like_the_paper(folder):
    markdown, latex = ((folder / f"gaussian.{kind}").read_text() for kind in ("md", "tex"))
    for table in ("1", "4", "5", "6", "7"):
        assert f"Table {table} of the paper" in markdown
    assert latex.count(r"\begin{table*}") == 5
    assert "0.9201 (0.0012)" in markdown and "90° rob acc, printed" in markdown
    for block in markdown.split("\n\n"):
        widths = {line.count("|") for line in block.splitlines() if line.startswith("|")}
        assert len(widths) <= 1


def test_verdicts_and_misfits_are_computed(folder):
    verdicts = _rows(folder / "verdicts.csv")
    assert [(v["table"], v["variant"]) for v in verdicts] == [
        (table, variant)
        for variant in ("fitted", "as_printed")
        for table in ("1", "4", "5", "6", "7", "all")
    ]
    assert {v["cells"] for v in verdicts if v["table"] == "all"} == {"112"}  # Table 1 reprints
    misfits = _rows(folder / "misfits.csv")
    assert {"geometry", "version 1", "bound"} <= {m["kind"] for m in misfits}
    text = (folder / "verdicts.md").read_text()
    assert text.count("- Table") == 10 and text.count("- All tables") == 2


def test_claims_of_the_theory_are_all_judged(folder):
    names = {
        "cells": folder / "cells.csv",
        "reported": CONFIG / "reported/gaussian.csv",
        "proposition": folder / "proposition.csv",
        "theorem": folder / "theorem.csv",
        "verdicts": folder / "verdicts.csv",
    }
    judge_claims(
        claims=str(CONFIG / "claims.yaml"),
        evidence=[str(path) for path in names.values()],
        names=list(names),
        scopes=["theory"],
        csv=str(folder / "claims.csv"),
        md=str(folder / "claims.md"),
    )
    rows = {row["id"]: row for row in _rows(folder / "claims.csv")}
    listed = yaml.safe_load((CONFIG / "claims.yaml").read_text())["claims"]
    assert set(rows) == {claim["id"] for claim in listed if claim["scope"] == "theory"}
    for row in rows.values():
        assert row["verdict"] in (claims.REPRODUCED, claims.NOT_REPRODUCED, claims.INCONCLUSIVE)
    # Closed forms, so the same at every number of trials.
    assert rows["case_1_standard_proof"]["verdict"] == claims.REPRODUCED
    assert rows["larger_c_needs_fewer"]["verdict"] == claims.REPRODUCED


def test_figures_are_drawn_and_repeat_to_the_byte(folder):
    def draw(place):
        paths = {
            f"{name}_{kind}": str(place / f"{name}.{kind}")
            for name in ("cases", "proposition", "theorem")
            for kind in ("png", "pdf")
        }
        plot_gaussian(
            proposition=str(folder / "proposition.csv"),
            theorem=str(folder / "theorem.csv"),
            **paths,
            **SETTINGS["plot_gaussian"],
        )
        return {name: Path(path).read_bytes() for name, path in paths.items()}

    first, second = draw(folder / "first"), draw(folder / "second")
    assert first == second
    assert all(len(content) > 3000 for content in first.values())
