"""Tables 1, 4, 5, 6 and 7 beside the printed values: z-scores, verdicts, misfits, layouts.

The standard error of a printed mean comes from regenerations of the whole experiment: each redraws
the trials and the 10k test points that a block shares, so both sources of noise are counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from contrastdp.errors import InputError
from contrastdp.frames import as_rows, as_table, given, number, text
from contrastdp.report import markup
from contrastdp.theory.gaussian import (
    REAL,
    mean_vector,
    optimal_robust,
    optimal_standard,
    robust_error,
    soft_threshold,
)
from contrastdp.theory.tables import KEY, VERDICTS

MEASURES = ("clean", "robust")
ROUNDING = 1e-4 / np.sqrt(12)  # of the four printed decimals, as a standard deviation
COLUMNS = text(
    *("table", "angle", "d", "source", "n", "variant"),
    *("clean", "clean_std", "robust", "robust_std"),
    *("paper_clean", "paper_clean_std", "paper_robust", "paper_robust_std"),
    *("clean_expected", "robust_expected", "clean_difference", "robust_difference"),
    *("clean_z", "robust_z", "clean_z_trials", "robust_z_trials", "clean_std_z", "robust_std_z"),
)  # numbers are text of five decimals
MISFIT_COLUMNS = (
    text("kind", "table", "where")
    | number("printed", "expected", "z")
    | given("beyond_level")
    | text("what")
)


class Comparison:
    """Every printed cell beside its simulations.

    cells: the simulation in tables.CELLS, regeneration 0 being the run as printed and the others
    giving expected value and spread; reported: the printed tables in tables.PRINTED, whose row
    numbers are the places of the cells. InputError where a printed cell has no simulation, or
    fewer than 10 regenerations.

    reprinted: which printed cells, of Table 1, another table prints too; (cells,).

    Arrays are indexed [variant][measure] -> (regenerations, cells), cells in the printed order.
    """

    def __init__(self, cells: pd.DataFrame, reported: pd.DataFrame):
        self.reported = reported.reset_index(drop=True)
        self.variants = list(cells["variant"].unique())
        repeats = 1 + max(cells["regeneration"], default=0)
        if repeats < 11:
            raise InputError(
                f"cells: has {repeats - 1} regenerations; the spread of a cell needs 10 or more"
            )
        names = [f"{m}{s}" for m in MEASURES for s in ("", "_std")]
        places = self.reported[list(KEY)].reset_index(names="place")
        runs = places.merge(cells, on=list(KEY)).set_index(["variant", "regeneration", "place"])
        every = pd.MultiIndex.from_product([self.variants, range(repeats), places["place"]])
        runs = runs[names].reindex(every)
        lacking = runs.index[runs["clean"].isna()]
        if len(lacking):
            v, _, place = lacking[0]
            cell = self.reported.loc[place, list(KEY)].to_dict()
            raise InputError(f"cells: variant {v} lacks {cell}; run simulate_gaussian again")
        shape = (len(self.variants), repeats, len(places))
        values = {k: runs[k].to_numpy().reshape(shape) for k in names}
        self.first = {v: {k: values[k][i, 0] for k in names} for i, v in enumerate(self.variants)}
        self.again = {v: {k: values[k][i, 1:] for k in names} for i, v in enumerate(self.variants)}
        self.paper = {
            f"{m}{s}": self.reported[f"{short}{s}"].to_numpy()
            for m, short in zip(MEASURES, ("clean", "rob"), strict=True)
            for s in ("", "_std")
        }
        first = self.reported["table"] == "1"
        printed = pd.MultiIndex.from_frame(self.reported.drop(columns=["table", "angle"]))
        self.reprinted = (first & printed.isin(printed[~first])).to_numpy()

    def z(self, variant: str, measure: str) -> np.ndarray:
        """(expected - printed) / standard error, trial noise and test draw counted; (cells,)."""
        return _z(self.paper[measure], self.again[variant][measure])

    def z_trials(self, variant: str, measure: str, trials: int) -> np.ndarray:
        """The same with the printed trial noise only, which ignores the shared test draw."""
        noise = np.hypot(self.paper[f"{measure}_std"] / np.sqrt(trials), ROUNDING)
        return (self.again[variant][measure].mean(axis=0) - self.paper[measure]) / noise

    def z_std(self, variant: str, measure: str) -> np.ndarray:
        """z-score of the printed standard deviation, on the log scale it varies on; (cells,)."""
        paper = np.maximum(self.paper[f"{measure}_std"], ROUNDING)
        rounding = ROUNDING / paper
        again = np.maximum(self.again[variant][f"{measure}_std"], ROUNDING)
        return _z(np.log(paper), np.log(again), rounding)

    def z_regenerations(self, variant: str, measure: str) -> np.ndarray:
        """Each regeneration's z-scores against the other regenerations; (regenerations, cells)."""
        again = self.again[variant][measure]
        return np.stack([_z(again[r], np.delete(again, r, axis=0)) for r in range(len(again))])

    def difference(self, variant: str, measure: str) -> np.ndarray:
        """Expected minus printed, as a fraction; (cells,)."""
        return self.again[variant][measure].mean(axis=0) - self.paper[measure]

    def columns(self, variant: str, trials: int) -> dict[str, np.ndarray]:
        """The computed columns of gaussian.csv; each (cells,)."""
        found = dict(self.first[variant])
        found |= {f"paper_{name}": values for name, values in self.paper.items()}
        for m in MEASURES:
            found[f"{m}_expected"] = self.again[variant][m].mean(axis=0)
            found[f"{m}_difference"] = self.difference(variant, m)
            found[f"{m}_z"] = self.z(variant, m)
            found[f"{m}_z_trials"] = self.z_trials(variant, m, trials)
            found[f"{m}_std_z"] = self.z_std(variant, m)
        return found


