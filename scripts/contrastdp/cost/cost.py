"""What a run will cost: seconds of each rule from the work of its jobs and a throughput.

A throughput is a JSON file. Measured: {device, machine, start, entries}, an entry being kind,
model, options, batch, flops and seconds of an image. Assumed: {device, start, peak, utilisation},
with peak FLOP/s by precision and what share of it is reached [low, likely, high]. start: seconds
until a job of a network has imported what it needs. An estimate is (low, likely, high).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contrastdp.cost.workload import Stored, Work, canonical
from contrastdp.errors import InputError
from contrastdp.networks.execution import PRECISIONS

Range = tuple[float, float, float]
FlopsOf = Callable[[str, str, str], int]
BASES = ("measured", "scaled", "recorded", "assumed")
REPEATS = (0.8, 1.0, 1.25)  # a measurement of the same passes on another day
ENTRY = ("kind", "model", "options", "batch", "flops", "seconds")
LIGHT = (1.0, 5.0, 30.0)  # ASSUME: seconds of a job without a network
# The way of an image through the rules: no job waits for another of its own stage. Rules that are
# in none (tables, figures, section 3) may wait for each other.
STAGES = (
    ("download_data",),
    ("prepare_data",),
    ("train_classifier", "train_time_classifier", "train_diffusion"),
    ("sample_images", "measure_gradients", "picture_gradients"),
    ("label_images", "measure_samples", "measure_generator"),
    ("select_images",),
    ("train_robust",),
    ("attack_shard", "attack_last", "audit_network", "validate_network", "extract_features"),
    ("gather_attacks",),
)


@dataclass
class RuleCost:
    """Sums over a rule's jobs; longest: likely seconds of its longest one; by: seconds by basis."""

    rule: str
    jobs: int = 0
    flops: float = 0.0
    seconds: Range = (0.0, 0.0, 0.0)
    bytes: float = 0.0
    longest: float = 0.0
    network: bool = False
    by: dict[str, float] = field(default_factory=dict)

    @property
    def basis(self) -> str:
        """How most of its likely seconds are known."""
        return max(self.by, key=self.by.__getitem__)


def check_throughput(throughput: Mapping[str, Any], where: str) -> None:
    """Raises InputError for a throughput that is neither measured nor assumed."""
    keys = throughput.keys() if isinstance(throughput, Mapping) else set()
    measured = keys >= {"device", "start", "entries"}
    assumed = keys >= {"device", "start", "peak", "utilisation"}
    if assumed:
        peak, share = throughput["peak"], throughput["utilisation"]
        assumed = isinstance(peak, Mapping) and peak.keys() >= set(PRECISIONS)
        assumed = assumed and isinstance(share, Sequence) and len(share) == 3
    if not measured and not assumed:
        raise InputError(
            f"{where}: no measured or assumed throughput; docs/scaling.md has the format"
        )
    for entry in throughput.get("entries", []):
        if not isinstance(entry, Mapping) or not entry.keys() >= set(ENTRY):
            raise InputError(f"{where}: an entry lacks one of {', '.join(ENTRY)}; measure anew")
        if not all(entry[name] > 0 for name in ("flops", "seconds", "batch")):
            raise InputError(f"{where}: an entry of '{entry['kind']}' is not above 0; measure anew")


def with_assumed(
    throughput: Mapping[str, Any], *, flops: float | None, utilisation: float | None
) -> dict[str, Any]:
    """A throughput with a given peak (FLOP/s) and likely utilisation in the place of its own.

    The utilisation lies between half of what is given and twice that. Raises InputError for values
    out of range, and for a utilisation of one without peak.
    """
    found = dict(throughput)
    if flops is not None:
        if not 0 < flops < math.inf:
            raise InputError(f"--flops {flops:g}: give FLOP/s above 0")
        found = {"utilisation": [0.15, 0.3, 0.5]} | found | {"device": "given FLOP/s"}
        found["peak"] = dict.fromkeys(PRECISIONS, flops)
    if utilisation is not None:
        if not 0 < utilisation <= 1:
            raise InputError(f"--utilisation {utilisation:g}: give a share above 0, at most 1")
        if "peak" not in found:
            raise InputError("--utilisation: the throughput is measured seconds; give --flops, too")
        found["utilisation"] = [utilisation / 2, utilisation, min(2 * utilisation, 1.0)]
    return found


