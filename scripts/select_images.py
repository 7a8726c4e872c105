"""Choose an arm's synthetic images from its generator's candidates."""

from collections.abc import Sequence

import numpy as np

from contrastdp.data.images import write_image_blocks
from contrastdp.jobs.run import logger, run
from contrastdp.synthesis import selection


def select_images(
    *,
    shards: Sequence[str],
    rule: str,
    synthetic: int,
    candidates: int,
    classes: int,
    real: int,
    seed: int,
    eps: str,
    step_size: str,
    attack_steps: int,
    images: str,
    labeler: str | None = None,
    encoder: str | None = None,
    train: str | None = None,
    device: str = "auto",
) -> None:
    """Choose `synthetic` of the first `candidates` images of the labelled shards and write them.

    rule: 'none' takes the first and needs no torch; those of scoring.RULES take the top K of each
    class by a score, for which labeler, encoder and train are read, as score_candidates says.
    """
    pool = selection.read_candidates(shards, candidates, classes=classes)
    if rule == "none":
        score = np.zeros(candidates, np.float32)
        chosen = selection.first(candidates, synthetic)
    else:
        from contrastdp.synthesis.scoring import RULES, score_candidates

        paths = {"labeler": labeler, "encoder": encoder, "train": train}
        attack = {"eps": eps, "step_size": step_size, "attack_steps": attack_steps}
        score = score_candidates(rule, pool, **paths, **attack, real=real, seed=seed, device=device)
        chosen, short = selection.top_per_class(
            score,
            pool.label,
            classes=classes,
            count=synthetic,
            largest=RULES.about[rule]["largest"],
        )
        for c, missing in short.items():
            logger.info("class %d: %d candidates too few, filled from other classes", c, missing)
    write_image_blocks(
        images,
        pool.images(chosen),
        shape=(len(chosen), *pool.image_shape),
        label=pool.label[chosen],
        index=pool.index[chosen],
        confidence=pool.confidence[chosen],
        score=score[chosen],
        **{name: values[chosen] for name, values in pool.further.items()},
    )


if "snakemake" in globals():
    run(select_images, snakemake)
