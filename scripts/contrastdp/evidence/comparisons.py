"""One arm against another: over their seeds, image by image, and among a table's comparisons."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from contrastdp.attack.versions import MISCLASSIFIED, ROBUST
from contrastdp.errors import InputError
from contrastdp.evidence.outcomes import count_outcomes, images_as_version, read_images
from contrastdp.evidence.statistics import holm, mcnemar_test, sign_flip_test
from contrastdp.frames import number, text, whole

COLUMNS = (
    number("sign_flip_p", "holm_p")
    | whole("images_won", "images_lost")
    | text("mcnemar_p", "image_difference")
)
HEADER = "p (Holm)"
Row = Mapping[str, Any]
Key = tuple[str, int]  # arm and seed
Outcomes = Mapping[Key, pd.DataFrame]


def read_outcomes(paths: Sequence[str], evaluations: Mapping[Key, Row]) -> dict[Key, pd.DataFrame]:
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
    found: dict[Key, pd.DataFrame] = {}
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
        shown = [images[["index", "label"]].to_numpy().tolist() for images in pair]
        if shown[0] != shown[1]:
            raise InputError(
                f"arms {names[0]} and {names[1]}, seed {seed}: were attacked on different test "
                "images; run one of them again"
            )
        ours, theirs = (list(_right(images, kind)) for images in pair)
        results[seed] = mcnemar_test(ours, theirs)
    return found | {
        "images_won": sum(result.won for result in results.values()),
        "images_lost": sum(result.lost for result in results.values()),
        "mcnemar_p": "; ".join(f"{seed}: {result.p:.3g}" for seed, result in results.items()),
        "image_difference": "; ".join(
            f"{seed}: {100 * r.difference:+.2f} [{100 * r.low:+.2f}, {100 * r.high:+.2f}]"
            for seed, r in results.items()
        ),
    }


def _right(images: pd.DataFrame, kind: str) -> pd.Series:
    by = images["broken_by"]
    return by == ROBUST if kind == "robust" else by != MISCLASSIFIED


def adjusted(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The table with holm_p: its sign_flip_p among all of it; rows alike in `names` count once.

    A row without sign_flip_p is no comparison.
    """
    tested = table.dropna(subset="sign_flip_p").drop_duplicates(list(names))
    least = [round(p, 6) for p in holm(list(tested["sign_flip_p"]))]
    found = table[list(names)].merge(tested[list(names)].assign(holm_p=least), how="left")
    return table.assign(holm_p=found["holm_p"].to_numpy(dtype=float))


def p_text(p: float) -> str:
    """A p for people: three decimals, '<0.001' below."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def sentence(table: pd.DataFrame, names: Sequence[str]) -> str:
    """What the column HEADER is, and the least p that this table can hold; '' without any p.

    table: with `pairs` and COLUMNS; names: as in adjusted.
    """
    tested = table.dropna(subset="holm_p").drop_duplicates(list(names))
    if tested.empty:
        return ""
    pairs = int(tested["pairs"].max())
    least = min(1.0, len(tested) * 2.0 ** (1 - pairs))
    said = (
        f"{HEADER}: exact sign-flip test over seeds, adjusted for the "
        f"{len(tested)} comparison{'s' if len(tested) > 1 else ''} of this table; {pairs} "
        f"pair{'s' if pairs > 1 else ''} of seeds cannot give less than {p_text(least)}."
    )
    if tested["mcnemar_p"].notna().any():
        said += " McNemar's test of each seed on the shared test images is in the CSV."
    return said
