"""The table of sample quality: one row a generator and number of real images, means over seeds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from contrastdp.errors import InputError
from contrastdp.evidence.outcomes import difference
from contrastdp.evidence.statistics import mean_interval
from contrastdp.frames import as_table, number, text, whole
from contrastdp.report import markup
from contrastdp.report.measures import METRICS, read_measure

COLUMNS = (
    text("dataset", "images", "title")
    | whole("real", "seeds", "n", "n_heldout")
    | number(*(f"{metric}_{what}" for metric in METRICS for what in ("mean", "std")))
)
REAL = {"unseen": "Real, unseen", "training": "Real, trained on"}
Measures = Mapping[tuple[str, int, int], Mapping[str, Any]]


def read_measures(paths: Iterable[str]) -> dict[tuple[str, int, int], dict[str, Any]]:
    """Read files of measure_samples, by (generator, real, seed).

    Raises InputError as read_measure does, for a second file of one generator, number and seed, and
    for files of other data, settings or held-out images than the first.
    """
    found: dict[tuple[str, int, int], dict[str, Any]] = {}
    first_path, first = "", {}
    for path in paths:
        content = read_measure(path)
        name = content["generator"], content["real"], content["seed"]
        if name in found:
            raise InputError(
                f"{path}: generator {name[0]} of {name[1]} real images, seed {name[2]}, was given "
                "twice; give each file once"
            )
        if not found:
            first_path, first = path, content
        for key in ("dataset", "settings", "n_heldout", "features"):
            if content[key] != first[key]:
                how = difference(key, content[key], first[key])
                raise InputError(f"{path}: {how} in {first_path}; measure both alike")
        found[name] = content
    if not found:
        raise InputError("no measurements given; name at least one")
    return found


def quality_table(measures: Measures, titles: Mapping[str, str]) -> pd.DataFrame:
    """Rows in COLUMNS: for each number of real images, real ones, then generators.

    titles: generator -> title, in the order of the rows. Mean and standard deviation (ddof = 1)
    over seeds; what does not apply, or one seed leaves undefined, is empty. Raises InputError for a
    generator without a title.
    """
    for generator, _, _ in measures:
        if generator not in titles:
            raise InputError(f"generator {generator}: has no title; add it to generators.tsv")
    rows = []
    for real in sorted({key[1] for key in measures}):
        # Real images are measured along with each generator, alike for all of one seed.
        of_seed = {key[2]: content for key, content in measures.items() if key[1] == real}
        for images, title in REAL.items():
            parts = [c["rows"][images] for c in of_seed.values() if images in c["rows"]]
            if parts:
                rows.append({"images": images, "title": title, "real": real} | _means(parts))
        for generator, title in titles.items():
            parts = [
                c["rows"]["synthetic"]
                for key, c in measures.items()
                if key[:2] == (generator, real)
            ]
            if parts:
                rows.append({"images": generator, "title": title, "real": real} | _means(parts))
    shared = next(iter(measures.values()))
    shared = {key: shared[key] for key in ("dataset", "n_heldout")}
    return as_table((row | shared for row in rows), COLUMNS)


def _means(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    counts = sorted({part["n"] for part in parts})
    if len(counts) > 1:
        raise InputError(
            f"seeds measured on {counts[0]} and {counts[-1]} images; measure them alike"
        )
    found: dict[str, Any] = {"seeds": len(parts), "n": counts[0]}
    for metric in METRICS:
        values = [part[metric] for part in parts]
        seen = None if None in values else mean_interval(values)
        found[f"{metric}_mean"] = _rounded(seen.mean) if seen else None
        found[f"{metric}_std"] = _rounded(seen.std) if seen else None
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


# ---------------------------------------------------------------- for people
SHOWN = {
    "Fréchet": ("frechet", "{:.2f}"),
    "Fréchet, debiased": ("frechet_debiased", "{:.2f}"),
    "Precision": ("precision", "{:.2f}"),
    "Recall": ("recall", "{:.2f}"),
    "Density": ("density", "{:.2f}"),
    "Coverage": ("coverage", "{:.2f}"),
    "Confidence": ("confidence", "{:.3f}"),
    "Agreement": ("agreement_encoder", "{:.3f}"),
    "Nearest": ("nearest", "{:.2f}"),
    "Ratio": ("nearest_ratio", "{:.2f}"),
    "Copies": ("copies", "{:.1%}"),
}


def caption(table: pd.DataFrame, shared: Mapping[str, Any]) -> str:
    """What the numbers are, of how many images and seeds; shared: any of the measurements."""
    counts = sorted(table["seeds"].unique())
    over = " or ".join(str(count) for count in counts)
    spread = f"Mean ± standard deviation over {over} seeds" if counts[-1] > 1 else "One seed"
    compared = ", so only rows of the same n compare" if table["n"].nunique() > 1 else ""
    errors = table["frechet_error_mean"]
    errors = " to ".join(dict.fromkeys(f"{value:.2f}" for value in (errors.min(), errors.max())))
    sentences = (
        f"{spread}.",
        f"All images are held against {shared['n_heldout']} images of the test split, by which "
        f"nothing was chosen, in the {shared['features']} features of our own encoder, trained on "
        "the same real images.",
        "Fréchet: squared distance of Gaussians fitted to the features (not the FID, which has "
        f"Inception's); it is too large by about c / n{compared}.",
        "Debiased: the jackknife's estimate without that term, for n well above the number of "
        f"features; standard error {errors} within a seed.",
        "Precision, recall, density, coverage: with the nearest "
        f"{shared['settings']['neighbours']} neighbours.",
        "Confidence: the labeler's mean probability of the label. Agreement: share of labels that "
        "the encoder gives too.",
        "Nearest: mean Euclidean distance, pixels in [0, 1], to the nearest real image trained on. "
        "Ratio: over that of the test images. Copies: share closer to one than 1% of the test "
        "images are.",
    )
    return " ".join(sentences)


def markdown_table(table: pd.DataFrame, text: str) -> str:
    """The table as GitHub Markdown, its caption above; text: the caption."""
    several = {"Real": table["real"]} if table["real"].nunique() > 1 else {}
    cells = {"Images": table["title"]} | several | {"n": table["n"]}
    for name, (metric, form) in SHOWN.items():
        cells[name] = markup.spread(table[f"{metric}_mean"], table[f"{metric}_std"], form)
    return f"{text}\n\n" + markup.markdown(pd.DataFrame(cells), list(cells)[1:])