def shares(text: str) -> Range:
    """Three rising shares such as '0.4,0.7,1'; InputError for anything else."""
    try:
        low, likely, high = map(float, text.split(","))
    except ValueError:
        low = likely = high = math.nan
    if not 0 <= low <= likely <= high <= 1:
        raise InputError(f"--robust {text}: give three rising shares from 0 to 1, as 0.4,0.7,1")
    return low, likely, high


def seconds_per_image(
    work: Work, throughput: Mapping[str, Any], flops_of: FlopsOf
) -> tuple[Range, str]:
    """Seconds of one image through a pass, and how they are known.

    'measured': the same passes of the same network, at the nearest batch; 'scaled': by FLOPs, from
    the entry of the same kind that is nearest in FLOPs an image, between the fastest and the
    slowest entry; 'assumed': FLOPs over peak times utilisation. Raises InputError for a throughput
    without entries.
    """
    flops = flops_of(work.kind, work.model, work.options)
    if "peak" in throughput:
        precision = "bfloat16" if "bfloat16" in work.options else "float32"
        low, likely, high = throughput["utilisation"]
        peak = throughput["peak"][precision]
        return (flops / peak / high, flops / peak / likely, flops / peak / low), "assumed"
    entries = throughput["entries"]
    if not entries:
        raise InputError("throughput: holds no entry; measure anew")
    same = [
        entry
        for entry in entries
        if (entry["kind"], canonical(entry["model"]), canonical(entry["options"]))
        == (work.kind, work.model, work.options)
    ]
    if same:
        found = min(same, key=lambda entry: abs(math.log(entry["batch"] / work.batch)))
        return tuple(factor * found["seconds"] for factor in REPEATS), "measured"
    alike = [entry for entry in entries if entry["kind"] == work.kind] or entries
    nearest = min(alike, key=lambda entry: abs(math.log(entry["flops"] / flops)))
    rates = [entry["flops"] / entry["seconds"] for entry in entries]
    likely = flops * nearest["seconds"] / nearest["flops"]
    return (flops / max(rates), likely, flops / min(rates)), "scaled"


def cost_of_jobs(
    jobs: Iterable[tuple[str, Sequence[Work], Stored]],
    throughput: Mapping[str, Any],
    *,
    flops_of: FlopsOf,
    parameters_of: Callable[[str], int],
    earlier: Mapping[str, float],
    robust_share: Range,
) -> list[RuleCost]:
    """Costs by rule, in the order of their first jobs.

    jobs: (rule, its work, what it stores), one each; flops_of: of (kind, model, options), an
    image's; parameters_of: of a model; earlier: rule -> seconds of a job without work in an
    earlier run; robust_share: of the images, how many an attack has left to the next one.
    """
    found: dict[str, RuleCost] = {}
    for rule, works, stored in jobs:
        cost = found.setdefault(rule, RuleCost(rule))
        parts: list[tuple[Range, str]] = []
        for work in works:
            each, basis = seconds_per_image(work, throughput, flops_of)
            shares = robust_share if work.robust else (1.0, 1.0, 1.0)
            images = [share * work.images for share in shares]
            parts.append((_range(a * b for a, b in zip(each, images, strict=True)), basis))
            cost.flops += images[1] * flops_of(work.kind, work.model, work.options)
        if works:
            cost.network = True
            known = "assumed" if "peak" in throughput else "measured"
            parts.append((_range(factor * throughput["start"] for factor in REPEATS), known))
        elif rule in earlier:
            parts.append((_range(factor * earlier[rule] for factor in REPEATS), "recorded"))
        else:
            parts.append((LIGHT, "assumed"))
        taken = [sum(values) for values in zip(*(part for part, _ in parts), strict=True)]
        cost.jobs += 1
        cost.seconds = _range(a + b for a, b in zip(cost.seconds, taken, strict=True))
        cost.longest = max(cost.longest, taken[1])
        cost.bytes += stored.image_bytes
        cost.bytes += sum(4 * copies * parameters_of(model) for model, copies in stored.networks)
        for part, basis in parts:
            cost.by[basis] = cost.by.get(basis, 0.0) + part[1]
    return list(found.values())


