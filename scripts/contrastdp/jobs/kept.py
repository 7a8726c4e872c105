"""What a job wrote, kept under a second name: a failed rerun loses nothing, and files have owners.

Snakemake deletes a job's outputs before it runs again, and after it has failed. Its flag `update`
keeps them, but takes them for those of the new settings where the job fails. So a job that runs a
network links what it wrote into a hidden folder beside, with a receipt: what it was made with, and
the digest of each file. By the receipt the outputs are put back, and a file of another job in their
place is refused.
"""

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contrastdp.errors import InputError
from contrastdp.files import read_json, replacing_folder, write_json
from contrastdp.jobs.provenance import content_of, made_with, others

RECEIPT = ".receipt.json"
SHOWN = 12  # digits of a digest in a line
logger = logging.getLogger("contrastdp.jobs.kept")


def check_owners(paths: Sequence[str], content: Callable[[str | Path], str] = content_of) -> None:
    """Raise InputError in one line where a file is not what its job wrote in that place.

    A file or folder without a receipt is taken as it is. content: content_of, or what remembers it.
    """
    known = {folder: _receipts(folder) for folder in {Path(path).parent for path in paths}}
    for path in map(Path, paths):
        for kept, receipt in known[path.parent].items():
            wanted = receipt["files"].get(path.name)
            if wanted is None:
                continue
            advice = f"move it away and run again, or delete {kept} to have it taken as it is"
            if (place := Path(receipt["folder"])) != path.parent:
                raise InputError(f"{path}: is the file of {place / path.name}; {advice}")
            if (found := content(path)) != wanted:
                of = _owner(path, found) or "another file"
                raise InputError(
                    f"{path}: is {of}, not what {receipt['rule']} wrote there (sha256 "
                    f"{found[:SHOWN]}, not {wanted[:SHOWN]}); {advice}"
                )


def _owner(path: Path, content: str) -> str:
    """Whose file it is, where a job wrote it beside or at most four folders above."""
    top = path.parents[min(4, len(path.parents) - 1)]
    for folder in sorted({found.parents[1] for found in top.rglob(f".*.kept/{RECEIPT}")}):
        for receipt in _receipts(folder).values():
            for name, wanted in receipt["files"].items():
                if wanted == content:
                    return f"the file of {folder / name}"
    return ""


def _receipts(folder: Path) -> dict[Path, dict[str, Any]]:
    """The receipts of a folder's files, by the folder that keeps them."""
    found = {kept: _receipt(kept) for kept in sorted(folder.glob(".*.kept"))}
    return {kept: receipt for kept, receipt in found.items() if receipt}


def _receipt(kept: Path) -> dict[str, Any] | None:
    try:
        return read_json(kept / RECEIPT)
    except InputError:  # replaced at this moment, by another job
        return None


class Kept:
    """The second names of a job's outputs: those of 'best.safetensors' lie in '.best.kept'."""

    def __init__(
        self,
        *,
        rule: str,
        code: str,
        settings: Any,
        inputs: Mapping[str, Sequence[str]],
        outputs: Sequence[str],
        content: Callable[[str | Path], str] = content_of,
    ):
        """outputs: files and folders, all in one folder; content: as in check_owners, of inputs.

        The rest is what the job is made with.
        """
        self.rule, self.outputs = rule, [Path(path) for path in outputs]
        self.folder = self.outputs[0].parent / f".{self.outputs[0].stem}.kept"
        contents = {
            name: ",".join(content(Path(path)) for path in paths) for name, paths in inputs.items()
        }
        self.key = made_with(code, settings, contents)

    def put_back(self) -> bool:
        """Put the outputs back where those that are kept were made with the same.

        The log says so, or what else they were made with.
        """
        receipt = _receipt(self.folder)
        if receipt is None or Path(receipt["folder"]) != self.folder.parent:
            return False
        if other := others(receipt["key"], self.key):
            logger.info(
                "%s keeps the earlier outputs (other %s) until this run has succeeded; go back to "
                "what they were made with, and run again to have them again",
                *(self.folder, other),
            )
            return False
        kept = {path: self.folder / path.name for path in self.outputs}
        for path, second in kept.items():
            if not second.exists() or content_of(second) != receipt["files"].get(path.name):
                logger.warning("%s: missing or damaged; all is computed again", second)
                return False
        for path, second in kept.items():
            _link(second, path)
        logger.info(
            "outputs put back from %s, as they were made with the same settings, inputs and code; "
            "delete it to compute them again",
            self.folder,
        )
        return True

    def keep(self) -> None:
        """Keep the outputs in the place of earlier ones; a line in the log where that fails."""
        try:
            with replacing_folder(self.folder) as temporary:
                for path in self.outputs:
                    _link(path, temporary / path.name)
                files = {path.name: content_of(path) for path in self.outputs}
                receipt = {"rule": self.rule, "folder": str(self.folder.parent)}
                write_json(temporary / RECEIPT, receipt | {"files": files, "key": self.key})
        except (OSError, InputError) as error:
            shutil.rmtree(self.folder, ignore_errors=True)  # the receipt of other files
            logger.warning("%s: the outputs cannot be kept (%s)", self.folder, error)


def _link(source: Path, target: Path) -> None:
    """A second name of a file, or of each file of a folder; copies where there are no links."""
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, copy_function=_link_file)
    else:
        _link_file(source, target)


def _link_file(source: str | Path, target: str | Path) -> None:
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
