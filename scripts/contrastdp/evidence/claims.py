"""The paper's claims, each decided by a test over result tables.

A test is a function `test(evidence, **parameters) -> Verdict`, entered in TESTS under its own name
by the decorator `claim_test`. `evidence` maps names (cells, proposition, ...) to the content of
result files: the typed frame of a CSV, or what a JSON holds. Tests of one section are a module of
their own (image_claims, theory.claims), its claims stand in config/claims.yaml.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from contrastdp.errors import InputError
from contrastdp.evidence.statistics import Estimate, mean_interval
from contrastdp.frames import as_table, given, number, text

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"
NOT_RUN = "not run"
COLUMNS = (
    text("id", "scope", "statement", "source", "test")
    | number("effect", "low", "high")
    | text("unit")
    | given("threshold")
    | text("verdict", "evidence")
)
KEYS = {"id", "scope", "statement", "source", "test", "evidence", "parameters"}


@dataclass(frozen=True)
class Verdict:
    """What a test found: an effect with its interval [low, high], and the decision.

    unit: what the effect counts; threshold: the value it was held against; verdict: reproduced,
    not reproduced, inconclusive, or not run (effect and interval are NaN then); evidence: in words,
    what was compared and where it is worst.
    """

    effect: float
    low: float
    high: float
    unit: str
    threshold: float
    verdict: str
    evidence: str


TESTS: dict[str, Callable[..., Verdict]] = {}


def claim_test(function: Callable[..., Verdict]) -> Callable[..., Verdict]:
    """Enter a test in the registry under its function's name."""
    if function.__name__ in TESTS:
        raise ValueError(f"two claim tests are named {function.__name__}")
    TESTS[function.__name__] = function
    return function


def entered_by(module: str) -> dict[str, Callable[..., Verdict]]:
    """The tests that a module entered, by name; `module`: its __name__."""
    return {name: test for name, test in TESTS.items() if test.__module__ == module}


def decide(low: float, high: float, threshold: float, *, above: bool) -> str:
    """Decide from an interval: all of it on the claimed side of the threshold, none of it, or both.

    above: the claim says the effect is greater than the threshold (else: smaller).
    """
    if low > threshold or high < threshold:
        return REPRODUCED if (low > threshold) == above else NOT_REPRODUCED
    return INCONCLUSIVE


# ---------------------------------------------------------------- several contrasts at once
@dataclass(frozen=True)
class Contrast:
    """Paired differences, one a seed, that a claim says are above its threshold; name: of what."""

    name: str
    differences: Sequence[float]

    def gain(self, level: float) -> Estimate:
        """Their mean with its t interval."""
        return mean_interval(self.differences, level)


def bounds(gain: Estimate, inside: float) -> tuple[float, float]:
    """The interval; where one pair, or pairs that are all alike, give none, it holds `inside`."""
    if gain.low is None or gain.high is None or gain.high - gain.low < 1e-9:
        return min(gain.mean, inside), max(gain.mean, inside)
    return gain.low, gain.high


def weakest(
    contrasts: Sequence[Contrast], *, unit: str, threshold: float, level: float, more: str = ""
) -> Verdict:
    """The verdict on a claim that every one of `contrasts` is above `threshold`.

    The effect is the smallest mean, with its t interval at `level`. Reproduced where every such
    interval lies above the threshold; not reproduced where one of k lies below it even at the level
    1 - (1 - level) / k, so that many contrasts do not make a loss by chance; else inconclusive.
    more: what the evidence says beside it.
    """
    gains = [contrast.gain(level) for contrast in contrasts]
    strict = 1 - (1 - level) / len(gains)
    lost = any(bounds(each.gain(strict), threshold)[1] < threshold for each in contrasts)
    worst = min(range(len(gains)), key=lambda k: gains[k].mean)
    # An interval without width or of one pair tells nothing: it holds the threshold.
    low, high = bounds(gains[worst], threshold)
    certain = all(bounds(gain, threshold)[0] > threshold for gain in gains)
    won = sum(gain.mean > threshold for gain in gains)
    counts = sorted({gain.count for gain in gains})
    several = f" in the mean over {' or '.join(map(str, counts))} pairs"
    over = ", one pair each" if counts == [1] else several
    return Verdict(
        gains[worst].mean,
        low,
        high,
        unit,
        threshold,
        REPRODUCED if certain else NOT_REPRODUCED if lost else INCONCLUSIVE,
        f"{won} of {len(gains)} differences are above {threshold:g}{over}; "
        f"smallest: {contrasts[worst].name}{more}",
    )


# ---------------------------------------------------------------- judging
def judge(
    claims: Sequence[Mapping[str, Any]],
    evidence: Mapping[str, Any],
    *,
    scopes: Sequence[str],
    tests: Mapping[str, Callable[..., Verdict]] = TESTS,
) -> pd.DataFrame:
    """Decide every claim whose scope is in `scopes`; in COLUMNS, in the order of the claims.

    claims: as in config/claims.yaml. InputError for a claim with missing or unknown keys, a
    repeated id, an unknown test, parameters the test does not take, or evidence not at hand, and
    for a scope without claims.
    """
    _check(claims, tests)
    for scope in scopes:
        if not any(claim["scope"] == scope for claim in claims):
            raise InputError(f"claims: no claim has scope '{scope}'; correct the scope's name")
    rows = []
    for claim in claims:
        if claim["scope"] not in scopes:
            continue
        for name in claim["evidence"]:
            if name not in evidence:
                raise InputError(
                    f"claim {claim['id']}: needs the evidence '{name}', which is not given "
                    f"(given: {', '.join(sorted(evidence)) or 'none'}); add it to judge_claims"
                )
        chosen = {name: evidence[name] for name in claim["evidence"]}
        found = tests[claim["test"]](chosen, **claim["parameters"])
        rows.append(
            {name: claim[name] for name in ("id", "scope", "statement", "source", "test")}
            | {name: _short(getattr(found, name)) for name in ("effect", "low", "high")}
            | {name: getattr(found, name) for name in ("unit", "threshold", "verdict", "evidence")}
        )
    return as_table(rows, COLUMNS)


def _check(
    claims: Sequence[Mapping[str, Any]], tests: Mapping[str, Callable[..., Verdict]]
) -> None:
    seen = set()
    for claim in claims:
        name = claim.get("id", "without id")
        if set(claim) != KEYS:
            odd = ", ".join(sorted(set(claim) ^ KEYS))
            raise InputError(f"claim {name}: has missing or unknown keys ({odd}); correct them")
        if name in seen:
            raise InputError(f"claim {name}: stands twice; give each claim its own id")
        seen.add(name)
        if claim["test"] not in tests:
            raise InputError(
                f"claim {name}: unknown test '{claim['test']}'; choose from {', '.join(tests)}"
            )
        try:
            inspect.signature(tests[claim["test"]]).bind({}, **claim["parameters"])
        except TypeError as error:
            raise InputError(
                f"claim {name}: parameters of {claim['test']}: {error}; correct them"
            ) from None


def _short(value: float) -> float:
    return float(f"{value:.4g}")