def _z(paper: np.ndarray, again: np.ndarray, rounding: float | np.ndarray = ROUNDING) -> np.ndarray:
    # 1 + 1/R: the expected value is itself the mean of R regenerations.
    spread = again.std(axis=0, ddof=1) * np.sqrt(1 + 1 / len(again))
    return (again.mean(axis=0) - paper) / np.hypot(spread, rounding)


# ---------------------------------------------------------------- rows
def gaussian_table(comparison: Comparison, trials: int) -> pd.DataFrame:
    """gaussian.csv, in COLUMNS, variant by variant within each printed table.

    clean, robust: one run as printed; *_expected: mean of the regenerations; *_difference: expected
    minus printed, as fractions; *_z counts trial noise and test draw, *_z_trials the first only.
    """
    printed = comparison.reported[["table", "angle", "d", "source", "n"]]
    parts = []
    for v in comparison.variants:
        numbers = comparison.columns(v, trials).items()
        shown = {name: [f"{value:.5f}" for value in values] for name, values in numbers}
        parts.append(printed.assign(variant=v, **shown))
    place = {table: i for i, table in enumerate(printed["table"].unique())}
    return pd.concat(parts).sort_values("table", key=lambda t: t.map(place), kind="stable")[
        list(COLUMNS)
    ]


