"""Sample the toy of Figures 2, 6 and 7: train its noise predictor, then draw and measure panels."""

from collections.abc import Mapping
from typing import Any

from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.files import write_json
from contrastdp.frames import as_table, write_table
from contrastdp.jobs.provenance import provenance
from contrastdp.jobs.run import run, track
from contrastdp.networks.execution import precision_of
from contrastdp.theory import toy, toy_measures


def sample_toy(
    *,
    points_npz: str,
    measures: str,
    summary: str,
    training: str,
    mixture: Mapping[str, Any],
    schedule: Mapping[str, Any],
    denoiser: Mapping[str, Any],
    classifier: Mapping[str, Any],
    losses: Mapping[str, Mapping[str, Any]],
    readings: Mapping[str, Mapping[str, Any]],
    points: int,
    real: int,
    level: float,
    resamples: int,
    seed: int,
) -> None:
    """Write the points of every panel, its measures a batch, and their summary with intervals.

    denoiser, classifier: settings of train_point_denoiser and train_point_features; losses,
    points, real and the entries of `readings`: as in toy.sample_readings; training:
    JSON of how near the trained predictor is to the exact one.
    """
    scheduler = SubsequenceScheduler(**schedule)
    abar = scheduler.alphas_cumprod
    main = toy.Mixture(**mixture)
    trained, loss = toy.train_point_denoiser(main, abar, seed=seed, **denoiser)
    distance = toy.distance_to_exact(trained, main, abar, seed=seed)
    settings = {"mixture": dict(mixture), "schedule": dict(schedule), "denoiser": dict(denoiser)}
    panels = toy.sample_readings(
        readings,
        trained,
        main,
        scheduler,
        toy.train_point_features(main, seed=seed, **classifier),
        losses=losses,
        points=points,
        real=real,
        seed=seed,
    )
    found = list(track(panels, "toy panels"))
    table = as_table((row for panel in found for row in panel.rows), toy_measures.COLUMNS)
    lines = toy_measures.summarise(table, level=level, resamples=resamples, seed=seed)
    toy_measures.write_points(points_npz, [(p.key, p.points, p.label) for p in found])
    write_table(measures, table, digits="%.6g")
    write_table(summary, lines, digits="%.6g")
    precision = precision_of(trained)
    told = provenance(seed=seed, settings=settings, device="cpu", precision=precision)
    write_json(training, {"loss": loss, "distance": distance, "provenance": told})


if "snakemake" in globals():
    run(sample_toy, snakemake)