def _range(values: Iterable[float]) -> Range:
    low, likely, high = values
    return low, likely, high


def wall_time(costs: Sequence[RuleCost], workers: int) -> tuple[float, float]:
    """Bounds of the likely elapsed seconds on `workers` GPUs (or cores), a job on each.

    No order takes less than the work shared out evenly, T / w, nor than the longest job; no greedy
    order more than T / w + (1 - 1 / w) C, C being the longest chain of jobs (Graham 1969). C is
    bounded from above by the longest job of each of STAGES and of each rule beside them. Raises
    InputError for fewer than one worker.
    """
    if workers < 1:
        raise InputError(f"{workers} workers: give 1 or more")
    total = sum(cost.seconds[1] for cost in costs)
    longest = {cost.rule: cost.longest for cost in costs}
    chain = sum(max(longest.pop(rule, 0.0) for rule in stage) for stage in STAGES)
    chain, even = chain + sum(longest.values()), total / workers
    single = max((cost.longest for cost in costs), default=0.0)
    return max(even, single), even + (1 - 1 / workers) * chain


# ---------------------------------------------------------------- in words
def in_words(low: float, high: float) -> str:
    """Two numbers of seconds, as minutes or hours."""
    length, name = _unit(high)
    return f"{low / length:,.1f} to {high / length:,.1f} {name}s"


def _unit(seconds: float) -> tuple[int, str]:
    return (3600, "hour") if seconds >= 5 * 3600 else (60, "minute")


def table(costs: Sequence[RuleCost], unit: str) -> str:
    """The costs as a text table with a sum, the longest rule first; unit: 'GPU' or 'core'."""
    length, name = _unit(sum(cost.seconds[1] for cost in costs))
    head = ("rule", "jobs", "FLOPs", f"{unit}-{name}s", "low", "high", "disk", "known by")
    ordered = sorted(costs, key=lambda c: -c.seconds[1])
    rows = [_cells(cost, cost.rule, length) for cost in ordered]
    total = RuleCost("sum")
    for cost in costs:
        total.jobs, total.flops = total.jobs + cost.jobs, total.flops + cost.flops
        total.bytes += cost.bytes
        total.seconds = _range(a + b for a, b in zip(total.seconds, cost.seconds, strict=True))
        for basis, seconds in cost.by.items():
            total.by[basis] = total.by.get(basis, 0.0) + seconds
    rows = [head, *rows, _cells(total, "sum", length)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([*cells, row[-1]]))
    return "\n".join(lines)


def _cells(cost: RuleCost, name: str, length: int) -> tuple[str, ...]:
    times = (f"{cost.seconds[place] / length:,.1f}" for place in (1, 0, 2))
    shares = {basis: round(100 * s / (sum(cost.by.values()) or 1)) for basis, s in cost.by.items()}
    known = ", ".join(f"{basis} {shares[basis]}%" for basis in BASES if shares.get(basis))
    flops = f"{cost.flops:.1e}" if cost.flops else "-"
    size = f"{cost.bytes / 1e9:,.1f} GB" if cost.bytes >= 5e7 else f"{cost.bytes / 1e6:,.1f} MB"
    return name, str(cost.jobs), flops, *times, size if cost.bytes else "-", known
