"""Where the workflow can run, and whether what its settings name is there."""

import os
import re
from collections.abc import MutableMapping
from pathlib import Path

from contrastdp.errors import InputError

WRITTEN = (".snakemake", "results")
ON_THE_HUB = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")  # a name or owner/name


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


def named_file(path: str | Path, where: str) -> str:
    """A file or folder that a setting names; InputError where there is none."""
    if not Path(path).exists():
        raise InputError(f"{where} is '{path}': no such file or folder; correct the setting")
    return str(path)


def named_model(source: str, where: str) -> list[str]:
    """The folder of a pretrained model, none where `source` can be a name on the Hugging Face Hub.

    A relative one starts where Snakemake runs. Raises InputError in one line for a folder that is
    not there.
    """
    if Path(source).is_dir():
        return [os.path.normpath(source)]
    owner = source.partition("/")[0]
    if ON_THE_HUB.fullmatch(source) and not Path(owner).exists():
        return []
    raise InputError(
        f"{where} is '{source}': no such folder in {Path.cwd()}; correct the setting, or save the "
        "model there"
    )


def put_first(folder: str, environment: MutableMapping[str, str]) -> None:
    """Let Python find modules in `folder` first, in all that is started from here."""
    rest = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, rest)))