def verdict_table(comparison: Comparison, *, trials: int, level: float) -> pd.DataFrame:
    """One verdict per (table, variant), and per variant for all tables ('all').

    points: mean absolute difference over clean and robust cells in percentage points, with the 95%
    range the setting itself gives over its regenerations (points_low, points_high); p_fit: the
    share of regenerations whose mean |z| is at least the printed table's. The verdict is `not
    reproduced` where p_fit <= level, else `reproduced`, with the number of cells whose |z| goes
    beyond what `level` allows over the whole table (Bonferroni, Student's t). InputError where
    there are too few regenerations to reject anything at `level`.
    """
    repeats = len(comparison.again[comparison.variants[0]]["clean"])
    if 1 / (repeats + 1) > level:
        raise InputError(
            f"cells: {repeats} regenerations cannot reject a table at level {level}; raise "
            f"regenerations to {int(np.ceil(1 / level)) - 1} or the level"
        )
    rows = []
    printed = comparison.reported["table"]
    for v in comparison.variants:
        everything = {
            "difference": np.stack([comparison.difference(v, m) for m in MEASURES]),
            "z": np.stack([comparison.z(v, m) for m in MEASURES]),
            "trials": np.stack([comparison.z_trials(v, m, trials) for m in MEASURES]),
            "again_z": np.stack([comparison.z_regenerations(v, m) for m in MEASURES], axis=1),
            "again": np.stack(
                [comparison.again[v][m] - comparison.again[v][m].mean(axis=0) for m in MEASURES],
                axis=1,
            ),
            "ratio": np.stack(
                [
                    comparison.paper[f"{m}_std"] / comparison.again[v][f"{m}_std"].mean(axis=0)
                    for m in MEASURES
                ]
            ),
        }
        for table in (*printed.unique(), "all"):
            # Table 1 reprints cells of Table 6: count them once in 'all'.
            chosen = ~comparison.reprinted if table == "all" else (printed == table).to_numpy()
            rows.append(
                {"table": table, "variant": v, "cells": int(chosen.sum())}
                | _verdict({k: x[..., chosen] for k, x in everything.items()}, level)
            )
    return as_table(rows, VERDICTS)


def _verdict(x: Mapping[str, np.ndarray], level: float) -> dict[str, Any]:
    repeats = len(x["again"])
    size, again = np.abs(x["difference"]), np.abs(x["again"]).mean(axis=(1, 2))
    low, high = np.percentile(100 * again, (2.5, 97.5))
    fit, fits = np.abs(x["z"]).mean(), np.abs(x["again_z"]).mean(axis=(1, 2))
    p_fit = (1 + np.count_nonzero(fits >= fit)) / (repeats + 1)
    allowed = student.isf(level / 2 / x["z"].size, repeats - 1)
    outlying = int(np.count_nonzero((np.abs(x["z"]) > allowed).any(axis=0)))
    if p_fit <= level:
        verdict = "not reproduced"
    else:
        verdict = "reproduced" + (f" but for {outlying} cell(s)" if outlying else "")
    return {
        "clean_points": round(100 * size[0].mean(), 3),
        "robust_points": round(100 * size[1].mean(), 3),
        "points": round(100 * size.mean(), 3),
        "points_low": round(low, 3),
        "points_high": round(high, 3),
        "p_fit": round(p_fit, 4),
        "within_2se": round(float((np.abs(x["z"]) <= 2).mean()), 3),
        "within_2se_trials_only": round(float((np.abs(x["trials"]) <= 2).mean()), 3),
        "std_ratio": round(float(np.median(x["ratio"])), 3),
        "largest_z": round(float(np.abs(x["z"]).max()), 2),
        "largest_z_allowed": round(float(allowed), 2),
        "outlying": outlying,
        "verdict": verdict,
    }


# ---------------------------------------------------------------- what does not fit
def misfit_table(
    comparison: Comparison,
    geometry: Sequence[Mapping[str, Any]],
    version1: pd.DataFrame,
    *,
    variant: str,
    notable: float,
    level: float,
    test_points: int,
) -> pd.DataFrame:
    """What does not fit under `variant`, computed from the printed data; in MISFIT_COLUMNS.

    Cells whose mean or standard deviation lies `notable` standard errors off; printed means above
    the best any classifier can do; robust optima that mu - eps 1 misses; the mean vectors' angles;
    and the repeated values of version 1's Table 1 (in tables.PRINTED).
    """
    found = [
        *_outlying_cells(comparison, variant, notable, level),
        *_beyond_bounds(comparison, geometry, test_points),
        *_odd_geometry(geometry),
        *_repeats(version1),
    ]
    return as_table(found, MISFIT_COLUMNS)


