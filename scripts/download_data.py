"""Fetch one archive of a data set: the only step that uses the network."""

from typing import Any

from contrastdp.data.download import fetch_archive
from contrastdp.jobs.run import run


def download_data(
    *,
    dataset: str,
    archive: dict[str, Any],
    mirror: dict[str, Any] | None,
    file: str,
    origin: str,
) -> None:
    """Fetch the archive that the settings `archive` describe, from `mirror` if that is given.

    file: the archive to write; origin: where it comes from, as JSON. A file that is there already
    and has the right checksum is kept, so its download is not repeated when this code changes.
    """
    fetch_archive(file, origin, dataset=dataset, archive=archive, mirror=mirror)


if "snakemake" in globals():
    run(download_data, snakemake)
