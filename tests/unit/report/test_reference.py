"""The README's rendered part, and the record it is rendered from."""

import pandas as pd
import pytest

from contrastdp.errors import InputError
from contrastdp.frames import as_rows
from contrastdp.jobs.machine import describe_machine
from contrastdp.report import reference


def test_the_readme_shows_the_record(root):
    """The table in the README is the one that the committed record renders to."""
    text = (root / "README.md").read_text(encoding="utf-8")
    part = text.split(reference.BEGIN)[1].split(reference.END)[0].strip()
    assert part == reference.render_record(root / "results" / "reference")


def test_only_the_part_between_the_marks_changes():
    text = f"before\n{reference.BEGIN}\nold\n{reference.END}\nafter\n"
    new = reference.between_marks(text, "new", "README.md")
    assert new == f"before\n{reference.BEGIN}\n\nnew\n\n{reference.END}\nafter\n"
    assert reference.between_marks(new, "new", "README.md") == new


@pytest.mark.parametrize("text", ["", reference.BEGIN, reference.END, "no marks"])
def test_missing_marks_are_told_in_one_line(text):
    with pytest.raises(InputError, match="put them back") as error:
        reference.between_marks(text, "new", "README.md")
    assert "\n" not in str(error.value)


def test_times_are_ordered_and_summed():
    rules = [
        {"rule": "a", "jobs": 2, "seconds": 1.04, "cpu": 1.0, "memory": 10.4},
        {"rule": "b", "jobs": 1, "seconds": 9.0, "cpu": 9.0, "memory": None},
    ]
    assert as_rows(reference.times_of(pd.DataFrame(rules))) == [
        {"rule": "b", "jobs": 1, "seconds": 9.0, "memory_mib": 0},
        {"rule": "a", "jobs": 2, "seconds": 1.0, "memory_mib": 10},
    ]


def test_the_machine_is_described_without_its_name():
    import platform

    machine = describe_machine()
    assert machine["cores"] >= 1
    assert machine["memory_gib"] >= 1
    assert platform.node() not in machine.values()


def test_shared_and_rest_hold_all_that_the_records_said():
    results = [
        {"arm": "a", "attack": {"eps": "1/10", "after": {"x": 0.5}}, "list": [1, 2]},
        {"arm": "b", "attack": {"eps": "1/10", "after": {"x": 0.25}}, "list": [1, 3]},
        {"arm": "c", "attack": {"eps": "1/10"}, "list": [1, 2], "more": {}},
    ]
    shared, rows = reference.split_shared(results)
    assert shared == {"attack.eps": "1/10"}
    assert rows == [
        {"arm": "a", "attack.after.x": 0.5, "list": "[1, 2]", "more": None},
        {"arm": "b", "attack.after.x": 0.25, "list": "[1, 3]", "more": None},
        {"arm": "c", "attack.after.x": None, "list": "[1, 2]", "more": {}},
    ]