def _outlying_cells(
    comparison: Comparison, variant: str, notable: float, level: float
) -> Iterable[dict[str, Any]]:
    own = ~comparison.reprinted
    repeats = len(comparison.again[variant]["clean"])
    allowed = student.isf(level / 2 / (4 * own.sum()), repeats - 1)
    for suffix, of in (("", comparison.z), ("_std", comparison.z_std)):
        for m in MEASURES:
            z = of(variant, m)
            expected = comparison.again[variant][f"{m}{suffix}"].mean(axis=0)
            for i in np.flatnonzero((np.abs(z) >= notable) & own):
                yield _place(comparison, int(i)) | {
                    "kind": "standard deviation" if suffix else "mean",
                    "printed": comparison.paper[f"{m}{suffix}"][i],
                    "expected": round(expected[i], 5),
                    "z": round(z[i], 2),
                    "beyond_level": abs(z[i]) > allowed,
                    "what": f"{m} accuracy's {'spread' if suffix else 'mean'} under '{variant}'",
                }


def _place(comparison: Comparison, i: int) -> dict[str, str]:
    row = comparison.reported.loc[i]
    where = f"{row['angle']} degrees, {_source(row['source'])}, n = {row['n']}"
    return {"table": row["table"], "where": where}


def _source(source: str) -> str:
    return source if source == REAL else f"c = {source}"


def _beyond_bounds(
    comparison: Comparison, geometry: Sequence[Mapping[str, Any]], test_points: int
) -> Iterable[dict[str, Any]]:
    for setting in geometry:
        if "same_as" in setting:
            continue
        mu, sigma, eps = mean_vector(setting["mu"]), setting["sigma"], setting["eps"]
        best = {
            "clean": 1 - robust_error(optimal_standard(mu), mu, sigma, 0.0),
            "robust": 1 - robust_error(optimal_robust(mu, eps), mu, sigma, eps),
        }
        place = comparison.reported[["table", "angle"]]
        here = (place == [str(setting["table"]), str(setting["angle"])]).all(axis=1)
        for m in MEASURES:
            printed = pd.Series(comparison.paper[m])[here]
            above = int((printed > best[m]).sum())
            if above:
                value = printed.max()
                z = (value - best[m]) / np.sqrt(best[m] * (1 - best[m]) / test_points)
                yield _place(comparison, printed.idxmax()) | {
                    "kind": "bound",
                    "printed": value,
                    "expected": round(float(best[m]), 5),
                    "z": round(float(z), 2),
                    "beyond_level": False,
                    "what": f"largest of {above} printed {m} means above what any classifier "
                    "reaches in expectation; z in standard errors of the test draw",
                }


