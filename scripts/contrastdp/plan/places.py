"""Where the workflow can run: the repository's path, and the folder that gets the results."""

import os
from pathlib import Path

from contrastdp.errors import InputError

RESULTS = "results"


def check_places(repository: Path, folder: Path, *, dry: bool) -> None:
    """Raise InputError in one line where no job could run.

    repository: the workflow's own folder; folder: where Snakemake runs, which gets `results`; dry:
    nothing is to be written.
    """
    if found := sorted({*"{}"} & {*str(repository)}):
        raise InputError(
            f"{repository}: Snakemake takes '{found[0]}' in its own path for a wildcard; "
            "move or rename the folder"
        )
    results = folder / RESULTS
    if results.exists() and not results.is_dir():
        raise InputError(f"{results}: is a file, where a folder of results belongs; move it away")
    place = results if results.is_dir() else folder
    if not dry and not os.access(place, os.W_OK | os.X_OK):
        raise InputError(
            f"{place}: cannot be written; change its permissions, or name another folder by "
            "--directory"
        )
