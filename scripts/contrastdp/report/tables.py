"""The robustness table: rows from evaluations, and their CSV, Markdown and LaTeX."""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import pandas as pd

from contrastdp.errors import InputError
from contrastdp.evidence import comparisons, memorisation
from contrastdp.evidence.outcomes import as_version, difference
from contrastdp.evidence.statistics import (
    Estimate,
    mean_interval,
    paired_difference,
    standard_errors,
    wilson_interval,
)
from contrastdp.files import check_numbers, read_json
from contrastdp.frames import as_table, number, text, whole
from contrastdp.report import markup

# What an evaluation must say just as the arm's row does.
SHARED = ("dataset", "generator", "real", "synthetic", "selection", "trainer")
ARM_KEYS = ("arm", *SHARED, "seeds", "title")
ACCURACIES = ("clean_accuracy", "robust_accuracy")
EVALUATION_KEYS = (
    *("arm", "seed", *SHARED),
    *("n_test", *ACCURACIES, "attack"),
)
MEASURES = ("clean", "robust")
LAST = number("last_clean_mean", "last_robust_mean")
COLUMNS = (
    text("arm")
    | whole("real", "synthetic")
    | text("trainer")
    | whole("seeds")
    | number("clean_mean", "clean_std", "robust_mean", "robust_std")
    | whole("n_test")
    | number("clean_low", "clean_high", "robust_low", "robust_high")
    | number("robust_wilson_low", "robust_wilson_high")
    | number("difference", "difference_low", "difference_high")
    | whole("pairs")
    | text("reference", "dataset", "generator", "selection", "title")
    | number("robust_error_seeds", "robust_error_images")
    | comparisons.COLUMNS
    | LAST
    | memorisation.COLUMNS
)
LAST_HEADER = "Robust, last"
LAST_SENTENCE = (
    "Robust, last: of the last training step's checkpoint, attacked likewise; all else is of the "
    "one that validation chose."
)
COMPARED = ("arm", "reference")
Evaluations = Mapping[tuple[str, int], Mapping[str, Any]]


# ---------------------------------------------------------------- reading
def read_evaluations(
    paths: Iterable[str], version: str | None = None
) -> dict[tuple[str, int], Mapping[str, Any]]:
    """Read evaluation files, by (arm, seed); version: of the attack, as outcomes.as_version says.

    Raises InputError in one line for a file that lacks a key, text where a number belongs, an
    accuracy outside [0, 1], an empty test split, or a second file for the same arm and seed.
    """
    found: dict[tuple[str, int], Mapping[str, Any]] = {}
    origin: dict[tuple[str, int], str] = {}
    for path in paths:
        content = read_json(path)
        for key in EVALUATION_KEYS:
            if not isinstance(content, dict) or key not in content:
                raise InputError(f"{path}: lacks '{key}'; delete it and run again")
        check_numbers(path, content, ("seed", "n_test", *ACCURACIES))
        for key in ACCURACIES:
            if not 0 <= content[key] <= 1:
                raise InputError(f"{path}: {key} is {content[key]}, expected a fraction in [0, 1]")
        if content["n_test"] < 1:
            raise InputError(f"{path}: n_test is {content['n_test']}, expected at least 1")
        name = content["arm"], content["seed"]
        if name in found:
            raise InputError(
                f"{path}: arm {name[0]}, seed {name[1]} was already given by {origin[name]}; "
                "give each evaluation once"
            )
        found[name] = as_version(content, version) if version else content
        origin[name] = path
    return found


