"""One arm against another: over their seeds, image by image, and among a table's comparisons."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from contrastdp.attack.versions import MISCLASSIFIED, ROBUST
from contrastdp.errors import InputError
from contrastdp.evidence.outcomes import count_outcomes, images_as_version, read_images
from contrastdp.evidence.statistics import holm, mcnemar_test, sign_flip_test

COLUMNS = ("sign_flip_p", "holm_p", "images_won", "images_lost", "mcnemar_p", "image_difference")
HEADER = "p (Holm)"
Row = Mapping[str, Any]
Key = tuple[str, int]  # arm and seed
Outcomes = Mapping[Key, Sequence[Row]]


def read_outcomes(paths: Sequence[str], evaluations: Mapping[Key, Row]) -> dict[Key, list[Row]]:
    """Read outcomes.csv files by (arm, seed), in the order of `evaluations`, whose files they join.

    Raises InputError in one line for another number of files than evaluations, and for one whose
    images do not count up to its evaluation's accuracies. Attacks beyond the evaluation's version
    are left out, as as_version does.
    """
    if len(paths) != len(evaluations):
        raise InputError(
            f"{len(paths)} outcome files for {len(evaluations)} evaluations; give one for each, in "
            "the same order"
        )
    found: dict[Key, list[Row]] = {}
    for path, (name, content) in zip(paths, evaluations.items(), strict=True):
        images = images_as_version(read_images(path), content["attack"]["version"])
        clean, robust, _ = count_outcomes(images, ())
        for key, ours in (("clean_accuracy", clean), ("robust_accuracy", robust)):
            if len(images) != content["n_test"] or abs(ours - content[key]) > 1e-9:
                raise InputError(
                    f"{path}: {len(images)} images with {key} {ours}, not {content['n_test']} with "
                    f"{content[key]} as evaluated for arm {name[0]}, seed {name[1]}; give its own"
                )
        found[name] = images
    return found


def compare(
    arm: Row, base: Row, kind: str, evaluations: Mapping[Key, Row], outcomes: Outcomes
) -> dict[str, Any]:
    """Test an arm against another over the seeds that both have, with the keys of COLUMNS.

    arm, base: `arm` and `seeds`; kind: clean or robust. images_won, images_lost: right for the arm
    or its base alone, summed over seeds; mcnemar_p: 'seed: p' of each seed, joined by '; ', and
    image_difference likewise, in points [95% interval]. Seeds share the test images, so these are
    not combined. Without outcomes of every pair these are
    None; holm_p is left to adjusted. Raises InputError where a pair's test images differ.
    """
    found: dict[str, Any] = dict.fromkeys(COLUMNS)
    seeds = sorted(set(arm["seeds"]) & set(base["seeds"]))
    if not seeds:
        return found
    names = arm["arm"], base["arm"]
    values = [[evaluations[name, seed][f"{kind}_accuracy"] for seed in seeds] for name in names]
    found["sign_flip_p"] = round(
        sign_flip_test([ours - theirs for ours, theirs in zip(*values, strict=True)]).p, 6
    )
    if any((name, seed) not in outcomes for name in names for seed in seeds):
        return found
    results = {}
    for seed in seeds:
        pair = [outcomes[name, seed] for name in names]
        shown = [[(image["index"], image["label"]) for image in images] for images in pair]
        if shown[0] != shown[1]:
            raise InputError(
                f"arms {names[0]} and {names[1]}, seed {seed}: were attacked on different test "
                "images; run one of them again"
            )
        won, lost = ([_right(image, kind) for image in part] for part in pair)
        results[seed] = mcnemar_test(won, lost)
    return found | {
        "images_won": sum(result.won for result in results.values()),
        "images_lost": sum(result.lost for result in results.values()),
        "mcnemar_p": "; ".join(f"{seed}: {result.p:.3g}" for seed, result in results.items()),
        "image_difference": "; ".join(
            f"{seed}: {100 * r.difference:+.2f} [{100 * r.low:+.2f}, {100 * r.high:+.2f}]"
            for seed, r in results.items()
        ),
    }


def _right(image: Row, kind: str) -> bool:
    return image["broken_by"] == ROBUST if kind == "robust" else image["broken_by"] != MISCLASSIFIED


def adjusted(rows: Iterable[Row], names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows with holm_p: their sign_flip_p among all of the table; alike in `names` count once.

    A row without sign_flip_p is no comparison.
    """
    rows = list(rows)
    seen = {_named(row, names): row["sign_flip_p"] for row in rows}
    seen = {name: p for name, p in seen.items() if p is not None}
    least = dict(zip(seen, holm(list(seen.values())), strict=True))
    return [
        dict(row) | {"holm_p": round(p, 6) if (p := least.get(_named(row, names))) else None}
        for row in rows
    ]


def _named(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def p_text(p: float | None) -> str:
    """A p for people: three decimals, '<0.001' below, an en dash for None."""
    if p is None:
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def sentence(rows: Iterable[Row], names: Sequence[str]) -> str:
    """What the column HEADER is, and the least p that this table can hold; '' without any p.

    rows: with `pairs` and the keys of COLUMNS; names: as in adjusted.
    """
    tested = {_named(row, names): row for row in rows if row["holm_p"] is not None}
    if not tested:
        return ""
    pairs = max(row["pairs"] for row in tested.values())
    least = min(1.0, len(tested) * 2.0 ** (1 - pairs))
    text = (
        f"{HEADER}: exact sign-flip test over seeds, adjusted for the "
        f"{len(tested)} comparison{'s' if len(tested) > 1 else ''} of this table; {pairs} "
        f"pair{'s' if pairs > 1 else ''} of seeds cannot give less than {p_text(least)}."
    )
    if any(row["mcnemar_p"] for row in tested.values()):
        text += " McNemar's test of each seed on the shared test images is in the CSV."
    return text
