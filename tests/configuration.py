"""A copy of the project's configuration, edited, and the one line that refuses it."""

import pytest
from resolved_plans import resolved

from contrastdp.errors import InputError


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def told(folder, **command_line):
    with pytest.raises(InputError) as error:
        resolved(folder, **command_line)
    assert "\n" not in str(error.value)
    return str(error.value)


def with_row(folder, **cells):
    """The row `contrastive_hnm` with these cells; the plan's generators are checked."""
    path = folder / "generators.tsv"
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    names = header.split("\t")
    (at,) = [k for k, row in enumerate(rows) if row.startswith("contrastive_hnm\t")]
    found = dict(zip(names, rows[at].split("\t"), strict=True)) | cells
    rows[at] = "\t".join(found[name] for name in names)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def add_arm(folder, **cells):
    """One more row of arms.tsv: the demo's first, with `cells`."""
    path = folder / "arms.tsv"
    header, first = path.read_text(encoding="utf-8").splitlines()[:2]
    row = dict(zip(header.split("\t"), first.split("\t"), strict=True)) | cells
    with path.open("a", encoding="utf-8") as file:
        file.write("\t".join(row.values()) + "\n")
