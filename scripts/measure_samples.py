"""Measure a generator's labelled images: their features, their labels, and what they copy."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from contrastdp.data.images import read_images, read_records
from contrastdp.data.tensors import draw_subset
from contrastdp.files import write_json
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.provenance import provenance
from contrastdp.jobs.run import run
from contrastdp.networks.checkpoint import load_network
from contrastdp.networks.execution import precision_of
from contrastdp.streams import derive_seed
from contrastdp.synthesis import quality
from contrastdp.synthesis.selection import read_candidates


def measure_samples(
    *,
    shards: Sequence[str],
    train: str,
    test: str,
    encoder: str,
    labeler: str,
    identity: Mapping[str, Any],
    settings: Mapping[str, int],
    measures: str,
    device: str = "auto",
) -> None:
    """Write the metrics of a generator's images, and of real ones beside them, as JSON.

    identity: dataset, generator, real and seed; settings: images (at most so many of each set),
    neighbours and groups, as quality.measure says. All are held against the test split, by which
    nothing is chosen. Rows: 'synthetic', the first images by index; 'training', the `real` images
    that the models were trained on; 'unseen', others of the training split. Too small ones lack.
    """
    place, limit = resolve(device), settings["images"]
    networks = {"encoder": load_network(encoder, place), "labeler": load_network(labeler, place)}
    classes = networks["encoder"].settings["classes"]
    count = min(limit, sum(read_records(path)[1][0] for path in shards))
    pool = read_candidates(shards, count, classes=classes)
    synthetic = np.concatenate(list(pool.images(np.arange(count))))
    real, test_images = (read_images(path, classes=classes) for path in (train, test))
    used = draw_subset(real["label"], identity["real"], derive_seed(identity["seed"], "subset"))
    unseen = np.delete(np.arange(len(real["label"])), used)

    def some(data: dict[str, np.ndarray], among: np.ndarray) -> quality.Images:
        chosen = among[quality.choose(limit, len(among))]
        return quality.see(data["image"][chosen], data["label"][chosen], **networks)

    reference = some(test_images, np.arange(len(test_images["label"])))
    training = quality.flat(real["image"][used])
    how = {name: settings[name] for name in ("neighbours", "groups")}
    measure = partial(quality.measure, heldout=reference, **how)
    found = {"synthetic": measure(quality.see(synthetic, pool.label, **networks), training)}
    for name, among, known in (("unseen", unseen, training), ("training", used, None)):
        if len(among) >= 2 * settings["groups"]:
            found[name] = measure(some(real, among), known)
    of_all = {"n_heldout": len(reference), "features": reference.feature.shape[1]}
    how = {"device": str(place), "precision": precision_of(networks["encoder"])}
    made = provenance(seed=identity["seed"], settings=settings, **how)
    content = of_all | {"settings": dict(settings), "rows": found, "provenance": made}
    write_json(measures, dict(identity) | content)


if "snakemake" in globals():
    run(measure_samples, snakemake)
