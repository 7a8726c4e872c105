"""What an attack left of each test image: shards put together, counted and checked."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from contrastdp.attack.versions import MISCLASSIFIED, ROBUST, VERSIONS
from contrastdp.errors import InputError
from contrastdp.files import check_numbers, read_json
from contrastdp.frames import as_rows, as_table, read_table, text, whole

IMAGE_FIELDS = whole("index", "label", "clean_prediction") | text("broken_by")
SHARD_FIELDS = (
    *("start", "stop", "n_test", "attack", "images", "gate"),
    *("seconds", "warnings", "provenance"),
)
# Share of the test images that Square may break after the gradient attacks: AutoAttack's own limit.
SQUARE_MAY = 0.002


def read_shards(paths: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
    """Read attack shards and order them by their first image; returns (path, shard) pairs.

    Raises InputError in one line for a shard that lacks a field, for an image without a possible
    outcome, for shards that overlap, leave a gap or end short of n_test, and for shards attacked
    in different ways.
    """
    shards = []
    for path in paths:
        shard = read_json(path)
        _check_shard(path, shard)
        shards.append((path, shard))
    if not shards:
        raise InputError("no attack shards given; name at least one")
    shards.sort(key=lambda pair: (pair[1]["start"], pair[1]["stop"]))
    first_path, first = shards[0]
    reached = 0
    for path, shard in shards:
        for field in ("n_test", "attack"):
            if shard[field] != first[field]:
                raise InputError(
                    f"{path}: {difference(field, shard[field], first[field])} in {first_path}; "
                    "delete the older shards and run again"
                )
        if shard["start"] != reached:
            what = "repeats" if shard["start"] < reached else "leaves out"
            low, high = sorted((shard["start"], reached))
            raise InputError(
                f"{path}: starts at image {shard['start']} and so {what} images {low} to "
                f"{high - 1}; give each shard once"
            )
        reached = shard["stop"]
    if reached != first["n_test"]:
        raise InputError(
            f"{shards[-1][0]}: shards end at image {reached} of {first['n_test']}; "
            "run the missing attack shards"
        )
    return shards


def join_images(shards: Sequence[tuple[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """One row a test image, in IMAGE_FIELDS and in the order of index."""
    parts = ({field: shard["images"][field] for field in IMAGE_FIELDS} for _, shard in shards)
    return pd.concat([as_table([], IMAGE_FIELDS), *map(pd.DataFrame, parts)], ignore_index=True)


def read_images(path: str) -> pd.DataFrame:
    """Read what join_images gave and gather_attacks wrote as CSV: one row a test image.

    Raises InputError in one line for other columns, no images, an index that is not 0, 1, ... in
    order, or a class that is no whole number.
    """
    images = read_table(path, IMAGE_FIELDS)
    if images.empty or images.drop(columns="broken_by").isna().any(axis=None):
        raise InputError(f"{path}: expected images with {', '.join(IMAGE_FIELDS)}; gather it again")
    if list(images["index"]) != list(range(len(images))):
        raise InputError(f"{path}: index is not 0 to {len(images) - 1} in order; gather it again")
    return images.fillna({"broken_by": ROBUST})


def count_outcomes(
    images: pd.DataFrame, attacks: Sequence[str]
) -> tuple[float, float, dict[str, float]]:
    """Clean accuracy, robust accuracy, and accuracy after each attack in turn (fractions).

    An image counts as robust when no attack of the sequence broke it: the worst case over
    attacks, as AutoAttack reports (Croce & Hein 2020). `attacks` is in the order they ran.
    """
    broken = Counter(images["broken_by"])
    left = len(images) - broken[MISCLASSIFIED]
    clean, after = left / len(images), {}
    for attack in attacks:
        left -= broken[attack]
        after[attack] = left / len(images)
    return clean, broken[ROBUST] / len(images), after


def summary(shards: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """What an attack left of one network: accuracies (fractions), warnings, and seconds."""
    clean, robust, after = count_outcomes(join_images(shards), shards[0][1]["attack"]["attacks"])
    return {
        "clean_accuracy": clean,
        "robust_accuracy": robust,
        "accuracy_after": after,
        "gate": join_gate(shards),
        "warnings": join_warnings(shards),
        "seconds": sum_seconds(shards),
    }


def check_alike(
    shards: Sequence[tuple[str, Mapping[str, Any]]], other: Sequence[tuple[str, Mapping[str, Any]]]
) -> None:
    """Check that two networks were attacked alike, on the same images; InputError in one line."""
    (path, one), (other_path, two) = shards[0], other[0]
    for field in ("n_test", "attack"):
        if one[field] != two[field]:
            raise InputError(
                f"{path}: {difference(field, one[field], two[field])} in {other_path}; best and "
                "last need one attack, so delete the older shards and run again"
            )
    labels = [list(join_images(parts)["label"]) for parts in (shards, other)]
    if labels[0] != labels[1]:
        raise InputError(
            f"{path}: has other test images than {other_path}; delete the older shards and run "
            "again"
        )


def as_version(evaluation: Mapping[str, Any], version: str) -> Mapping[str, Any]:
    """An evaluation as if only the attacks of `version` had run, which must be its first ones.

    evaluation: of gather_attacks. So one evaluation by 'worst' serves a table by 'standard', too.
    Raises InputError in one line for an evaluation that did not begin with these attacks.
    """
    attack = evaluation["attack"]
    if attack["version"] == version:
        return evaluation
    wanted = list(VERSIONS[version])
    if attack["attacks"][: len(wanted)] != wanted:
        raise InputError(
            f"arm {evaluation['arm']}, seed {evaluation['seed']}: was attacked by "
            f"{attack['version']}, which does not begin with the attacks of {version}; run it again"
        )
    kept = {key: value for key, value in attack.items() if key != "budget" or "mt" in wanted}
    losses = {name: loss for name, loss in kept.pop("losses", {}).items() if name in wanted}
    kept |= {"losses": losses} if losses else {}
    last = {"last": _first_attacks(evaluation["last"], wanted)} if "last" in evaluation else {}
    return (
        _first_attacks(evaluation, wanted)
        | last
        | {
            "attack": kept
            | {"version": version, "attacks": wanted}
            | {"iterations": {name: attack["iterations"][name] for name in wanted}},
        }
    )


def _first_attacks(network: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """A network's summary as if the attacks `wanted`, its first ones, had been all."""
    return dict(network) | {
        "robust_accuracy": network["accuracy_after"][wanted[-1]],
        "accuracy_after": {name: network["accuracy_after"][name] for name in wanted},
        "seconds": {name: network["seconds"][name] for name in wanted},
    }


