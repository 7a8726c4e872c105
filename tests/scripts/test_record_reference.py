"""record_reference on a made run: what it copies, sums and puts into the README."""

import json

from one_line import told

from contrastdp.report import reference
from record_reference import record_reference


def test_a_record_renders_to_what_the_readme_shows(tmp_path, root):
    source = root / "results" / "reference"
    evaluations = []
    for number, content in enumerate(json.loads((source / "evaluations.json").read_text())):
        path = tmp_path / f"evaluation{number}.json"
        path.write_text(json.dumps(content))
        evaluations.append(str(path))
    benchmarks = tmp_path / "benchmarks"
    for rule, seconds in (("train_robust", 1000.0), ("make_table", 9.0), ("write_report", 0.5)):
        (benchmarks / rule).mkdir(parents=True)
        header = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"
        row = f"{seconds}\t0:00:10\t100\t0\t0\t0\t0\t0\t99\t9.0"
        (benchmarks / rule / "a.tsv").write_text(f"{header}\n{row}\n")
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{reference.BEGIN}\nold\n{reference.END}\n\nrest\n")
    record_reference(
        table=str(source / "robustness.csv"),
        evaluations=evaluations,
        benchmarks=[str(benchmarks)],
        readme=str(readme),
        folder=str(tmp_path / "record"),
    )
    text = readme.read_text()
    assert reference.render_record(tmp_path / "record") in text
    shown = [line for line in text.splitlines() if line.count("|") == 4]
    assert shown[2:] == [
        "| `train_robust` | 1 | 1000 |",
        "| 2 others | 2 | 10 |",
        "| sum | 3 | 1010 |",
    ]
    assert "old" not in text
    assert text.endswith("\n\nrest\n")
    again = (tmp_path / "record" / "robustness.csv").read_bytes()
    assert again == (source / "robustness.csv").read_bytes()


def test_a_readme_that_is_missing_is_told_before_anything_is_written(tmp_path):
    """As where the workflow is called from another folder."""
    given = {
        "table": "a.csv",
        "evaluations": [],
        "benchmarks": [],
        "readme": str(tmp_path / "R.md"),
    }
    assert "R.md: no such file" in told(record_reference, **given, folder=str(tmp_path / "record"))
    assert not list(tmp_path.iterdir())