def check_evaluations(
    evaluations: Evaluations,
    arms: Sequence[Mapping[str, Any]],
    mixed_attacks: Collection[str] = (),
) -> None:
    """Check that there is one evaluation for each arm and seed, and that rows may be compared.

    mixed_attacks: data sets whose rows may be attacked in different ways (see mixtures). Raises
    InputError in one line for a missing or unasked evaluation, for one whose dataset,
    generator, counts, selection, trainer or eps are not the arm's, and for rows of one data set
    (and of one eps, where the rows have that key) with different test splits or attacks.
    """
    wanted = set()
    for arm in arms:
        missing = [key for key in ARM_KEYS if key not in arm]
        if missing:
            raise InputError(f"arm {arm.get('arm', '?')}: lacks '{missing[0]}'; see arms.tsv")
        if not arm["seeds"]:
            raise InputError(f"arm {arm['arm']}: has no seeds; name at least one in arms.tsv")
        for seed in arm["seeds"]:
            if (arm["arm"], seed) in wanted:
                raise InputError(f"arm {arm['arm']}, seed {seed}: named twice; remove one")
            wanted.add((arm["arm"], seed))
            if (arm["arm"], seed) not in evaluations:
                raise InputError(
                    f"arm {arm['arm']}, seed {seed}: has no evaluation; run its attack first"
                )
            for key in SHARED:
                found = evaluations[arm["arm"], seed][key]
                if found != arm[key]:
                    raise InputError(
                        f"arm {arm['arm']}, seed {seed}: {key} is {found!r} in its evaluation but "
                        f"{arm[key]!r} in arms.tsv; run it again"
                    )
            _check_eps(evaluations[arm["arm"], seed], arm, seed)
    for name in evaluations.keys() - wanted:
        raise InputError(f"arm {name[0]}, seed {name[1]}: is evaluated but in no row of this table")
    for key in ("n_test", "attack"):
        for name, other in _unlike(evaluations, arms, key):
            content, first = evaluations[name], evaluations[other]
            if key == "attack" and content["dataset"] in mixed_attacks:
                continue
            raise InputError(
                f"arm {name[0]}, seed {name[1]}: {difference(key, content[key], first[key])} for "
                f"arm {other[0]}, seed {other[1]}; rows of one data set need one attack on one "
                "test split"
            )


