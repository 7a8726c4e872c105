"""Split a real data set once into training, validation and test images."""

from contrastdp.data.datasets import split_dataset
from contrastdp.data.download import read_origin
from contrastdp.data.images import write_images
from contrastdp.files import write_json
from contrastdp.jobs.run import run


def prepare_data(
    *,
    dataset: str,
    title: str,
    sizes: dict[str, int | None],
    seed: int,
    archives: dict[str, str],
    origins: list[str],
    train: str,
    validation: str,
    test: str,
    origin: str,
) -> None:
    """Write the three splits of `dataset`, and what they were made from.

    sizes: images in train, validation and test (None: all that are left); archives: downloaded
    files by their name in the settings, and origins: whence each came, in the same order.
    train, validation, test: the npz files to write. origin: the JSON to write; `subset` says that
    an archive is not the canonical one, so results are not those of the data set.
    """
    came_from = [
        read_origin(path, said) for path, said in zip(archives.values(), origins, strict=True)
    ]
    parts = split_dataset(dataset, sizes, seed, archives)
    for path, name in ((train, "train"), (validation, "validation"), (test, "test")):
        write_images(path, **parts[name])
    write_json(
        origin,
        {
            "dataset": dataset,
            "title": title,
            "archives": came_from,
            "subset": not all(said["canonical"] for said in came_from),
            **{name: len(parts[name]["label"]) for name in ("train", "validation", "test")},
        },
    )


if "snakemake" in globals():
    run(prepare_data, snakemake)
