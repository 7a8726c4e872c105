"""Closed forms, estimators and simulations of section 3 against independent oracles."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from contrastdp.errors import InputError
from contrastdp.frames import as_rows, as_table
from contrastdp.theory import gaussian
from contrastdp.theory.gaussian_table import Comparison, gaussian_table, misfit_table, verdict_table
from contrastdp.theory.tables import CELLS, PRINTED

VARIANTS = {
    "fitted": {"samples_per_n": 2, "mix_real": False},
    "as_printed": {"samples_per_n": 1, "mix_real": True},
}
PLANE = {
    "table": 4,
    "angle": 0,
    "mu": [1, 1],
    "eps": 0.5,
    "sigma": 1.0,
    "synthetic": "mu",
}


def self_training(
    real: np.ndarray, real_label: np.ndarray, synthetic: np.ndarray, *, mix_real: bool
) -> np.ndarray:
    """The self-training estimator of section 3.1, sample by sample.

    real: (T, n, d) with real_label (T, n) in {-1, +1}; synthetic: (T, n~, d), unlabelled.
    theta_inter = mean of y x over real data labels the synthetic data, y~ = sign(theta_inter . x~).
    mix_real: True gives theta_final = (sum y x + sum y~ x~) / (n + n~), Eq. 5 as printed; False
    the mean of y~ x~ over synthetic data only. Returns theta_final (T, d).
    """
    signed = real * real_label[..., None]  # (T, n, d)
    intermediate = signed.mean(axis=1)  # (T, d)
    pseudo = np.sign(np.einsum("tnd,td->tn", synthetic, intermediate))  # (T, n~)
    total = np.einsum("tnd,tn->td", synthetic, pseudo)
    count = synthetic.shape[1]
    if mix_real:
        total, count = total + signed.sum(axis=1), count + real.shape[1]
    return total / count


@pytest.fixture
def rng():
    return np.random.default_rng(7)


# ---------------------------------------------------------------- closed forms
def test_robust_error_is_that_of_the_worst_corner(rng):
    mu, theta, eps, sigma = np.array([0.8, -0.3, 0.5]), np.array([1.0, 0.4, -0.7]), 0.2, 1.3
    x = mu + sigma * rng.standard_normal((200_000, 3))
    corners = eps * np.array(list(product((-1, 1), repeat=3)))
    # A sampled adversary: the worst score over every corner of the l_inf ball.
    broken = ((x[:, None] + corners) @ theta <= 0).any(axis=1).mean()
    expected = gaussian.robust_error(theta, mu, sigma, eps)
    assert abs(broken - expected) < 4 * np.sqrt(expected * (1 - expected) / len(x))
    clean = (x @ theta <= 0).mean()
    assert abs(clean - gaussian.robust_error(theta, mu, sigma, 0.0)) < 4 * 0.5 / np.sqrt(len(x))
    assert expected > clean


def test_robust_error_agrees_with_quadrature():
    mu, theta, eps, sigma = np.array([0.9, 0.2]), np.array([0.6, -0.8]), 0.3, 0.7
    # The score theta . x is N(theta . mu, sigma^2), and the adversary takes eps ||theta||_1 of it.
    area, _ = quad(lambda s: norm.pdf(s, theta @ mu, sigma), -10, eps * (0.6 + 0.8))
    assert gaussian.robust_error(theta, mu, sigma, eps) == pytest.approx(area, abs=1e-9)


def test_errors_are_symmetric(rng):
    mu, theta = rng.standard_normal(5), rng.standard_normal((4, 5))
    error = gaussian.robust_error(theta, mu, 1.0, 0.1)
    flips, order = np.array([1, -1, -1, 1, -1]), rng.permutation(5)
    assert gaussian.robust_error(theta * flips, mu * flips, 1.0, 0.1) == pytest.approx(error)
    assert gaussian.robust_error(theta[:, order], mu[order], 1.0, 0.1) == pytest.approx(error)
    assert gaussian.robust_error(3 * theta, mu, 1.0, 0.1) == pytest.approx(error)
    assert gaussian.robust_error(-theta, mu, 1.0, 0.0) == pytest.approx(
        1 - gaussian.robust_error(theta, mu, 1.0, 0.0)
    )


def test_without_adversary_robust_is_standard(rng):
    mu, theta = rng.standard_normal(3), rng.standard_normal((6, 3))
    standard = norm.sf(theta @ mu / np.linalg.norm(theta, axis=1))  # Eq. 6
    assert gaussian.robust_error(theta, mu, 1.0, 0.0) == pytest.approx(standard)
    assert gaussian.optimal_robust(mu, 0.0) == pytest.approx(gaussian.optimal_standard(mu))


@pytest.mark.parametrize("mu", [[1.2, 0.7], [0.9, 0.2], [-1.0, 0.8]])
def test_optimal_classifiers_beat_every_other_direction(mu):
    mu = np.array(mu)
    angles = np.deg2rad(np.arange(0, 360, 0.05))
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    best = gaussian.optimal_robust(mu, 0.5)
    errors = gaussian.robust_error(circle, mu, 1.0, 0.5)
    assert gaussian.robust_error(best, mu, 1.0, 0.5) <= errors.min() + 1e-12
    assert circle[errors.argmin()] == pytest.approx(best, abs=2e-3)
    errors = gaussian.robust_error(circle, mu, 1.0, 0.0)
    assert circle[errors.argmin()] == pytest.approx(gaussian.optimal_standard(mu), abs=2e-3)


def test_soft_threshold_is_mu_minus_eps_only_for_large_coordinates():
    assert gaussian.soft_threshold([1.5, 0.5], 0.5) == pytest.approx([1.0, 0.0])
    assert gaussian.soft_threshold([-1.5, 0.2], 0.5) == pytest.approx([-1.0, 0.0])


def test_no_direction_is_refused():
    with pytest.raises(InputError, match="zero"):
        gaussian.robust_error(np.zeros(2), np.ones(2), 1.0, 0.1)
    with pytest.raises(InputError, match="eps too large"):
        gaussian.optimal_robust(np.array([0.1, 0.2]), 0.5)


# ---------------------------------------------------------------- estimators
def test_self_training_of_two_samples_by_hand():
    real = np.array([[[2.0, 0.0], [0.0, -2.0]]])  # (1, 2, 2)
    label = np.array([[1.0, -1.0]])
    synthetic = np.array([[[1.0, 3.0], [-4.0, 0.0]]])  # labels +1 and -1 from theta_inter = (1, 1)
    alone = self_training(real, label, synthetic, mix_real=False)
    assert alone[0] == pytest.approx([2.5, 1.5])
    mixed = self_training(real, label, synthetic, mix_real=True)
    assert mixed[0] == pytest.approx([(2 + 1 + 4) / 4, (2 + 3) / 4])


@pytest.mark.parametrize("mix_real", [False, True])
def test_drawn_classifiers_are_distributed_as_self_training(rng, mix_real):
    trials, n, n_synthetic, sigma = 20_000, 3, 5, 0.9
    mu, other = np.array([0.6, 0.2, -0.3]), np.array([0.4, -0.5, 0.2])
    label = rng.choice([-1.0, 1.0], (trials, n))
    real = label[..., None] * mu + sigma * rng.standard_normal((trials, n, 3))
    side = rng.choice([-1.0, 1.0], (trials, n_synthetic, 1))
    synthetic = side * other + sigma * rng.standard_normal((trials, n_synthetic, 3))
    slow = self_training(real, label, synthetic, mix_real=mix_real)
    fast = gaussian.draw_classifiers(
        rng,
        mu=mu,
        synthetic_mean=other,
        sigma=sigma,
        real=n,
        synthetic=n_synthetic,
        trials=trials,
        mix_real=mix_real,
    )
    for a, b in zip(_moments(slow), _moments(fast), strict=True):
        spread = np.sqrt((a.var(axis=0) + b.var(axis=0)) / trials)
        assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) < 4.5 * spread).all()


def _moments(theta):
    yield theta
    yield np.einsum("ti,tj->tij", theta, theta).reshape(len(theta), -1)
    yield theta**4
    yield gaussian.robust_error(theta, np.ones(3), 1.0, 0.2)[:, None]


def test_real_data_alone_is_their_mean(rng):
    theta = gaussian.draw_classifiers(
        rng,
        mu=np.array([1.0, 2.0]),
        synthetic_mean=None,
        sigma=2.0,
        real=16,
        synthetic=16,
        trials=40_000,
        mix_real=False,
    )
    assert theta.mean(axis=0) == pytest.approx([1, 2], abs=0.01)
    assert theta.std(axis=0) == pytest.approx([0.5, 0.5], rel=0.02)


def test_limit_is_the_expectation_and_what_many_samples_tend_to(rng):
    intermediate, other, sigma = np.array([[0.8, -0.4]]), np.array([0.5, 0.9]), 1.2
    limit = gaussian.limit_classifier(intermediate, other, sigma)[0]
    x = other + sigma * rng.standard_normal((1_000_000, 2))
    sampled = (np.sign(x @ intermediate[0])[:, None] * x).mean(axis=0)
    assert limit == pytest.approx(sampled, abs=0.006)
    total = gaussian.pseudo_labelled_sum(
        intermediate,
        other,
        sigma,
        rng.standard_normal((1, 1_000_000)),
        1000 * rng.standard_normal((1, 2)),
    )
    assert total[0] / 1_000_000 == pytest.approx(limit, abs=0.006)


def test_limit_for_large_c_is_the_proofs(rng):
    intermediate = rng.standard_normal((50, 2)) + 3
    far = 40 * np.array([1.0, 0.5])
    limit, proof = (
        gaussian.limit_classifier(intermediate, far, 1.0),
        gaussian.proof_limit(intermediate, far),
    )
    assert limit == pytest.approx(proof)
    assert gaussian.proof_limit(-intermediate, far) == pytest.approx(-proof)


# ---------------------------------------------------------------- simulation
def test_accuracies_count_points_like_a_slow_loop(rng):
    theta, points, eps = rng.standard_normal((40, 3)), rng.standard_normal((3, 500)) + 0.4, 0.15
    clean, robust = gaussian.accuracies(theta, points.astype(np.float32), eps)
    corners = eps * np.array(list(product((-1, 1), repeat=3)))
    for k in (0, 17, 39):
        assert clean[k] == np.mean([theta[k] @ x > 0 for x in points.T])
        assert robust[k] == np.mean(
            [min((x + e) @ theta[k] for e in corners) > 0 for x in points.T]
        )


def _cells(
    variants=VARIANTS, regeneration=0, seed=0, setting=PLANE, sources=("Real", "1"), n=(10,)
):
    cells = [
        {"table": "4", "angle": "0", "source": source, "n": size}
        for source in sources
        for size in n
    ]
    return gaussian.simulate_tables(
        as_table(cells, PRINTED),
        [setting],
        variants,
        trials=30,
        test_points=2000,
        seed=seed,
        regeneration=regeneration,
    )


def test_simulation_is_determined_by_its_seed():
    assert _cells() == _cells()
    assert _cells()[0]["clean"] != _cells(seed=1)[0]["clean"]
    assert _cells()[0]["clean"] != _cells(regeneration=1)[0]["clean"]


def test_streams_do_not_depend_on_their_neighbours():
    few = _cells(variants={"fitted": VARIANTS["fitted"]}, sources=("1",))
    both = [row for row in _cells() if (row["source"], row["variant"]) == ("1", "fitted")]
    assert few == both


def test_many_samples_reach_the_best_accuracy_and_no_eps_the_clean_one():
    rows = _cells(n=(5000,), setting=PLANE | {"eps": 0.0})
    for row in rows:
        assert row["clean"] == row["robust"]
        assert row["clean"] == pytest.approx(norm.cdf(np.sqrt(2)), abs=0.025)
        assert row["clean_std"] < 0.002


def test_a_reprinted_table_repeats_its_original():
    cells = [
        {"table": table, "angle": "0", "source": "1", "n": n}
        for table, n in (("1", 20), ("4", 10), ("4", 20))
    ]
    geometry = [{"table": 1, "angle": 0, "same_as": 4}, PLANE]
    rows = gaussian.simulate_tables(
        as_table(cells, PRINTED),
        geometry,
        VARIANTS,
        trials=5,
        test_points=100,
        seed=0,
        regeneration=0,
    )
    first = [row for row in rows if row["table"] == "1"]
    assert [row | {"table": "4"} for row in first] == [
        row for row in rows if row["table"] == "4" and row["n"] == 20
    ]


def test_missing_geometry_and_bad_means_are_told():
    with pytest.raises(InputError, match="table 4 at 0 degrees has none"):
        _cells(setting=PLANE | {"angle": 90})
    with pytest.raises(InputError, match="give coordinates"):
        gaussian.mean_vector({"norm": 1})
    with pytest.raises(InputError, match="choose mu or mu-eps"):
        gaussian.synthetic_mean(PLANE | {"synthetic": "else"}, "1")


# ---------------------------------------------------------------- Proposition 3.2, Theorem 3.4
def test_proposition_rows_hold_the_known_limits():
    rows = list(
        gaussian.proposition_rows(
            mu=[1.2, 0.7],
            eps=0.5,
            sigma=1.0,
            c=[1.0, 3.0],
            angles=[-90, 0, 45, 90],
            real=[50],
            synthetic=200,
            trials=200,
            seed=0,
        )
    )
    found = {(r["error"], r["model"], r["c"], r["angle"]): r for r in rows}
    best = norm.sf(np.hypot(1.2, 0.7))
    assert found["standard", "proof", 1.0, 0]["value"] == pytest.approx(best)
    assert found["standard", "proof", 1.0, 90]["value"] == pytest.approx(0.5)
    assert found["standard", "limit", 3.0, 0]["value"] == pytest.approx(best, abs=1e-4)
    # +90 and -90 degrees are one mixture, so the limit cannot tell them apart.
    ends = [found["robust", "limit", 3.0, angle] for angle in (-90, 90)]
    assert ends[0]["value"] == pytest.approx(ends[1]["value"])
    assert ends[1]["from_90"] == 0
    step = found["standard", "limit", 3.0, 0]
    assert step["from_smaller_c"] == pytest.approx(
        step["value"] - found["standard", "limit", 1.0, 0]["value"]
    )


def test_theorem_counts_agree_with_fresh_draws(rng):
    settings = {"mu": {"value": 0.4, "d": 20}, "eps": 0.1, "sigma": 1.0, "real": [30]}
    rows = gaussian.theorem_rows(
        **settings,
        c=[0.7, 1.0, 2.0],
        targets=[0.85, 0.999],
        largest=400,
        steps=30,
        trials=400,
        resamples=50,
        level=0.95,
        seed=1,
    )
    needed = {(r["target"], r["c"]): r for r in rows if r["quantity"] == "needed"}
    for c in (0.7, 1.0, 2.0):
        row, mu = needed[0.85, c], np.full(20, 0.4)
        theta = gaussian.draw_classifiers(
            rng,
            mu=mu,
            synthetic_mean=c * mu,
            sigma=1.0,
            real=30,
            synthetic=round(row["value"]),
            trials=4000,
            mix_real=False,
        )
        reached = 1 - gaussian.robust_error(theta, mu, 1.0, 0.1).mean()
        assert reached == pytest.approx(0.85, abs=0.012)
        assert row["low"] <= row["value"] <= row["high"]
        assert needed[0.999, c]["value"] is None  # above what any classifier reaches
    (slope,) = [r for r in rows if r["quantity"] == "exponent" and r["target"] == 0.85]
    assert slope["low"] <= slope["value"] <= slope["high"] < -1


# ---------------------------------------------------------------- beside the printed tables
@pytest.fixture(scope="module")
def experiment():
    """Simulated cells and a 'printed' table that one more run of the same setting gave."""
    sizes, sources = (10, 20, 50), ("Real", "1", "1.5")
    rows = [
        row for r in range(41) for row in _cells(regeneration=r, sources=sources, n=sizes, seed=3)
    ]
    printed = [
        {"table": "4", "angle": "0", "d": 2, "source": row["source"], "n": row["n"]}
        | {"clean": round(row["clean"], 4), "clean_std": round(row["clean_std"], 4)}
        | {"rob": round(row["robust"], 4), "rob_std": round(row["robust_std"], 4)}
        for row in _cells(regeneration=99, sources=sources, n=sizes, seed=3)
        if row["variant"] == "fitted"
    ]
    return as_table(rows, CELLS), as_table(printed, PRINTED)


def _verdict(rows, printed, variant="fitted", table="4"):
    verdicts = verdict_table(Comparison(rows, printed), trials=30, level=0.025)
    return next(v for v in as_rows(verdicts) if (v["table"], v["variant"]) == (table, variant))


def test_a_run_of_the_same_setting_is_reproduced(experiment):
    verdict = _verdict(*experiment)
    assert verdict["verdict"] == "reproduced"
    assert verdict["within_2se"] > 0.8 and verdict["cells"] == 9


def test_trial_noise_alone_calls_a_faithful_run_wrong(experiment):
    verdict = _verdict(*experiment)
    assert verdict["within_2se_trials_only"] < verdict["within_2se"]


def test_one_planted_error_is_caught(experiment):
    rows, printed = experiment
    planted = printed.copy()
    planted.loc[4, "rob"] -= 0.09  # a misread digit in one cell
    assert _verdict(rows, planted)["outlying"] == 1
    assert _verdict(rows, planted)["verdict"] == "reproduced but for 1 cell(s)"
    misfits = as_rows(
        misfit_table(
            Comparison(rows, planted),
            [PLANE],
            as_table([], PRINTED),
            variant="fitted",
            notable=4.0,
            level=0.01,
            test_points=2000,
        )
    )
    assert ["mean", "0 degrees, c = 1, n = 20"] in [[m["kind"], m["where"]] for m in misfits]


def test_a_wholly_shifted_table_is_not_reproduced(experiment):
    rows, printed = experiment
    shifted = printed.assign(clean=printed["clean"] - 0.06, rob=printed["rob"] - 0.06)
    assert _verdict(rows, shifted)["verdict"] == "not reproduced"


def test_table_rows_keep_both_variants_and_the_sign(experiment):
    rows, printed = experiment
    table = gaussian_table(Comparison(rows, printed), trials=30)
    assert len(table) == 2 * len(printed)
    for row in as_rows(table):
        difference = float(row["robust_expected"]) - float(row["paper_robust"])
        assert float(row["robust_difference"]) == pytest.approx(difference, abs=2e-5)
        for z in ("robust_z", "robust_z_trials"):
            assert np.sign(float(row[z])) == np.sign(float(row["robust_difference"]))


def test_missing_cells_and_few_regenerations_are_told(experiment):
    rows, printed = experiment
    with pytest.raises(InputError, match="lacks"):
        Comparison(rows[rows["n"] != 20], printed)
    with pytest.raises(InputError, match="10 or more"):
        Comparison(rows[rows["regeneration"] < 5], printed)
    with pytest.raises(InputError, match="raise regenerations to 99"):
        verdict_table(Comparison(rows, printed), trials=30, level=0.01)


def test_repeated_values_and_odd_angles_are_listed(experiment):
    rows, printed = experiment
    copied = pd.concat([printed[:2].assign(source=source) for source in ("Real", "0.5")])
    odd = PLANE | {"mu": [1.0, -1.0], "angle": 60, "synthetic": "mu-eps", "table": 7}
    misfits = as_rows(
        misfit_table(
            Comparison(rows, printed),
            [odd],
            copied,
            variant="fitted",
            notable=9.0,
            level=0.01,
            test_points=2000,
        )
    )
    assert {m["kind"] for m in misfits} >= {"geometry", "version 1"}
    (angle,) = [m for m in misfits if m["what"].startswith("printed angle")]
    assert (angle["printed"], angle["expected"]) == (60.0, 90.0)
