"""The control of a guided arm: its twin, guided in a random direction of the same size.

A gain over plain sampling alone does not show that the direction of the guidance matters. A twin
differs from its arm in the generator's `direction` and in nothing else.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from contrastdp.errors import InputError
from contrastdp.plan.settings import Row

SUFFIX = "_random"
WORDS = ", random direction"
NAMES = ("generator", "title")
ALIKE = (
    *("dataset", "generator", "real", "synthetic", "selection", "candidates", "trainer"),
    *("train_on", "batch", "steps", "shift", "eps"),
)


def with_twins(
    arms: Mapping[str, Row],
    generators: Mapping[str, Row],
    *,
    tables: Collection[str],
    guidance: Callable[[str, str], Mapping[str, Any] | None],
) -> tuple[dict[str, Row], dict[str, Row]]:
    """Arms and generators, with a twin in each of `tables` for each arm that is guided there.

    arms: name -> row with its seeds by table; guidance: settings of a data set's generator, with
    direction 'gradient' or 'random', or None. An arm or a generator that is a twin already is
    taken for it, and stands in the tables where its arm does; a new one follows its arm, named
    {arm}_random. Raises InputError where another arm or generator has that name.
    """
    generators, found = dict(generators), {name: dict(row) for name, row in arms.items()}
    order: list[str] = []
    for name, row in arms.items():
        order.append(name)
        seeds = {table: row["tables"][table] for table in tables if table in row["tables"]}
        if not seeds or not _is_guided(row, guidance):
            continue
        generator = _twin_generator(generators[row["generator"]], generators)
        generators.setdefault(generator["generator"], generator)
        wanted = row | {"generator": generator["generator"]}
        twins = [other for other in found if _alike(found[other], wanted)]
        if not twins:
            twins = [_unused(name + SUFFIX, found, "arm")]
            own = {"arm": twins[0], "title": row["title"] + WORDS, "reported": None, "tables": {}}
            found[twins[0]] = wanted | own
            order.append(twins[0])
        if not any(seeds.items() <= found[other]["tables"].items() for other in twins):
            twin = found[twins[0]]
            twin["tables"] = seeds | twin["tables"]  # its own seeds where it has the table already
    return {name: found[name] for name in order}, generators


def _is_guided(row: Row, guidance: Callable[[str, str], Mapping[str, Any] | None]) -> bool:
    if row["generator"] is None:
        return False
    settings = guidance(row["dataset"], row["generator"])
    return settings is not None and settings.get("direction", "gradient") == "gradient"


def _twin_generator(row: Row, generators: Mapping[str, Row]) -> Row:
    wanted = row | {"direction": "random"}
    for other in generators.values():
        if all(other[column] == wanted[column] for column in wanted if column not in NAMES):
            return other
    name = _unused(row["generator"] + SUFFIX, generators, "generator")
    return wanted | {"generator": name, "title": row["title"] + WORDS}


def _alike(row: Row, wanted: Row) -> bool:
    return all(row[column] == wanted[column] for column in ALIKE)


def _unused(name: str, rows: Collection[str], kind: str) -> str:
    if name in rows:
        raise InputError(
            f"{kind} '{name}': the name is that of a random-direction twin; rename it, or take the "
            "table out of twins"
        )
    return name
