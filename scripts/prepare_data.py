"""Split a real data set once into training, validation and test images."""

from contrastdp.datasets import split_dataset
from contrastdp.job import run
from contrastdp.records import write_images


def prepare_data(
    *,
    dataset: str,
    sizes: dict[str, int],
    seed: int,
    train: str,
    validation: str,
    test: str,
) -> None:
    """Write the three splits of `dataset`.

    sizes: images in train, validation and test; train, validation, test: the npz files to write.
    """
    parts = split_dataset(dataset, sizes, seed)
    for path, name in ((train, "train"), (validation, "validation"), (test, "test")):
        write_images(path, **parts[name])


if "snakemake" in globals():
    run(
        prepare_data,
        log=snakemake.log[0],
        threads=snakemake.threads,
        train=snakemake.output.train,
        validation=snakemake.output.validation,
        test=snakemake.output.test,
        **snakemake.params,
    )
