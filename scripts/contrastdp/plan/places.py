"""Where the workflow can run: the repository's path, and the folder that gets the results."""

import os
from collections.abc import MutableMapping
from pathlib import Path

from contrastdp.errors import InputError

WRITTEN = (".snakemake", "results")


def check_places(repository: Path, folder: Path) -> None:
    """Raise InputError in one line where no job could run.

    repository: the workflow's own folder; folder: where Snakemake runs, which gets the results.
    """
    if found := [sign for sign in "{}" if sign in str(repository)]:
        raise InputError(
            f"{repository}: Snakemake takes '{found[0]}' in this path for a wildcard; "
            "move the folder, or give it another name"
        )
    for name in WRITTEN:
        place = folder / name
        if os.path.lexists(place) and not place.is_dir():
            raise InputError(f"{place}: is no folder, where one is to be written; move it away")
        if not os.access(place if place.is_dir() else folder, os.W_OK | os.X_OK):
            raise InputError(
                f"{place}: cannot be written; change the permissions, or name another folder by "
                "--directory"
            )


def put_first(folder: str, environment: MutableMapping[str, str]) -> None:
    """Let Python find modules in `folder` first, in all that is started from here."""
    rest = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, rest)))
