"""Put an arm's attack shards together: one evaluation of the whole test split."""

from collections.abc import Mapping, Sequence
from typing import Any

from contrastdp.errors import InputError
from contrastdp.evidence import outcomes as attacked
from contrastdp.files import read_json, write_json
from contrastdp.frames import write_table
from contrastdp.jobs.run import run

IDENTITY = (
    *("arm", "dataset", "seed", "generator", "real"),
    *("synthetic", "trainer", "selection"),
)


def gather_attacks(
    *,
    shards: Sequence[str],
    last: Sequence[str] = (),
    training: str,
    origin: str,
    identity: Mapping[str, Any],
    evaluation: str,
    outcomes: str,
    outcomes_last: str,
) -> None:
    """Write evaluation (JSON: accuracies as fractions) and outcomes (CSV: one row a test image).

    shards: JSON files of attack_shard, which must cover the test split once; last: the same of the
    last checkpoint, attacked alike, for the key `last` and outcomes_last; without, no such key and
    no rows; training: the arm's training.json, copied in; origin: the data set's origin.json;
    identity: the row of arms.tsv and the seed, with the keys of IDENTITY.
    Raises InputError in one line for shards that do not fit together.
    """
    if set(identity) != set(IDENTITY):
        odd = sorted(set(identity) ^ set(IDENTITY))[0]
        raise InputError(f"identity: '{odd}' is missing or unknown; give {', '.join(IDENTITY)}")
    parts = attacked.read_shards(shards)
    images = attacked.join_images(parts)
    last_parts = attacked.read_shards(last) if last else []
    if last_parts:
        attacked.check_alike(last_parts, parts)
    trained, data = read_json(training), read_json(origin)
    network = trained["provenance"]["settings"]["network"] | {"parameters": trained["parameters"]}
    write_table(outcomes, images)
    write_table(outcomes_last, attacked.join_images(last_parts))
    write_json(
        evaluation,
        {name: identity[name] for name in IDENTITY}
        | {
            "n_test": len(images),
            **attacked.summary(parts),
            **({"last": attacked.summary(last_parts)} if last_parts else {}),
            "attack": parts[0][1]["attack"],
            "data": {name: data[name] for name in ("title", "subset", "train", "test")},
            "network": network,
            "training": trained,
            "provenance": attacked.join_provenance(parts) | {"seed": identity["seed"]},
        },
    )


if "snakemake" in globals():
    run(gather_attacks, snakemake)
