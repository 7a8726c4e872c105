"""The table of what two classifiers' gradients point at: a row a measure and band of t."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from contrastdp.errors import InputError
from contrastdp.evidence.statistics import Estimate, mean_interval
from contrastdp.files import check_numbers, read_json
from contrastdp.frames import as_rows, as_table, number, text, whole
from contrastdp.report import markup

MEASURES = {
    "class_mean": "Cosine with the difference of class means",
    "score": "Cosine with the difference of scores",
    "low_frequency": "Energy in low frequencies",
}
NAMES = ("robust", "vanilla")
RUNS = (
    text("dataset", "measure")
    | whole("real", "seed", "t_low", "t_high", "n")
    | number(*NAMES, "low_frequency")
)
COLUMNS = (
    text("dataset", "measure")
    | whole("t_low", "t_high", "seeds", "n")
    | number(*(f"{of}_{part}" for of in NAMES for part in ("mean", "low", "high")))
    | number("difference", "difference_low", "difference_high")
)
BAND = ["dataset", "measure", "t_low", "t_high"]


def gradient_runs(paths: Iterable[str]) -> pd.DataFrame:
    """One row a measure, band and seed in RUNS; paths: files of measure_gradients.

    Raises InputError for a file that lacks a key, and for two of one data set and seed.
    """
    rows, seen = [], set()
    for path in paths:
        content = read_json(path)
        keys = ("dataset", "real", "seed", "low_frequency", "bands")
        for key in keys:
            if not isinstance(content, dict) or key not in content:
                raise InputError(f"{path}: lacks '{key}'; delete it and run again")
        own = content["dataset"], content["seed"]
        if own in seen:
            raise InputError(f"{path}: {own[0]}, seed {own[1]}, was given twice; give it once")
        seen.add(own)
        of_file = {key: content[key] for key in keys[:-1]}
        for band in content["bands"]:
            for name in NAMES:
                check_numbers(path, band.get(name, {}), MEASURES)
            at = {"t_low": band["low"], "t_high": band["high"], "n": band["n"]}
            for measure in MEASURES:
                values = {name: band[name][measure] for name in NAMES}
                rows.append(of_file | at | {"measure": measure} | values)
    return as_table(rows, RUNS)


def gradients_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds with 95% t intervals, and robust minus vanilla paired by seed, in COLUMNS.

    After the bands of a measure comes a row of them all, in which each band counts as much, where
    there are several.
    """
    whole_range = runs.groupby(["dataset", "measure", "real", "seed"], sort=False, as_index=False)
    every = whole_range.agg(
        t_low=("t_low", "min"),
        t_high=("t_high", "max"),
        n=("n", "sum"),
        robust=("robust", "mean"),
        vanilla=("vanilla", "mean"),
    )
    rows = []
    several = runs[["t_low", "t_high"]].drop_duplicates().shape[0] > 1
    for dataset in runs["dataset"].unique():
        for measure in MEASURES:
            for part in (runs, every) if several else (runs,):
                own = part[(part["dataset"] == dataset) & (part["measure"] == measure)]
                for key, group in own.groupby(BAND, sort=False):
                    rows.append(dict(zip(BAND, key, strict=True)) | _summary(group))
    return as_table(rows, COLUMNS)


def _summary(group: pd.DataFrame) -> dict[str, Any]:
    found: dict[str, Any] = {"seeds": len(group), "n": int(group["n"].sum())}
    for name in NAMES:
        seen = mean_interval(list(group[name]))
        parts = {"mean": seen.mean, "low": seen.low, "high": seen.high}
        found |= {f"{name}_{part}": value for part, value in parts.items()}
    gain: Estimate = mean_interval(list(group["robust"] - group["vanilla"]))
    found |= {"difference": gain.mean, "difference_low": gain.low, "difference_high": gain.high}
    return found


# ---------------------------------------------------------------- for people
def caption(runs: pd.DataFrame) -> str:
    """What the numbers are."""
    cutoff = " or ".join(f"{value:g}" for value in runs["low_frequency"].unique())
    return " ".join(
        (
            "g = grad log p(y | x_t, t) of either classifier at the same noised test images, y "
            "being the true class; n: how many x_t, over all seeds.",
            "Means over seeds with 95% t intervals; the difference is paired by seed.",
            "Class means: of y minus of all other classes, of the real images that the models were "
            "trained on.",
            "Scores: eps(x_t) - eps(x_t, y) of two denoisers, an unconditional and a conditional "
            "one, as no denoiser here has a label for 'no class'.",
            "Low frequencies: share of the energy of g's 2-D DFT at radial frequencies of at most "
            f"{cutoff} Nyquist.",
            "The last row of a measure is the mean over the bands.",
        )
    )


def markdown_table(table: pd.DataFrame, text: str) -> str:
    """The table as GitHub Markdown, its caption above."""

    def cells(prefix: str, form: str, mean: str | None = None) -> pd.Series:
        bounds = markup.interval(table[f"{prefix}_low"], table[f"{prefix}_high"], form)
        return markup.shown(table[mean or f"{prefix}_mean"], form) + bounds

    several = {"Data": table["dataset"]} if table["dataset"].nunique() > 1 else {}
    shown = several | {
        "Measure": table["measure"].map(MEASURES),
        "t": table["t_low"].astype("str") + " to " + table["t_high"].astype("str"),
        "n": table["n"].astype("str"),
        "Seeds": table["seeds"].astype("str"),
        "Robust": cells("robust", "{:.3f}"),
        "Vanilla": cells("vanilla", "{:.3f}"),
        "Robust minus vanilla": cells("difference", "{:+.3f}", "difference"),
    }
    return f"{text}\n\n" + markup.markdown(pd.DataFrame(shown), ["n", "Seeds"])


def of_dataset(table: pd.DataFrame, dataset: str) -> dict[str, list[dict[str, Any]]]:
    """Measure -> its bands in order of t, without the row of all bands."""
    rows = as_rows(table[table["dataset"] == dataset])
    if not rows:
        raise InputError(f"no gradients of {dataset} in the table; run measure_gradients")
    total = max(row["t_high"] for row in rows)
    first = {(row["t_low"], row["t_high"]) for row in rows} - {(0, total)}
    bands = sorted(first or {(0, total)})
    of = {(row["measure"], row["t_low"], row["t_high"]): row for row in rows}
    return {measure: [of[(measure, *band)] for band in bands] for measure in MEASURES}
