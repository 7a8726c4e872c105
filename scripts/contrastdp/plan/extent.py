"""How many jobs arms ask for, counted before Snakemake makes a graph of them."""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass

from contrastdp.errors import InputError

JOBS = 50_000  # the paper's scale has 12,000; the graph of as many takes Snakemake minutes
IMAGES = 100_000_000  # whose labels and places a selection has in memory
A_SHARD = 2  # sampled and labelled
A_NETWORK = 6  # selection, training, evaluation, audit and the like
A_MEASUREMENT = 1


@dataclass(frozen=True)
class Asked:
    """What one arm, or a row of images that are measured alone, asks for.

    seeds: of all its tables; images: what its shards are of, alike for arms that share them, None
    without synthetic images; candidates: images that it chooses from; shards: that hold them;
    attacks: attacked shards of one network; networks: robust ones a seed, 0 where images are
    measured alone.
    """

    seeds: Collection[int]
    images: Hashable
    candidates: int
    shards: int
    attacks: int
    networks: int = 1


def jobs(arms: Mapping[str, Asked]) -> Counter[str]:
    """About how many jobs each arm asks for; shards that arms share count for the one with most."""
    found: Counter[str] = Counter()
    largest: dict[tuple[Hashable, int], tuple[int, str]] = {}
    for arm, asked in arms.items():
        own = asked.attacks + A_NETWORK if asked.networks else A_MEASUREMENT
        found[arm] += len(asked.seeds) * own
        if asked.images is not None:
            for seed in asked.seeds:
                key = asked.images, seed
                largest[key] = max(largest.get(key, (0, arm)), (asked.shards, arm))
    for shards, arm in largest.values():
        found[arm] += shards * A_SHARD
    return found


def check_jobs(arms: Mapping[str, Asked], places: Mapping[str, str]) -> None:
    """Raise InputError where arms ask for more jobs or images than a run can hold.

    places: where each arm's row stands; a twin has none.
    """
    found = jobs(arms)
    if found.total() > JOBS:
        arm, most = found.most_common(1)[0]
        raise InputError(
            f"{places.get(arm, arm)}: about {most:,} jobs would arise, {found.total():,} with all "
            f"rows, and {JOBS:,} are the most; lower synthetic, candidates, images or seeds, or "
            "enlarge sampling.shard or attack.shard"
        )
    for arm, asked in arms.items():
        if asked.candidates > IMAGES:
            raise InputError(
                f"{places.get(arm, arm)}: it chooses from {asked.candidates:,} images, and "
                f"{IMAGES:,} are the most; lower synthetic or candidates"
            )
