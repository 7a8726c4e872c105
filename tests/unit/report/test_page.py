"""What the report says and shows, on input made by hand."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from contrastdp.errors import InputError
from contrastdp.evidence.claims import COLUMNS as CLAIMS
from contrastdp.files import write_json
from contrastdp.frames import as_rows, as_table, write_table
from contrastdp.report import page as report
from contrastdp.report.tables import COLUMNS
from write_report import write_report


def make_row(arm, difference=None, interval=(None, None), **changes):
    row = dict.fromkeys(COLUMNS) | {"arm": arm, "title": arm.upper(), "dataset": "digits"}
    row |= {"real": 200, "synthetic": 2000, "trainer": "trades", "seeds": 3, "n_test": 100}
    row |= {"generator": arm, "selection": "none", "clean_mean": 90.0, "clean_std": 1.0}
    row |= {"robust_mean": 80.0, "robust_std": 2.0, "robust_low": 75.03, "robust_high": 84.97}
    if difference is not None:
        row |= {"difference": difference, "reference": "ddim", "pairs": 3}
        row |= {"difference_low": interval[0], "difference_high": interval[1]}
    return row | changes


def frame(*rows):
    return as_table(rows, COLUMNS)


@pytest.mark.parametrize(
    ("difference", "interval", "verdict"),
    [
        (2.0, (0.5, 3.5), "higher"),
        (-2.0, (-3.5, -0.5), "lower"),
        (2.0, (-0.5, 4.5), "open"),
        (-2.0, (-4.0, 0.0), "open"),
        (2.0, (2.0, 2.0), "same"),
        (2.0, (None, None), "one"),
    ],
)
def test_a_difference_is_claimed_only_where_the_interval_leaves_out_zero(
    difference, interval, verdict
):
    (part,) = report.summarise(frame(make_row("ddim"), make_row("hnm", difference, interval)))
    ((phrase, arms),) = part["verdicts"]
    assert phrase == report.VERDICTS[verdict]
    assert arms[0].startswith("HNM " + ("+2.00" if difference > 0 else "−2.00"))
    assert "DDIM (80.0% of 100 test images of digits)" in part["sentence"]
    assert "over 3 paired seeds" in part["sentence"]


def test_no_reference_gives_no_claim():
    assert report.summarise(frame(make_row("ddim"), make_row("hnm"))) == []


def test_tags_are_taken_from_comments_and_their_next_lines(tmp_path):
    source, other = tmp_path / "a.py", tmp_path / "b.yaml"
    source.write_text(
        'x = 1  # PAPER: stated per batch\ntext = "# ASSUME: no tag"\n'
        "# ASSUME: first line\n# second line\n\n# not of the tag\n"
        "# PAPER: one\n# PAPER: two\ny = 2  # beside\n"
    )
    other.write_text("eps: 0.1  # ASSUME: not printed\nlambda: 1  # by hand\n")
    found = [(t["line"], t["tag"], t["text"]) for t in report.gather_tags([source, other])]
    assert found == [
        (1, "PAPER", "stated per batch"),
        (3, "ASSUME", "first line second line"),
        (7, "PAPER", "one"),
        (8, "PAPER", "two"),
        (1, "ASSUME", "not printed"),
    ]
    with pytest.raises(InputError, match="no such file"):
        report.gather_tags([tmp_path / "c.py"])


def test_times_are_summed_by_rule(tmp_path):
    head = "s\th:m:s\tmax_rss\tcpu_time\n"
    for name, row in (
        ("train/digits/seed0", "1.5\t0:00:01\t300.0\t1.0\n"),
        ("train/digits/seed1", "2.5\t0:00:02\t100.0\t2.0\n"),
        ("table/table", "0.1\t0:00:00\tNA\tNA\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.tsv").write_text(head + row)
    summed = report.sum_benchmarks(report.find_benchmarks(tmp_path))
    table, train = as_rows(summed)
    expected = {"rule": "train", "jobs": 2, "seconds": 4.0, "cpu": 3.0, "memory": 300.0}
    assert train == expected
    assert (table["seconds"], table["memory"]) == (0.1, None)
    shown = report.show_times(summed).to_numpy().tolist()
    assert shown[1] == ["train", "2", "4.0", "2.0", "3.0", "300"]
    assert shown[0][-1] == "–"
    (tmp_path / "table/table.tsv").write_text(head + "NA\t0:00:00\tNA\tNA\n")
    with pytest.raises(InputError, match=r"table\.tsv: column s is no number"):
        report.sum_benchmarks(report.find_benchmarks(tmp_path))


def test_settings_are_laid_out_by_section():
    settings = {
        "scale": "demo",
        "seeds": [0, 1],
        "digits": {"attack": {"eps": "1/10"}, "channels": 1},
        "arms": [{"arm": "a", "real": 200}, {"arm": "b", "synthetic": None}],
    }
    general, digits, arms = report.lay_out_settings(settings)
    assert general["rows"] == [["scale", "demo"], ["seeds", "0, 1"]]
    assert digits["rows"] == [["attack.eps", "1/10"], ["channels", "1"]]
    assert arms["header"] == ["arm", "real", "synthetic"]
    assert arms["rows"] == [["a", "200", ""], ["b", "", ""]]


# ---------------------------------------------------------------- the page
class Page(HTMLParser):
    """Keeps what a page refers to, and which tags it opens and closes."""

    VOID = ("meta", "img", "link", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.references, self.ids, self.seen = [], [], set(), set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.references += [value for name, value in attrs if name in ("href", "src")]
        self.ids |= {value for name, value in attrs if name == "id"}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def study(tmp_path):
    rows = [make_row("ddim"), make_row("hnm", 2.0, (-0.5, 4.5), title="<script>HNM</script>")]
    write_table(tmp_path / "tables/robustness.csv", frame(*rows))
    (tmp_path / "tables/robustness.md").write_text("The caption, 100 images.\n\n| a |\n| - |\n")
    claim = {"statement": "1 < 2 & so on", "source": "section 3", "effect": "0.123456789"}
    claim |= {"low": "0.1", "high": "0.2", "unit": "points", "threshold": "0", "evidence": "cells"}
    claim |= {"verdict": "reproduced"}
    write_table(tmp_path / "claims.csv", as_table([claim], CLAIMS))
    figure = Figure()
    figure.savefig(tmp_path / "a.png")
    paths = []
    for seed in (0, 1):
        path = tmp_path / f"digits/seed{seed}/evaluation.json"
        write_json(
            path,
            {"arm": "ddim", "seed": seed, "dataset": "digits", "generator": "ddim", "real": 200}
            | {"synthetic": 0, "selection": "none", "trainer": "trades", "n_test": 100}
            | {"clean_accuracy": 0.91, "robust_accuracy": 0.8125, "accuracy_after": {"fab": 0.83}}
            | {"attack": {"version": "standard", "attacks": ["fab"], "eps": "1/10"}}
            | {"training": {"best_step": 77}}
            | {"provenance": {"commit": "abc+", "device": f"cpu{seed}",
                              "versions": {"torch": "2.13.0"}}},
        )  # fmt: skip
        paths.append(str(path))
    return {
        "title": "A & B",
        "tables": [
            {"title": "Robustness", "csv": str(tmp_path / "tables/robustness.csv")}
            | {"markdown": str(tmp_path / "tables/robustness.md")}
        ],
        "figures": [{"title": "Map", "caption": "A map.", "png": str(tmp_path / "a.png")}],
        "evaluations": paths,
        "benchmarks": str(tmp_path / "benchmarks"),
        "settings": {"scale": "demo", "note": "<b>bold</b>"},
        "sources": [],
        "details": [str(tmp_path / "digits/training.json")],
        "claims": str(tmp_path / "claims.csv"),
        "output": str(tmp_path / "report.html"),
    }


def test_the_page_stands_alone_and_is_well_formed(study):
    write_report(**study)
    text = Path(study["output"]).read_text()
    page = Page(text)
    assert page.open == []
    assert not page.seen & {"script", "link", "iframe", "object"}
    assert not re.search(r"https?://|url\(|@import", text)
    for reference in page.references:
        if reference.startswith("#"):
            assert reference[1:] in page.ids
        else:
            assert reference.startswith("data:image/png;base64,") or not reference.startswith("/")
    # Links lead from the page to files that are there.
    links = [r for r in page.references if r.endswith((".json", ".csv"))]
    assert "digits/seed1/evaluation.json" in links
    assert "digits/training.json" in links
    for link in links:
        if link != "digits/training.json":
            assert (Path(study["output"]).parent / link).is_file()


def test_the_page_shows_what_was_run_and_escapes_it(study):
    write_report(**study)
    text = Path(study["output"]).read_text()
    for shown in (
        *("A &amp; B", "&lt;b&gt;bold&lt;/b&gt;", "1 &lt; 2 &amp; so on"),
        "0.1235 [0.1, 0.2] points",
        *("&lt;script&gt;HNM&lt;/script&gt; +2.00 [−0.50, +4.50]", "The caption, 100 images."),
        *("No difference detected", "80.0 ± 2.0 [75.0, 85.0]", "81.25", "fab 83.00", ">77<"),
        *("abc+ (+: with changes that were not committed)", "cpu0, cpu1", "torch 2.13.0"),
    ):
        assert shown in text


def test_the_same_input_gives_the_same_page(study):
    write_report(**study)
    first = Path(study["output"]).read_bytes()
    write_report(**study)
    assert Path(study["output"]).read_bytes() == first


def test_a_report_needs_no_tables_figures_or_claims(study):
    write_report(**(study | {"tables": [], "figures": [], "claims": None, "details": []}))
    text = Path(study["output"]).read_text()
    assert Page(text).open == []
    assert "No table of accuracies was given." in text
    assert 'href="#claims"' not in text


def test_any_other_table_is_shown_as_it_is(study, tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text("name,value\na,0.123456789\nb,12\n")
    shown = report.show_table({"title": "T", "csv": str(path), "caption": "c"}, tmp_path)
    assert shown["rows"] == [["a", "0.1235"], ["b", "12"]]
    assert (shown["right"], shown["summary"], shown["link"]) == ([False, True], None, "plain.csv")


@pytest.mark.parametrize("content", [None, b"GIF89a"])
def test_a_picture_that_is_none_is_refused_in_one_line(study, content):
    png = Path(study["figures"][0]["png"])
    png.unlink()
    if content:
        png.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png: (no such file|is not a PNG)"):
        write_report(**study)
    assert not Path(study["output"]).exists()