def mixtures(evaluations: Evaluations, arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each data set whose rows were attacked in different ways; mostly none."""
    found: dict[str, list[str]] = {}
    for name, other in _unlike(evaluations, arms, "attack"):
        one, first = (evaluations[which]["attack"] for which in (name, other))
        keys = [key for key in {**first, **one} if one.get(key) != first.get(key)]
        said = f"arm {name[0]} differs from arm {other[0]} in {', '.join(keys)}"
        found.setdefault(evaluations[name]["dataset"], []).append(said)
    return [
        f"Attacks of {dataset} are mixed, so its robust accuracies are not one measure: "
        f"{'; '.join(dict.fromkeys(said))}."
        for dataset, said in found.items()
    ]


def _unlike(
    evaluations: Evaluations, arms: Sequence[Mapping[str, Any]], key: str
) -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
    """Evaluations, by (arm, seed), that differ in `key` from the first of their group."""
    first: dict[tuple[str, Any], tuple[str, int]] = {}
    for arm in sorted(arms, key=lambda arm: arm["arm"]):
        for seed in sorted(arm["seeds"]):
            name = arm["arm"], seed
            other = first.setdefault(group(arm), name)
            if _plain(evaluations[name][key]) != _plain(evaluations[other][key]):
                yield name, other


def _plain(value: Any) -> Any:
    """An attack with its eps as a fraction, so that 0.1 is 1/10; any other value as it is."""
    if isinstance(value, Mapping) and "eps" in value:
        return {**value, "eps": Fraction(str(value["eps"]))}
    return value


def group(arm: Mapping[str, Any]) -> tuple[str, Any]:
    """What arms share that may be compared: their data set, and their eps where they have one."""
    return arm["dataset"], arm.get("eps")


def _check_eps(content: Mapping[str, Any], arm: Mapping[str, Any], seed: int) -> None:
    eps = arm.get("eps")
    if eps is not None and Fraction(str(content["attack"]["eps"])) != Fraction(str(eps)):
        raise InputError(
            f"arm {arm['arm']}, seed {seed}: was attacked with eps {content['attack']['eps']}, not "
            f"{eps} as in arms.tsv; run it again"
        )


# ---------------------------------------------------------------- rows
def robustness_table(
    evaluations: Evaluations,
    arms: Sequence[Mapping[str, Any]],
    reference: str | Sequence[str] | None = None,
    *,
    outcomes: comparisons.Outcomes | None = None,
    nearest: memorisation.Nearest | None = None,
    mixed_attacks: Collection[str] = (),
) -> pd.DataFrame:
    """One row an arm, in the order of `arms`, in COLUMNS; accuracies in percent.

    std: over seeds, ddof = 1; low, high: 95% t interval over seeds; robust_wilson: 95% Wilson
    interval of the mean robust accuracy over n_test images; difference: robust accuracy minus the
    reference arm's in percentage points, mean and 95% t interval over the `pairs` seeds that both
    arms have. reference: an arm's name, or one for each data set; rows of its data set (and eps)
    only are compared with it, unless an arm names a baseline of its own. robust_error: standard
    errors of the mean robust accuracy in points, from seeds and from test images; sign_flip_p ...
    mcnemar_p: comparisons.COLUMNS, of images where outcomes has them; last_..._mean: of last_means;
    nearest_..._mean: of memorisation.nearest_cells (in pixels' units). All accuracies but the last_
    ones are of the best checkpoint. What one seed leaves undefined is empty.
    Raises InputError for evaluations that do not fit (see check_evaluations), and for a reference
    or baseline that is no arm of the table.
    """
    check_evaluations(evaluations, arms, mixed_attacks)
    against, by_name = _references(arms, reference), {arm["arm"]: arm for arm in arms}
    rows = []
    for arm in arms:
        values = {kind: percent(evaluations, arm, kind) for kind in MEASURES}
        estimates = {kind: mean_interval(list(values[kind].values())) for kind in MEASURES}
        n_test = evaluations[arm["arm"], arm["seeds"][0]]["n_test"]
        low, high = wilson_interval(min(estimates["robust"].mean / 100, 1.0), n_test)
        over_seeds, over_images = standard_errors(
            [v / 100 for v in values["robust"].values()], n_test
        )
        row = {key: arm[key] for key in ("arm", *SHARED, "title")} | {
            "seeds": len(arm["seeds"]),
            "n_test": n_test,
            **{f"{k}_{part}": v for k, e in estimates.items() for part, v in parts(e).items()},
            "robust_wilson_low": 100 * low,
            "robust_wilson_high": 100 * high,
            "robust_error_seeds": None if over_seeds is None else 100 * over_seeds,
            "robust_error_images": 100 * over_images,
            **last_means(evaluations, arm),
            **memorisation.nearest_cells(nearest or {}, arm),
        }
        own = arm.get("baseline")
        if own and own not in by_name:
            raise InputError(
                f"arm {arm['arm']}: its baseline {own} is no arm of this table; add it"
            )
        other, tested = by_name[own] if own else against.get(group(arm)), {}
        if other is not None and other["arm"] != arm["arm"]:
            gain = paired_difference(values["robust"], percent(evaluations, other, "robust"))
            if gain is not None:
                row |= {"difference": gain.mean, "pairs": gain.count, "reference": other["arm"]}
                row |= {"difference_low": gain.low, "difference_high": gain.high}
            tested = comparisons.compare(arm, other, "robust", evaluations, outcomes or {})
        rows.append({key: rounded(value) for key, value in row.items()} | tested)
    return comparisons.adjusted(as_table(rows, COLUMNS), COMPARED)


def percent(evaluations: Evaluations, arm: Mapping[str, Any], kind: str) -> dict[int, float]:
    """An arm's accuracy by seed in percent; kind: clean or robust."""
    return {seed: 100 * evaluations[arm["arm"], seed][f"{kind}_accuracy"] for seed in arm["seeds"]}


def parts(estimate: Estimate) -> dict[str, float | None]:
    """Mean, std, low and high of an estimate, by these names."""
    return {key: getattr(estimate, key) for key in ("mean", "std", "low", "high")}


def rounded(value: Any) -> Any:
    """A number to four decimals: far below 1 / n_test, and free of the last bits of a float."""
    return round(value, 4) if isinstance(value, float) else value


def last_means(evaluations: Evaluations, arm: Mapping[str, Any]) -> dict[str, float]:
    """Accuracies of the last checkpoint, keys LAST: mean over seeds in percent.

    Nothing unless it was attacked in every seed of the arm.
    """
    contents = [evaluations[arm["arm"], seed].get("last", {}) for seed in arm["seeds"]]
    return {
        f"last_{kind}_mean": mean_interval([100 * c[f"{kind}_accuracy"] for c in contents]).mean
        for kind in (MEASURES if all(contents) else ())
    }


def _references(
    arms: Sequence[Mapping[str, Any]], reference: str | Sequence[str] | None
) -> dict[tuple[str, Any], Mapping[str, Any]]:
    names = [reference] if isinstance(reference, str) else list(reference or ())
    by_name = {arm["arm"]: arm for arm in arms}
    found: dict[tuple[str, Any], Mapping[str, Any]] = {}
    for name in names:
        if name not in by_name:
            raise InputError(f"reference {name}: is no arm of this table; add it or name another")
        alike = group(by_name[name])
        if alike in found:
            raise InputError(f"reference {name}: {alike[0]} has one already; name one a data set")
        found[alike] = by_name[name]
    return found


# ---------------------------------------------------------------- for people
def describe_attack(attack: Mapping[str, Any]) -> str:
    """The attack in words: version, attacks with their steps, norm, eps, seed, package."""
    steps = attack.get("iterations", {})
    names = (
        f"{name} {steps[name]}" if name in steps else name for name in attack.get("attacks", ())
    )
    parts = [
        f"{attack.get('method', 'AutoAttack')} {attack.get('version', '?')} ({', '.join(names)})",
        f"{attack.get('norm', '?')} ball of eps = {attack.get('eps', '?')}",
        f"seed {attack.get('seed', '?')}",
    ]
    parts += [str(attack[key]) for key in ("package", "precision") if key in attack]
    return ", ".join(parts)


def attack_name(attack: Mapping[str, Any]) -> str:
    """The attack's version and a digest of all that makes it the same, such as 'standard 0123abcd'.

    Two attacks have one name where check_evaluations takes them for one, eps in any notation.
    """
    text = json.dumps(_plain(attack), sort_keys=True, default=str)
    return f"{attack.get('version', '?')} {hashlib.sha256(text.encode()).hexdigest()[:8]}"


def describe_attacks(contents: Iterable[Mapping[str, Any]]) -> list[str]:
    """A sentence for each data set and attack of these evaluations, with its test images."""
    said = (
        f"{content['dataset']}: {content['n_test']} {content.get('images', 'test images')}; "
        f"{describe_attack(content['attack'])}."
        for content in contents
    )
    return list(dict.fromkeys(said))


def attack_warnings(evaluations: Evaluations, titles: Mapping[str, str]) -> list[str]:
    """A sentence for each arm and warning, of the gate or of the attacks, with the seeds.

    titles: of the arms by name; other arms are left out. Evaluations that were recorded without
    these warnings say nothing.
    """
    found: dict[tuple[str | None, str, str], list[str]] = {}
    for (arm, seed), content in sorted(evaluations.items()):
        title = titles.get(arm)
        networks = {title: content, f"{title} (last checkpoint)": content.get("last", {})}
        for network, outcome in networks.items() if title else ():
            for warning in (*outcome.get("gate", ()), *outcome.get("warnings", ())):
                count = "" if warning["of"] is None else f", {warning['images']} of {warning['of']}"
                told = found.setdefault((network, warning["name"], warning["says"]), [])
                told.append(f"{seed}{count}")
    return [
        f"Warning of {network}, {name}: {says} (seed {'; '.join(told)})."
        for (network, name, says), told in found.items()
    ]


def caption(evaluations: Evaluations, table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """The table's caption: what the numbers are, test images, seeds, attack, reference, notes."""
    counts = sorted(table["seeds"].unique())
    spread = (
        f"mean ± standard deviation over {' or '.join(map(str, counts))} seeds [95% t interval]"
        if counts[-1] > 1
        else "one seed, so no interval over seeds"
    )
    sentences = [f"Accuracy in percent, {spread}."]
    titles = dict(zip(table["arm"], table["title"], strict=True))
    sentences += describe_attacks(c for c in evaluations.values() if c["arm"] in titles)
    sentences += attack_warnings(evaluations, titles)
    sentences += notes
    half = (table["robust_wilson_high"] - table["robust_wilson_low"]).max() / 2
    sentences.append(
        f"Another test split of this size could move a robust accuracy by up to {half:.1f} points "
        "(95% Wilson interval)."
    )
    if table["last_robust_mean"].notna().any():
        sentences.append(LAST_SENTENCE)
    sentences.append(memorisation.sentence(table))
    compared = table.dropna(subset="difference")
    if len(compared):
        names = " or ".join(titles[name] for name in compared["reference"].unique())
        sentences.append(
            f"Difference: robust accuracy minus that of {names}, in percentage points, paired over "
            "seeds [95% t interval]."
        )
        sentences.append(comparisons.sentence(table, COMPARED))
    return " ".join(filter(None, sentences))


def human_cells(table: pd.DataFrame) -> pd.DataFrame:
    """The cells that people read: rounded text, without columns that would be empty."""
    bounds = table["difference_low"], table["difference_high"], "{:+.2f}"
    difference = markup.shown(table["difference"], "{:+.2f}") + markup.interval(*bounds)
    reference = table["arm"].isin(table["reference"].dropna())
    cells = {
        "Data": table["dataset"] if table["dataset"].nunique() > 1 else None,
        "Arm": table["title"],
        "Real": table["real"],
        "Synthetic": table["synthetic"],
        "Trainer": table["trainer"],
        "Clean": markup.spread(table["clean_mean"], table["clean_std"], "{:.1f}"),
        "Robust": markup.spread(table["robust_mean"], table["robust_std"], "{:.1f}")
        + markup.interval(table["robust_low"], table["robust_high"], "{:.1f}"),
        LAST_HEADER: markup.shown(table["last_robust_mean"], "{:.1f}"),
        memorisation.HEADER: markup.shown(table["nearest_mean"], "{:.2f}"),
        "Difference": difference.mask(reference & difference.isna(), "reference"),
        comparisons.HEADER: table["holm_p"].map(comparisons.p_text, na_action="ignore"),
    }
    return pd.DataFrame(cells).dropna(axis=1, how="all").astype("str").fillna(markup.NONE)


def set_right(cells: pd.DataFrame) -> list[str]:
    """The columns of human_cells that hold numbers."""
    return [name for name in cells if name not in ("Data", "Arm", "Trainer")]


def markdown_table(table: pd.DataFrame, text: str) -> str:
    """The table as GitHub Markdown, its caption above; text: the caption."""
    cells = human_cells(table)
    return f"{text}\n\n" + markup.markdown(cells, set_right(cells))


def latex_table(table: pd.DataFrame, text: str, label: str) -> str:
    """The table as LaTeX (packages: booktabs); text: the caption, label: after 'tab:'."""
    cells = human_cells(table)
    return markup.latex(cells, set_right(cells), text, label)
