"""The two-Gaussian theory of section 3: errors, estimators, and the simulations behind its tables.

The model: y uniform on {-1, +1}, x | y ~ N(y mu, sigma^2 I), a linear classifier sign(theta . x),
and an adversary that moves x by at most eps in the l_inf norm. Because the problem is symmetric
under (x, y) -> (-x, -y), samples are drawn as y x ~ N(mu, sigma^2 I) throughout.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from contrastdp.errors import InputError

REAL = "Real"
CHUNK = 32  # classifiers scored at once: their float32 scores on 10k points fit the cache


# ---------------------------------------------------------------- closed forms (appendix A.1)
def robust_error(theta: np.ndarray, mu: np.ndarray, sigma: float, eps: float) -> np.ndarray:
    """Robust error Q((mu . theta - eps ||theta||_1) / (sigma ||theta||_2)), l_inf <= eps (Eq. 7).

    At eps 0 it is the standard error of sign(theta . x) (Eq. 6).

    theta: (..., d); mu: (d,); eps in the units of x. Returns (...) in [0, 1]; InputError where a
    theta is zero, which classifies nothing.
    """
    theta = np.asarray(theta, dtype=float)
    length = np.linalg.norm(theta, axis=-1)
    if not (length > 0).all():
        raise InputError("theta is zero; a linear classifier needs a direction")
    margin = theta @ np.asarray(mu, dtype=float) - eps * np.abs(theta).sum(axis=-1)
    return ndtr(-margin / (sigma * length))


def soft_threshold(mu: np.ndarray, eps: float) -> np.ndarray:
    """T_eps(mu): each coordinate moved towards zero by eps and stopped there. Shapes (..., d)."""
    mu = np.asarray(mu, dtype=float)
    return np.sign(mu) * np.maximum(np.abs(mu) - eps, 0.0)


def optimal_standard(mu: np.ndarray) -> np.ndarray:
    """The direction (unit length) of the smallest standard error: mu. Shapes (d,)."""
    return _unit(np.asarray(mu, dtype=float))


def optimal_robust(mu: np.ndarray, eps: float) -> np.ndarray:
    """The direction (unit length) of the smallest robust error: T_eps(mu) (appendix A.1).

    Equals mu - eps 1 where every coordinate of mu is at least eps. InputError where no coordinate
    exceeds eps: then no linear classifier beats robust accuracy 1/2.
    """
    return _unit(soft_threshold(mu, eps))


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    if not (length > 0).all():
        raise InputError("a mean or classifier is zero; give it a direction (is eps too large?)")
    return vector / length


# ---------------------------------------------------------------- the self-training estimator
def draw_intermediate(
    rng: np.random.Generator, mu: np.ndarray, sigma: float, real: int, trials: int
) -> np.ndarray:
    """theta_inter of `trials` draws of `real` labelled samples: exactly N(mu, sigma^2 I / real).

    Returns (T, d).
    """
    return mu + sigma / np.sqrt(real) * rng.standard_normal((trials, len(mu)))


def draw_classifiers(
    rng: np.random.Generator,
    *,
    mu: np.ndarray,
    synthetic_mean: np.ndarray | None,
    sigma: float,
    real: int,
    synthetic: int,
    trials: int,
    mix_real: bool,
) -> np.ndarray:
    """theta_final of `trials` self-trainings, drawn without the samples themselves; (T, d).

    mu, synthetic_mean: (d,), None trains on real data alone; real, synthetic: numbers of samples.
    Distributed exactly as the estimator of section 3.1 (Eq. 5): only x~'s component along
    theta_inter decides a pseudo-label, so the rest of sum y~ x~ is one Gaussian vector (the
    coordinate system of the proof of Theorem 3.4).
    """
    intermediate = draw_intermediate(rng, mu, sigma, real, trials)
    if synthetic_mean is None:
        return intermediate
    along = rng.standard_normal((trials, synthetic))
    across = np.sqrt(synthetic) * rng.standard_normal((trials, len(mu)))
    total = pseudo_labelled_sum(intermediate, synthetic_mean, sigma, along, across)
    if not mix_real:
        return total / synthetic
    return (total + real * intermediate) / (real + synthetic)


def pseudo_labelled_sum(
    intermediate: np.ndarray,
    synthetic_mean: np.ndarray,
    sigma: float,
    along: np.ndarray,
    across: np.ndarray,
) -> np.ndarray:
    """sum y~ x~ from standard normal draws; (T, d).

    intermediate: (T, d) theta_inter; along: (T, n~), each sample's noise in its direction;
    across: (T, d), the summed noise of variance n~, of which the part orthogonal to it is used.
    """
    direction = _unit(intermediate)  # (T, d)
    offset = direction @ synthetic_mean  # (T,)
    pseudo = np.sign(offset[:, None] + sigma * along)  # (T, n~), y~ times the true class
    across = across - np.einsum("td,td->t", across, direction)[:, None] * direction
    return (
        pseudo.sum(axis=1)[:, None] * synthetic_mean
        + sigma * np.einsum("tn,tn->t", pseudo, along)[:, None] * direction
        + sigma * across
    )


def limit_classifier(
    intermediate: np.ndarray, synthetic_mean: np.ndarray, sigma: float
) -> np.ndarray:
    """theta_final for n~ -> infinity: E[y~ x~] given theta_inter; (T, d) or (d,).

    With u = theta_inter / ||theta_inter|| and a = u . mu~ / sigma it is
    (2 Phi(a) - 1) mu~ + 2 sigma phi(a) u.
    # PAPER: the proof of Proposition 3.2 takes the direction of mu~ as the limit; wrong
    # pseudo-labels leave the second term, which vanishes only for a -> infinity.
    """
    direction = _unit(np.asarray(intermediate, dtype=float))
    a = direction @ synthetic_mean / sigma  # (T,)
    density = np.exp(-(a**2) / 2) / np.sqrt(2 * np.pi)
    return (2 * ndtr(a) - 1)[..., None] * synthetic_mean + (2 * sigma * density)[
        ..., None
    ] * direction


def proof_limit(intermediate: np.ndarray, synthetic_mean: np.ndarray) -> np.ndarray:
    """The proof's limit (Proposition 3.2): mu~ or -mu~, whichever theta_inter leans to; (T, d)."""
    sign = np.where(np.asarray(intermediate) @ synthetic_mean >= 0, 1.0, -1.0)
    return sign[..., None] * synthetic_mean


