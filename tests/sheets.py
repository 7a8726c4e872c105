"""The sheets of config/ as they stand, read without the project's own reader."""

import csv

from code_graph import ROOT


def read_rows(name: str) -> list[dict[str, str]]:
    """Rows of a sheet of config/."""
    with open(ROOT / "config" / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))
