"""Rows of tables.tsv, and what is wrong with one."""

import pytest
from resolved_plans import CONFIG

from contrastdp.errors import InputError
from contrastdp.files import read_csv
from contrastdp.plan.tables import read_tables

ROW = {"table": "a", "title": "A", "kind": "ours", "dataset": "", "printed": ""}
ROW |= {"attack": "version", "chosen_by": "no", "figures": "sizes theory", "audited": "yes"}


def test_the_project_s_tables_are_read():
    found = read_tables(read_csv(CONFIG / "tables.tsv", delimiter="\t"), "tables.tsv")
    assert [name for name, row in found.items() if row["chosen_by"]] == ["search"]
    assert next(iter(found)) == "robustness"
    assert sum(row["attack"] == "ablations" for row in found.values()) == 4
    assert found["cifar10_table2"]["printed"] == "2"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "our"}, "line 2 \\(a\\): kind 'our' does not exist; did you mean ours"),
        ({"attack": "best"}, "attack 'best' does not exist"),
        ({"figures": "sizes sampels"}, "figure 'sampels' .* did you mean samples"),
        ({"audited": "true"}, "audited: is 'true'; write yes or no"),
        ({"audited": ""}, "audited is empty"),
        ({"title": ""}, "title is empty"),
        ({"printed": "3"}, "both dataset and printed"),
    ],
)
def test_a_fault_is_named(change, words):
    with pytest.raises(InputError, match=words):
        read_tables([ROW | change], "tables.tsv")


def test_no_table_and_one_twice_are_refused():
    with pytest.raises(InputError, match="has no table"):
        read_tables([], "tables.tsv")
    with pytest.raises(InputError, match="repeats the row 'a'"):
        read_tables([ROW, ROW], "tables.tsv")


def test_a_figure_of_one_table_s_arms_stands_in_one_table():
    rows = [ROW | {"figures": "guidance"}, ROW | {"table": "b", "figures": "sizes guidance"}]
    with pytest.raises(
        InputError, match=r"line 3 \(b\): the figure 'guidance' is that of table 'a'"
    ):
        read_tables(rows, "tables.tsv")
