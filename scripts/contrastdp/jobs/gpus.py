"""Which GPUs a job has for itself: a lock on one file a GPU, held for as long as the job lives.

The kernel gives a lock back when the last process that holds its file ends, however it ends, so a
job that is killed blocks nothing. Nothing here asks CUDA, which would begin to use a GPU.
"""

import fcntl
import logging
import os
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contrastdp.errors import InputError

NONE = {"", "-1", "NoDevFiles"}
LOCKS = "/tmp"  # where all users of a machine can make files, whatever their own settings
logger = logging.getLogger("contrastdp.jobs.gpus")


@dataclass(frozen=True)
class Held:
    """GPUs of a job as CUDA_VISIBLE_DEVICES names them, and the descriptors of their locks."""

    names: list[str] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)


def visible_gpus(environment: Mapping[str, str], nodes: str | Path = "/dev") -> dict[str, Any]:
    """What held_gpus is to know of this machine: `names` of the NVIDIA GPUs, and `allocation`.

    names: those of CUDA_VISIBLE_DEVICES where it is set, as far as the machine can have them, else
    0, 1, ... for as many GPUs as have a device file in the folder `nodes`. allocation: SLURM's
    number of the job whose GPUs these are, '' where SLURM gave none.
    """
    given = environment.get("CUDA_VISIBLE_DEVICES")
    count = sum(path.name[6:].isdigit() for path in Path(nodes).glob("nvidia*"))
    if given is None:
        return {"names": [str(number) for number in range(count)], "allocation": ""}
    hidden = Path(nodes, "dxg").exists()  # WSL2, where GPUs have no files of their own
    names = []
    for name in (part.strip() for part in given.split(",")):
        if name in NONE or not (hidden or (int(name) < count if name.isdecimal() else count)):
            break  # CUDA, too, reads no further
        names.append(name)
    return {"names": names, "allocation": environment.get("SLURM_JOB_ID", "")}


@contextmanager
def held_gpus(
    names: Sequence[str],
    count: int,
    *,
    locks: str | Path,
    allocation: str = "",
    pause: float = 1.0,
) -> Iterator[Held]:
    """Hold `count` of the GPUs `names` inside the block, no other job any of them.

    locks: folder of the lock files, the same for all jobs of the machine; allocation: as of
    visible_gpus. Where other jobs hold too many, it takes none, says so in the log and tries again
    about every `pause` seconds. Where SLURM gave no more GPUs than `count`, they are this job's
    anyway, and no lock is taken. Raises InputError where there are fewer than `count`, and where
    a lock file cannot be opened.
    """
    if count > len(names):
        raise InputError(
            f"gpu {count}: this machine has {len(names)} ({', '.join(names)}); ask for fewer, "
            "or name more in CUDA_VISIBLE_DEVICES"
        )
    if allocation and count == len(names):
        yield Held(list(names))
        return
    files = {name: Path(locks) / _file(name, allocation) for name in names}
    held = _taken(files, count)
    if len(held.names) < count:
        logger.info("waits for %d of the GPUs %s, which other jobs hold", count, ", ".join(names))
    while len(held.names) < count:
        # all or none, and not in step: else two jobs could each wait for what the other has
        time.sleep(pause * random.uniform(0.5, 1.5))
        held = _taken(files, count)
    try:
        yield held
    finally:
        _give_back(held)


def _file(name: str, allocation: str) -> str:
    scope = f"slurm{allocation}-" if allocation else ""
    return f"contrastdp-gpu-{scope}{re.sub(r'[^A-Za-z0-9.-]', '_', name)}.lock"


def _taken(files: Mapping[str, Path], count: int) -> Held:
    """Locks on the first `count` files that are free; on none where there are fewer."""
    held = Held()
    for name, path in files.items():
        if len(held.names) == count:
            break
        descriptor = _opened(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        held.names.append(name)
        held.descriptors.append(descriptor)
    if len(held.names) < count:
        _give_back(held)
        return Held()
    return held


def _give_back(held: Held) -> None:
    """Close this process's descriptors; a child that has them keeps the locks until it ends."""
    for descriptor in held.descriptors:
        os.close(descriptor)


def _opened(path: Path) -> int:
    """A descriptor of a lock file, made where there is none; another user's will do."""
    try:
        try:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            os.fchmod(descriptor, 0o644)  # whatever the umask, for other users' jobs
            return descriptor
    except OSError as error:
        raise InputError(
            f"{path}: the lock of a GPU cannot be opened ({error.strerror}); remove it, or let its "
            "owner do so"
        ) from None
