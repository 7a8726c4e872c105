"""Generators that are sampled and measured, and trained on by no arm: rows of measured.tsv."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contrastdp.errors import InputError
from contrastdp.plan import combinations
from contrastdp.plan.settings import Row, choose

KEY = ("scale", "table", "panel", "dataset", "method", "generator")
GUIDED = {"vanilla": "vanilla classifier", "robust": "robust classifier"}  # role -> method
PAIR = "quality"  # the panel whose guided rows are compared by the gradients and the pictures


@dataclass(frozen=True)
class Measured:
    """The rows of a scale, checked, in the order of the sheet, and where each stands."""

    rows: Sequence[Row] = field(default_factory=list)
    places: Sequence[str] = field(default_factory=list)

    def of_table(self, table: str) -> list[Row]:
        """Rows that a table shows."""
        return [row for row in self.rows if row["table"] == table]

    def images(self, dataset: str, generator: str, real: int) -> int:
        """How many images of a generator are measured; 0 where none are."""
        own = {"dataset": dataset, "generator": generator, "real": real}
        return max((row["images"] for row in self.rows if own.items() <= row.items()), default=0)

    def quality(self, table: str, dataset: str) -> dict[str, Row]:
        """Method -> row of the panel `quality`, in the order of the sheet."""
        own = {"panel": PAIR, "dataset": dataset}
        return {r["method"]: r for r in self.of_table(table) if own.items() <= r.items()}

    def pair(self, table: str, dataset: str) -> dict[str, Row]:
        """'vanilla' and 'robust' -> their rows of the panel `quality`."""
        rows = self.quality(table, dataset)
        return {role: rows[method] for role, method in GUIDED.items()}


def check_measured(
    rows: Sequence[tuple[str, Row]],
    *,
    scale: str,
    scales: Collection[str],
    datasets: Mapping[str, Mapping[str, Any]],
    generators: Collection[str],
    tables: Mapping[str, Row],
) -> Measured:
    """The rows of one scale; rows: (place, row) of all. InputError names the place."""
    kept: list[Row] = []
    places: list[str] = []
    images: dict[tuple[Any, ...], int] = {}
    taken = set()
    for place, row in rows:
        choose(row["scale"], scales, "scale", place)
        choose(row["generator"], generators, "generator", place)
        choose(row["table"], tables, "table", place)
        if row["scale"] != scale:
            continue
        choose(row["dataset"], datasets, "data set", place)
        settings = datasets[row["dataset"]]
        for column in ("real", "images", "seeds"):
            if row[column] is None:
                raise InputError(f"{place}: {column} is empty; fill it in")
        available = combinations.training_images(row["dataset"], settings["sizes"])
        if row["real"] > available:
            raise InputError(
                f"{place}: real is {row['real']}; the training split has {available} images"
            )
        combinations.check_measured(row["images"], settings["measured"], place)
        own = row["dataset"], row["generator"], row["real"]
        if images.setdefault(own, row["images"]) != row["images"]:
            raise InputError(
                f"{place}: images is {row['images']}, and {images[own]} in another row of this "
                "generator; measure as many in both"
            )
        setting = (*(row[name] for name in KEY[:-1]), row["setting"])
        if setting in taken:
            raise InputError(
                f"{place}: another row has this panel, method and setting; change one of them"
            )
        taken.add(setting)
        kept.append(row)
        places.append(place)
    return Measured(kept, places)


def check_pairs(found: Measured, table: str, datasets: Collection[str], where: str) -> None:
    """Raise InputError where a table that compares gradients lacks one of the two classifiers."""
    for dataset in datasets:
        rows = found.quality(table, dataset)
        for method in GUIDED.values():
            if method not in rows:
                raise InputError(
                    f"{where}: table '{table}' compares the gradients of two classifiers, and its "
                    f"panel '{PAIR}' of {dataset} has no row of the {method}; add it"
                )
        reals = {(rows[m]["real"], rows[m]["seeds"]) for m in GUIDED.values()}
        if len(reals) > 1:
            raise InputError(
                f"{where}: real or seeds differ in the two guided rows of table '{table}', panel "
                f"'{PAIR}', {dataset}; write the same in both"
            )
