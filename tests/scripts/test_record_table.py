"""record_table on a made run: what it copies, and that an old record goes whole."""

import json

from contrastdp.files import read_csv, read_json
from record_table import record_table


def test_a_record_holds_the_files_and_where_they_were_made(tmp_path):
    made = {}
    for name, text in (("t.csv", "a,b\n1,2\n"), ("t.md", "| a |\n")):
        made[name] = text
        (tmp_path / name).write_text(text)
    for seed in (0, 1):
        content = {"seed": seed, "attack": {"eps": "1/10", "steps": [1, 2]}}
        (tmp_path / f"evaluation{seed}.json").write_text(json.dumps(content))
    header = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"
    for rule, seconds in (("train_robust", (10.0, 4.5)), ("make_table", (1.5,))):
        (tmp_path / "benchmarks" / rule).mkdir(parents=True)
        for number, value in enumerate(seconds):
            row = f"{value}\t0:00:10\t100\t0\t0\t0\t0\t0\t99\t9.0"
            (tmp_path / "benchmarks" / rule / f"{number}.tsv").write_text(f"{header}\n{row}\n")
    folder = tmp_path / "record"
    folder.mkdir()
    (folder / "stale.csv").write_text("old")

    record_table(
        tables=[str(tmp_path / name) for name in made],
        evaluations=[str(tmp_path / f"evaluation{seed}.json") for seed in (0, 1)],
        benchmarks=str(tmp_path / "benchmarks"),
        folder=str(folder),
    )
    assert {name: (folder / name).read_text() for name in made} == made
    assert read_json(folder / "shared.json") == {"attack.eps": "1/10", "attack.steps": [1, 2]}
    assert [row["seed"] for row in read_csv(folder / "runs.csv")] == ["0", "1"]
    times = {row["rule"]: row for row in read_csv(folder / "times.csv")}
    assert (times["train_robust"]["jobs"], float(times["train_robust"]["seconds"])) == ("2", 14.5)
    assert {path.name for path in folder.iterdir()} == {
        *made,
        *("shared.json", "runs.csv", "times.csv", "machine.json"),
    }