def _odd_geometry(geometry: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    for setting in geometry:
        if "same_as" in setting or len(mean_vector(setting["mu"])) != 2:
            continue
        mu, eps = mean_vector(setting["mu"]), setting["eps"]
        diagonal = _degrees(mu, np.ones(2))
        shared = {
            "kind": "geometry",
            "table": str(setting["table"]),
            "where": f"{setting['angle']} degrees",
        }
        if abs(diagonal - float(setting["angle"])) > 1e-3:
            yield shared | {
                "printed": float(setting["angle"]),
                "expected": round(diagonal, 2),
                "what": "printed angle between mu and eps 1, and the angle of the mu that fits",
            }
        off = _degrees(mu - eps, soft_threshold(mu, eps))
        if setting["synthetic"] == "mu-eps" and off > 1e-4:
            yield shared | {
                "printed": 0.0,
                "expected": round(off, 2),
                "what": "degrees between mu - eps 1, printed as the robust optimum, and T_eps(mu)",
            }


def _degrees(a: np.ndarray, b: np.ndarray) -> float:
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


def _repeats(version1: pd.DataFrame) -> Iterable[dict[str, Any]]:
    alike = ["n", "clean", "clean_std", "rob", "rob_std"]
    for d, rows in version1.groupby("d", sort=False):
        shared = {"kind": "version 1", "table": rows["table"].iloc[0], "where": f"d = {d}"}
        real, rest = rows[rows["source"] == REAL], rows[rows["source"] != REAL]
        for source, of in rest.groupby("source", sort=False):
            if same := len(of.merge(real, on=alike)):
                yield shared | {
                    "what": f"{same} of {len(real)} Real rows are those of c = {source}"
                }
        if repeated := (rows["rob"] == rows["rob_std"]).sum():
            said = f"{repeated} of {len(rows)} robust deviations repeat the mean"
            yield shared | {"what": said}


# ---------------------------------------------------------------- layouts
def layout(table: pd.DataFrame) -> pd.DataFrame:
    """One printed table, printed and ours side by side.

    table: rows of `gaussian_table`. A dagger marks a printed value more than 2 standard errors from
    the variant's expected value.
    """
    first = table["variant"].iloc[0]
    columns = {}
    for angle, of in table.set_index(["source", "n"]).groupby("angle", sort=False):
        for m, name in zip(MEASURES, ("acc", "rob acc"), strict=True):
            printed = of[of["variant"] == first]
            columns[f"{angle}° {name}, printed"] = _values(printed, f"paper_{m}")
            for v, ours in of.groupby("variant", sort=False):
                mark = (ours[f"{m}_z"].astype(float).abs() > 2).map({True: "†", False: ""})
                columns[f"{angle}° {name}, {v}"] = _values(ours, m) + mark
    cells = pd.DataFrame(columns).reset_index()
    return cells.assign(source=cells["source"].map(_source))


def _values(table: pd.DataFrame, name: str) -> pd.Series:
    mean, std = (table[key].astype(float).map("{:.4f}".format) for key in (name, f"{name}_std"))
    return mean + " (" + std + ")"


CAPTION = (
    "Table {table} of the paper, printed and simulated (means over trials, standard deviations in "
    "brackets); † marks a printed value more than 2 standard errors from what the variant gives"
)


def documents(table: pd.DataFrame) -> tuple[str, str]:
    """All printed tables as one Markdown and one LaTeX text."""
    parts: tuple[list[str], list[str]] = ([], [])
    for name, rows in table.groupby("table", sort=False):
        cells, caption = layout(rows), CAPTION.format(table=name) + "."
        right, label = list(cells)[1:], f"gaussian_table{name}"
        parts[0].append(f"{caption}\n\n{markup.markdown(cells, right)}")
        parts[1].append(markup.latex(cells, right, caption, label, fit=True, wide=True))
    return "\n".join(parts[0]), "\n".join(parts[1])


def verdict_document(verdicts: pd.DataFrame, misfits: pd.DataFrame) -> str:
    """Verdicts, one sentence a table and variant, and the misfits, as Markdown."""
    sentences = [
        "- {name}, `{variant}`: **{verdict}**; mean absolute difference {clean_points} "
        "(clean) and {robust_points} (robust) points over {cells} cells; {share:.0%} of the values "
        "within 2 standard errors ({trials:.0%} if the test draw is left out); the setting's own "
        "repetitions differ from their mean by {points_low} to {points_high} points, the printed "
        "table by {points}.".format(
            **row,
            name="All tables" if row["table"] == "all" else f"Table {row['table']}",
            share=row["within_2se"],
            trials=row["within_2se_trials_only"],
        )
        for row in as_rows(verdicts)
    ]
    shown = markup.markdown(misfits.astype("str").fillna(""), ("printed", "expected", "z"))
    return "\n".join(sentences) + "\n\nWhat does not fit:\n\n" + shown
