"""How near generators come to their training images: cells and captions beside their accuracy."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from contrastdp.errors import InputError
from contrastdp.evidence.statistics import mean_interval
from contrastdp.files import check_numbers, read_json
from contrastdp.frames import number

DISTANCES = ("nearest", "nearest_heldout")
COLUMNS = number("nearest_mean", "nearest_heldout_mean")
HEADER = "Nearest training image"
Key = tuple[str, str, int, int]  # data set, generator, real images, seed
Nearest = Mapping[Key, Mapping[str, Any]]


def read_nearest(paths: Iterable[str]) -> dict[Key, dict[str, Any]]:
    """Read files of measure_samples: by Key the generator's nearest and nearest_heldout.

    Mean Euclidean distances, pixels in [0, 1], to the nearest real image trained on: from the
    generator's images, and from those of the test split. Raises InputError in one line for a file
    that lacks one of these, or is of the generator, number of real images and seed of another.
    """
    found: dict[Key, dict[str, Any]] = {}
    for path in paths:
        content = read_json(path)
        try:
            name = tuple(content[key] for key in ("dataset", "generator", "real", "seed"))
            kept = {key: content["rows"]["synthetic"][key] for key in DISTANCES}
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: lacks {error}; delete it and measure again") from None
        check_numbers(path, kept, DISTANCES)
        if name in found:
            raise InputError(
                f"{path}: generator {name[1]} of {name[2]} real images, seed {name[3]}, was given "
                "twice; give each file once"
            )
        found[name] = kept
    return found


def nearest_cells(nearest: Nearest, arm: Mapping[str, Any]) -> dict[str, float | None]:
    """An arm's cells, keys COLUMNS: means over its seeds, None throughout where nothing was given.

    nearest_mean: of its generator, None without one; nearest_heldout_mean: of the test images, to
    the same real images, which for an arm without generator may be measured with any other's.
    Raises InputError where the arm's generator was not measured in one of its seeds.
    """
    cells: dict[str, float | None] = dict.fromkeys(COLUMNS)
    if not nearest:
        return cells
    measured = []
    for seed in arm["seeds"]:
        alike = {
            generator: content
            for (dataset, generator, real, of), content in nearest.items()
            if (dataset, real, of) == (arm["dataset"], arm["real"], seed)
        }
        if arm["generator"]:
            if arm["generator"] not in alike:
                raise InputError(
                    f"arm {arm['arm']}, seed {seed}: its generator {arm['generator']} of "
                    f"{arm['real']} real images was not measured; run measure_samples first"
                )
            measured.append(alike[arm["generator"]])
        else:
            measured += list(alike.values())[:1]
    if len(measured) == len(arm["seeds"]):
        for key, column in zip(DISTANCES, COLUMNS, strict=True):
            if arm["generator"] or key != "nearest":
                cells[column] = mean_interval([content[key] for content in measured]).mean
    return cells


def sentence(table: pd.DataFrame) -> str:
    """What the column HEADER is, and the distance of test images; '' where no row has it.

    table: with dataset, real and COLUMNS.
    """
    if table["nearest_mean"].isna().all():
        return ""
    measured = table.dropna(subset="nearest_heldout_mean")
    said = []
    for (dataset, real), of in measured.groupby(["dataset", "real"], sort=False):
        values = of["nearest_heldout_mean"]
        ends = dict.fromkeys(f"{value:.2f}" for value in (values.min(), values.max()))
        said.append(f"{' to '.join(ends)} ({dataset}, {real:,} real images)")
    return (
        f"{HEADER}: mean Euclidean distance, pixels in [0, 1], of the generator's first images to "
        "the nearest real image that its models were trained on, mean over seeds; test images, "
        f"which nobody copied, lie at {', '.join(said)}."
    )