def images_as_version(images: pd.DataFrame, version: str) -> pd.DataFrame:
    """Outcomes as as_version: an image broken by a later attack counts as robust."""
    possible = images["broken_by"].isin([ROBUST, MISCLASSIFIED, *VERSIONS[version]])
    return images.assign(broken_by=images["broken_by"].where(possible, ROBUST))


def sum_seconds(shards: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, float]:
    """Seconds that each attack took on all shards together."""
    total: Counter[str] = Counter()
    for _, shard in shards:
        total.update(shard["seconds"])
    return dict(total)


def join_gate(shards: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Each warning of the shards' gates once, in the order of the shards.

    A warning has name, says, and images, of: on how many of the images that the gate looked at,
    None where that means nothing. They are added up over the shards that warn.
    """
    joined: dict[tuple[str, str], dict[str, Any]] = {}
    for _, shard in shards:
        for warning in shard["gate"]:
            known = joined.get((warning["name"], warning["says"]))
            if known is None:
                joined[warning["name"], warning["says"]] = dict(warning)
            elif known["of"] is not None:
                known["images"] += warning["images"]
                known["of"] += warning["of"]
    return list(joined.values())


def join_warnings(shards: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """What the attack itself warned of, each once, in the form of join_gate's warnings.

    AutoAttack's texts (name: autoattack) come without their numbers, which count the images of one
    batch and restart. Its sign of masked gradients, that Square breaks images which the attacks
    before it left (name: square-lowers), is judged over the whole test split: shards are too small.
    """
    said = (text for _, shard in shards for text in shard["warnings"])
    texts = dict.fromkeys(
        re.sub(r"\d+(\.\d+)?%?", "some", text).removesuffix(" See flags_doc.md for details.")
        for text in said
    )
    joined: list[dict[str, Any]] = [
        {"name": "autoattack", "says": text, "images": None, "of": None} for text in texts
    ]
    broken = Counter(by for _, shard in shards for by in shard["images"]["broken_by"])["square"]
    images = sum(len(shard["images"]["index"]) for _, shard in shards)
    if broken > SQUARE_MAY * images:
        text = "Square breaks what the gradient attacks left, which hints at masked gradients"
        joined.append({"name": "square-lowers", "says": text, "images": broken, "of": images})
    return joined


def join_provenance(shards: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """The shards' provenance as one: what they share once, what differs joined by commas."""
    return _join([shard["provenance"] for _, shard in shards])


def _join(values: list[Any]) -> Any:
    if all(isinstance(value, dict) for value in values):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: _join([value[key] for value in values if key in value]) for key in keys}
    if all(value == values[0] for value in values):
        return values[0]
    return ", ".join(sorted({str(value) for value in values}))


def difference(what: str, one: Any, other: Any) -> str:
    """Say in a few words how two settings differ, by the keys that do where both are mappings."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        if keys:
            return f"{what} {keys[0]} is {one.get(keys[0])!r} but {other.get(keys[0])!r}"
    return f"{what} is {one!r} but {other!r}"


def _check_shard(path: str, shard: Any) -> None:
    again = "delete it and run its attack again"
    missing = [field for field in SHARD_FIELDS if not isinstance(shard, dict) or field not in shard]
    if missing:
        raise InputError(f"{path}: lacks '{missing[0]}'; {again}")
    check_numbers(path, shard, ("start", "stop", "n_test"))
    start, stop, images = shard["start"], shard["stop"], shard["images"]
    if not 0 <= start < stop:
        raise InputError(f"{path}: spans images {start} to {stop}, expected 0 <= start < stop")
    for field in IMAGE_FIELDS:
        if len(images.get(field, ())) != stop - start:
            raise InputError(
                f"{path}: images.{field} has {len(images.get(field, ()))} entries for the "
                f"{stop - start} images {start} to {stop - 1}; {again}"
            )
    if list(images["index"]) != list(range(start, stop)):
        raise InputError(f"{path}: images.index is not {start} to {stop - 1} in order; {again}")
    possible = {ROBUST, MISCLASSIFIED, *shard["attack"].get("attacks", ())}
    for image in as_rows(join_images([(path, shard)])):
        if image["broken_by"] not in possible:
            raise InputError(
                f"{path}: image {image['index']} is broken by {image['broken_by']!r}, none of the "
                f"attacks run; {again}"
            )
        wrong = image["clean_prediction"] != image["label"]
        if wrong != (image["broken_by"] == MISCLASSIFIED):
            raise InputError(
                f"{path}: image {image['index']} of class {image['label']}, predicted "
                f"{image['clean_prediction']} unattacked, cannot be broken by "
                f"{image['broken_by']!r}; {again}"
            )