# ---------------------------------------------------------------- accuracy on drawn test points
def draw_test_points(
    rng: np.random.Generator, mu: np.ndarray, sigma: float, count: int
) -> np.ndarray:
    """y x of `count` fresh real samples as float32 (d, N), one column a point."""
    noise = rng.standard_normal((len(mu), count), dtype=np.float32)
    return np.float32(sigma) * noise + mu.astype(np.float32)[:, None]


def accuracies(theta: np.ndarray, points: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Clean and robust accuracy of each classifier on drawn points, both (K,).

    theta: (K, d); points: (d, N), the product y x. The worst l_inf perturbation lowers the score
    by exactly eps ||theta||_1, so a point is robust where its score exceeds that.
    """
    direction = _unit(np.asarray(theta, dtype=float))
    cost = (eps * np.abs(direction).sum(axis=1)).astype(np.float32)
    direction = direction.astype(np.float32)
    clean, robust = np.empty(len(theta)), np.empty(len(theta))
    for start in range(0, len(theta), CHUNK):
        scores = direction[start : start + CHUNK] @ points  # (chunk, N)
        for k, row in enumerate(scores, start):
            clean[k] = np.count_nonzero(row > 0)
            robust[k] = np.count_nonzero(row > cost[k])
    return clean / points.shape[1], robust / points.shape[1]


# ---------------------------------------------------------------- the printed tables
def mean_vector(mu: Sequence[float] | Mapping[str, float]) -> np.ndarray:
    """A mean from its setting: a list of coordinates, {value, d} for value * 1, or {norm, degrees}.

    degrees are counted from the x-axis in the plane. Returns (d,).
    """
    if not isinstance(mu, Mapping):
        return np.asarray(mu, dtype=float)
    if set(mu) == {"value", "d"}:
        return np.full(int(mu["d"]), float(mu["value"]))
    if set(mu) == {"norm", "degrees"}:
        angle = np.deg2rad(mu["degrees"])
        return mu["norm"] * np.array([np.cos(angle), np.sin(angle)])
    raise InputError(
        f"geometry: mu has the keys {sorted(mu)}; "
        "give coordinates, {value, d} or {norm, degrees}"
    )


def synthetic_mean(setting: Mapping[str, Any], source: str) -> np.ndarray | None:
    """mu~ of a source, (d,): None for 'Real', else c mu or c (mu - eps 1), as 'synthetic' says."""
    if source == REAL:
        return None
    mu = mean_vector(setting["mu"])
    bases = {"mu": mu, "mu-eps": mu - setting["eps"]}
    if setting["synthetic"] not in bases:
        raise InputError(
            f"geometry of table {setting['table']}: synthetic is '{setting['synthetic']}'; "
            "choose mu or mu-eps"
        )
    return float(source) * bases[setting["synthetic"]]


def block_generator(
    seed: int, regeneration: int, *, table: str, angle: str, source: str, purpose: str
) -> np.random.Generator:
    """The random stream of one block's test points or of one variant's trials.

    Named, not counted: adding a table, source or variant leaves every other stream as it was.
    """
    key = zlib.crc32(f"{table}/{angle}/{source}/{purpose}".encode())
    return np.random.default_rng([seed, regeneration, key])


def simulate_block(
    setting: Mapping[str, Any],
    source: str,
    sizes: Sequence[int],
    variants: Mapping[str, Mapping[str, Any]],
    *,
    trials: int,
    test_points: int,
    seed: int,
    regeneration: int,
) -> Iterator[dict[str, Any]]:
    """Simulate the cells of one (table, angle, source) block on one draw of test points.

    setting: table, angle, mu, eps, sigma, synthetic; variants: name -> {samples_per_n, mix_real}.
    Yields a row a cell and variant: mean and standard deviation (n - 1) over trials of clean and
    robust accuracy, as fractions.
    """
    mu, eps, sigma = mean_vector(setting["mu"]), setting["eps"], setting["sigma"]
    other = synthetic_mean(setting, source)
    block = {"table": str(setting["table"]), "angle": str(setting["angle"]), "source": source}

    # ----- every classifier of the block: variants x sizes x trials
    theta = []
    for name, variant in variants.items():
        rng = block_generator(seed, regeneration, **block, purpose=name)
        for n in sizes:
            count = round(variant["samples_per_n"] * n)
            theta.append(
                draw_classifiers(
                    rng,
                    mu=mu,
                    synthetic_mean=other,
                    sigma=sigma,
                    real=count,
                    synthetic=count,
                    trials=trials,
                    mix_real=variant["mix_real"],
                )
            )

    # ----- one test draw for all of them
    rng = block_generator(seed, regeneration, **block, purpose="test points")
    points = draw_test_points(rng, mu, sigma, test_points)
    clean, robust = (
        a.reshape(len(variants), len(sizes), trials)
        for a in accuracies(np.concatenate(theta), points, eps)
    )
    for v, name in enumerate(variants):
        for i, n in enumerate(sizes):
            yield {
                **block,
                "d": len(mu),
                "n": n,
                "variant": name,
                "regeneration": regeneration,
                "clean": clean[v, i].mean(),
                "clean_std": clean[v, i].std(ddof=1),
                "robust": robust[v, i].mean(),
                "robust_std": robust[v, i].std(ddof=1),
            }


def simulate_tables(
    cells: pd.DataFrame,
    geometry: Sequence[Mapping[str, Any]],
    variants: Mapping[str, Mapping[str, Any]],
    *,
    trials: int,
    test_points: int,
    seed: int,
    regeneration: int,
) -> list[dict[str, Any]]:
    """Simulate every cell of Tables 1, 4, 5, 6 and 7 once.

    cells: has the columns table, angle, source and n, such as the printed tables; geometry: one
    setting per (table, angle), where {table, angle, same_as: t} prints cells of table t again.
    Regeneration 0 is the run as printed; others use fresh draws of everything. InputError where a
    cell has no geometry.
    """
    settings = {(str(s["table"]), str(s["angle"])): s for s in geometry}
    wanted = cells.groupby(["table", "angle", "source"], sort=False)["n"].agg(list).to_dict()
    rows: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for (table, angle, source), sizes in wanted.items():
        setting = settings.get((table, angle))
        if setting is None:
            raise InputError(
                f"geometry: table {table} at {angle} degrees has none; add an entry for it"
            )
        if "same_as" in setting:
            continue
        rows[table, angle, source] = list(
            simulate_block(
                setting,
                source,
                sizes,
                variants,
                trials=trials,
                test_points=test_points,
                seed=seed,
                regeneration=regeneration,
            )
        )
    for (table, angle, source), sizes in wanted.items():
        original = str(settings[table, angle].get("same_as", table))
        if original != table:
            if (original, angle, source) not in rows:
                raise InputError(
                    f"geometry: table {table} repeats table {original}, which has no cell at "
                    f"{angle} degrees from {source}; correct same_as"
                )
            rows[table, angle, source] = [
                row | {"table": table} for row in rows[original, angle, source] if row["n"] in sizes
            ]
    return [row for key in wanted for row in rows[key]]


# ---------------------------------------------------------------- Proposition 3.2
def proposition_rows(
    *,
    mu: Sequence[float] | Mapping[str, float],
    eps: float,
    sigma: float,
    c: Sequence[float],
    angles: Sequence[float],
    real: Sequence[int],
    synthetic: int,
    trials: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Standard and robust error against the synthetic mean's angle and length (Proposition 3.2).

    For each error the reference direction is the one the proposition names: mu for the standard
    error, mu - eps 1 for the robust error; mu~ = c (reference, turned by the angle in degrees) in
    the plane, so 0 is the claimed minimum and 90 (mu~ orthogonal) the claimed maximum. `model` is
    proof (theta_final along mu~, the limit the proof takes), limit (n~ -> infinity of the
    estimator, pseudo-labels included) or finite (n~ = synthetic). Errors are closed forms, averaged
    over `trials` draws of the `real` labelled samples, common to all rows of one `real`.

    Yields rows: error, model, real, synthetic, c, angle, value, value_se, and paired over trials
    the differences to angle 0, to angle 90 and to the next smaller c at the same angle, with their
    standard errors.
    """
    mean = mean_vector(mu)
    references = {"standard": (mean, 0.0), "robust": (mean - eps, eps)}
    c, angles = sorted(c), sorted(angles)
    if len(mean) != 2:
        raise InputError(f"proposition: mu has {len(mean)} coordinates; the angles need a plane")
    if not {0, 90} <= set(angles):
        raise InputError("proposition: angles must hold 0 and 90, the angles the claims name")
    for count in real:
        rng = np.random.default_rng([seed, count])
        intermediate = draw_intermediate(rng, mean, sigma, count, trials)
        along = rng.standard_normal((trials, synthetic), dtype=np.float32)
        across = np.sqrt(synthetic) * rng.standard_normal((trials, 2))
        for error, (reference, strength) in references.items():
            values = {}
            for length in c:
                for angle in angles:
                    turned = length * _turn(reference, angle)
                    total = pseudo_labelled_sum(intermediate, turned, sigma, along, across)
                    theta = {
                        "proof": proof_limit(intermediate, turned),
                        "limit": limit_classifier(intermediate, turned, sigma),
                        "finite": total,
                    }
                    for model, each in theta.items():
                        values[model, length, angle] = robust_error(each, mean, sigma, strength)
            for (model, length, angle), value in values.items():
                smaller = [other for other in c if other < length]
                base = values[model, smaller[-1], angle] if smaller else None
                yield {
                    "error": error,
                    "model": model,
                    "real": count,
                    "synthetic": synthetic if model == "finite" else "infinity",
                    "c": length,
                    "angle": angle,
                    **_mean("value", value),
                    **_mean("from_0", value - values[model, length, 0]),
                    **_mean("from_90", value - values[model, length, 90]),
                    **_mean("from_smaller_c", None if base is None else value - base),
                }


def _turn(vector: np.ndarray, degrees: float) -> np.ndarray:
    # Quarter turns exactly: cos(90 degrees) in floating point would leave a sign behind.
    angle = np.deg2rad(degrees)
    cosine, sine = (np.round(f(angle), 15) for f in (np.cos, np.sin))
    return np.array([[cosine, -sine], [sine, cosine]]) @ vector


def _mean(name: str, values: np.ndarray | None) -> dict[str, float | None]:
    if values is None:
        return {name: None, f"{name}_se": None}
    return {name: values.mean(), f"{name}_se": values.std(ddof=1) / np.sqrt(len(values))}


# ---------------------------------------------------------------- Theorem 3.4
def theorem_rows(
    *,
    mu: Sequence[float] | Mapping[str, float],
    eps: float,
    sigma: float,
    c: Sequence[float],
    real: Sequence[int],
    targets: Sequence[float],
    largest: int,
    steps: int,
    trials: int,
    resamples: int,
    level: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Synthetic samples needed to reach a mean robust accuracy, against c (Theorem 3.4).

    mu~ = c mu; theta_final from synthetic data alone; robust accuracy in closed form, averaged over
    `trials`; the number needed is where the mean first reaches the target on `steps` geometric
    steps up to `largest`, interpolated in log n~. Intervals at `level` come from `resamples`
    bootstrap draws of the trials, common to all c.

    Returns two kinds of rows: `needed`, one per (real, target, c), with `value` None where the
    target is out of reach (`limit` is the accuracy for n~ -> infinity); and `exponent`, one per
    (real, target): the slope of log n~ on log c over the c that reach it.
    """
    mean = mean_vector(mu)
    counts = np.unique(np.geomspace(2, largest, steps).round().astype(int))
    tails = (50 * (1 - level), 100 - 50 * (1 - level))
    rows = []
    for n in real:
        rng = np.random.default_rng([seed, n])
        intermediate = draw_intermediate(rng, mean, sigma, n, trials)
        along = rng.standard_normal((trials, int(counts[-1])), dtype=np.float32)
        gaps = np.sqrt(np.diff(counts, prepend=0))[:, None, None]
        across = np.cumsum(gaps * rng.standard_normal((len(counts), trials, len(mean))), axis=0)
        draws = rng.integers(trials, size=(resamples, trials))
        weights = np.stack([np.bincount(draw, minlength=trials) for draw in draws]) / trials

        # ----- robust accuracy along each trial's path of growing n~
        curves, boots, limits = {}, {}, {}
        for length in c:
            paths = _robust_paths(
                intermediate, length * mean, mean, sigma, eps, counts, along, across
            )
            curves[length], boots[length] = paths.mean(axis=1), weights @ paths.T
            limit = limit_classifier(intermediate, length * mean, sigma)
            limits[length] = 1 - robust_error(limit, mean, sigma, eps).mean()

        # ----- where it reaches the target
        for target in targets:
            needed = {x: _first_crossing(counts, curves[x][None], target)[0] for x in c}
            spread = {x: _first_crossing(counts, boots[x], target) for x in c}
            shared = {"real": n, "target": target}
            reached = [x for x in c if np.isfinite(needed[x])]
            for x in c:
                low, high = np.percentile(spread[x], tails, method="inverted_cdf")
                rows.append(
                    shared
                    | {"quantity": "needed", "c": x, "limit": limits[x]}
                    | {"value": _finite(needed[x]), "low": _finite(low), "high": _finite(high)}
                )
            slope = low = high = None
            if len(reached) >= 3:
                slope = _slope(reached, np.array([needed[x] for x in reached])[None])[0]
                slopes = _slope(reached, np.stack([spread[x] for x in reached], axis=1))
                low, high = np.percentile(slopes[np.isfinite(slopes)], tails)
            rows.append(
                shared
                | {"quantity": "exponent", "c": None, "limit": None}
                | {"value": slope, "low": low, "high": high}
            )
    return rows


def _robust_paths(
    intermediate: np.ndarray,
    other: np.ndarray,
    mu: np.ndarray,
    sigma: float,
    eps: float,
    counts: np.ndarray,
    along: np.ndarray,
    across: np.ndarray,
) -> np.ndarray:
    """Robust accuracy of each trial after the first counts[k] synthetic samples; (counts, T)."""
    direction = _unit(intermediate)
    pseudo = np.sign((direction @ other)[:, None] + sigma * along)  # (T, n~)
    labels = np.cumsum(pseudo, axis=1, dtype=np.float64)[:, counts - 1]  # (T, counts)
    noise = np.cumsum(pseudo * along, axis=1, dtype=np.float64)[:, counts - 1]
    accuracy = np.empty((len(counts), len(intermediate)))
    for k in range(len(counts)):
        aside = across[k] - np.einsum("td,td->t", across[k], direction)[:, None] * direction
        theta = (
            labels[:, k, None] * other + sigma * noise[:, k, None] * direction + sigma * aside
        )  # (T, d)
        accuracy[k] = 1 - robust_error(theta, mu, sigma, eps)
    return accuracy


def _first_crossing(counts: np.ndarray, curves: np.ndarray, target: float) -> np.ndarray:
    """n~ at which each curve (B, counts) first reaches the target, interpolated in log n~; (B,)."""
    above = curves >= target
    k = above.argmax(axis=1)
    before = np.maximum(k - 1, 0)
    index = np.arange(len(curves))
    low, high = curves[index, before], curves[index, k]
    share = np.where(k > 0, (target - low) / np.where(high > low, high - low, 1.0), 0.0)
    logs = np.log(counts)
    found = np.exp(logs[before] + share * (logs[k] - logs[before]))
    return np.where(above.any(axis=1), found, np.inf)


def _slope(c: Sequence[float], needed: np.ndarray) -> np.ndarray:
    x = np.log(np.asarray(c)) - np.log(np.asarray(c)).mean()
    with np.errstate(invalid="ignore"):
        return np.log(needed) @ x / (x @ x)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
