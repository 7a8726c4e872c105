"""Going on with a killed training: its state, in one file beside its outputs.

The file is written whole or not at all, so that a kill at any moment leaves the last good one, and
it is removed once the outputs are written. It goes with one set of settings, images, code and
package versions; on the CPU what comes of it is, bit for bit, what an uninterrupted run gives.
"""

import hashlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from contrastdp.lineage import code_digest
from contrastdp.records import InputError, digest, replacing, versions

NAME = ".resume.pt"
SHARE = 0.02
logger = logging.getLogger("contrastdp.resume")


class Stopped(InputError):
    """A training that was told to stop: nothing is wrong, but it ends as bad input does."""


class Resume:
    """Keeps the state of a training in a file, and gives it back to a later run.

    A context manager: inside it SIGTERM asks the training to keep its state and stop at the end of
    a step; where the block ends without an error the file is removed. A training has *parts*, which
    have a state (networks, optimisers, generators, data order), and *values*, which are its own
    (numbers, texts, tensors, and lists and dicts of them).
    """

    def __init__(
        self,
        path: str | Path,
        *,
        key: Mapping[str, str],
        seconds: float,
        share: float = SHARE,
        writes: bool = True,
    ):
        """path: of the file; key: digests of all that decides the result, by name.

        seconds: least time between two states, stretched where writing one would take more than
        `share` of the time. writes: whether the file is this process's to write and to remove, and
        SIGTERM its to obey; else it takes up the state and leaves the rest to the one that writes.
        """
        self._writes = writes
        self.path, self.key = Path(path), dict(key)
        self._seconds, self._share = seconds, share
        self._told, self._kept = False, 0

    def __enter__(self) -> "Resume":
        self._wait(0.0)
        # Python lets the main thread alone set handlers
        in_main = threading.current_thread() is threading.main_thread()
        self._handles = in_main and self._writes
        if self._handles:
            self._before = signal.signal(signal.SIGTERM, self._tell) or signal.SIG_DFL
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if self._handles:
            signal.signal(signal.SIGTERM, self._before)
        if kind is None and self._writes:
            self.path.unlink(missing_ok=True)

    def _tell(self, *_: Any) -> None:
        self._told = True

    def _wait(self, cost: float) -> None:
        self._next = time.monotonic() + max(self._seconds, cost / self._share)

    # ---------------------------------------------------------------- from the file
    def restore(self, parts: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Put the file's state into `parts`; returns the steps done and the values, 0 and {} anew.

        Also sets torch's own random streams. Raises InputError where the file is damaged or belongs
        to something else; the file stays.
        """
        for left in self.path.parent.glob(f".{self.path.name}.*") if self._writes else ():
            left.unlink(missing_ok=True)  # of a run that was killed while it wrote
        if not self.path.is_file():
            return 0, {}
        found = self._read()
        for name, part in parts.items():
            put = part.set_state if isinstance(part, torch.Generator) else part.load_state_dict
            put(found["parts"][name])
        torch.set_rng_state(found["random"])
        if found["random_cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(found["random_cuda"])
        self._kept = found["step"]
        logger.info("goes on after step %d, from %s", self._kept, self.path)
        return self._kept, found["values"]

    def _read(self) -> dict[str, Any]:
        wanted = {"key", "step", "parts", "values", "random", "random_cuda"}
        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch has no type of its own for what is no file of its own
            lines = str(error).splitlines() or [type(error).__name__]
            raise InputError(
                f"{self.path}: damaged or not the state of a training ({lines[0][:100]}); delete "
                "it to start anew"
            ) from None
        if not isinstance(found, dict) or set(found) != wanted:
            raise InputError(
                f"{self.path}: is not the state of a training; delete it to start anew"
            )
        if found["key"] != self.key:
            names = sorted(found["key"].keys() | self.key.keys())
            other = [name for name in names if found["key"].get(name) != self.key.get(name)]
            raise InputError(
                f"{self.path}: state of another training (other {', '.join(other)}); delete it to "
                "start anew, or go back to what it was made with"
            )
        return found

    # ---------------------------------------------------------------- into the file
    def due(self) -> bool:
        """Whether the state is to be saved after this step."""
        return self._writes and (self._told or time.monotonic() >= self._next)

    def save(self, step: int, parts: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Write the state after `step` steps; raises Stopped where the training was told to stop.

        Where it cannot be written, as on a full disk, a line in the log says so, the state before
        stays, and the training goes on.
        """
        start = time.monotonic()
        content = {
            "key": self.key,
            "step": step,
            "parts": {
                name: part.get_state() if isinstance(part, torch.Generator) else part.state_dict()
                for name, part in parts.items()
            },
            "values": dict(values),
            "random": torch.get_rng_state(),
            "random_cuda": (torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []),
        }
        try:
            with replacing(self.path) as temporary, open(temporary, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())  # else a machine that fails may leave an empty file
            self._kept = step
        except (OSError, RuntimeError) as error:  # torch's writer raises the latter
            logger.warning(
                "%s: the state after step %d cannot be written (%s); %s; free some space",
                *(self.path, step, " ".join(str(error).split())[:100], self._last()),
            )
        self._wait(time.monotonic() - start)
        if self._told:
            raise Stopped(
                f"told to stop after step {step} (SIGTERM); {self._last()}; run it again to go on"
            )

    def _last(self) -> str:
        return f"{self.path} holds step {self._kept}" if self._kept else "no state is kept"


@contextmanager
def resuming(
    output: str | Path,
    minutes: float | None,
    *,
    script: str | Path,
    settings: Any,
    writes: bool = True,
    **files: str | Path | None,
) -> Iterator[Resume | None]:
    """The Resume of the training that writes `output`, beside it; None where minutes is None.

    minutes: least time between two states; script: whose code, library included, decides the
    result; settings: whatever else decides it, as JSON would take it; files: those read, by name;
    writes: as of Resume.
    """
    if minutes is None:
        yield None
        return
    text = json.dumps(settings, sort_keys=True, default=str)
    packages = json.dumps(versions(), sort_keys=True)
    key = {
        "settings": hashlib.sha256(text.encode()).hexdigest(),
        "code": code_digest(script),
        "package versions": hashlib.sha256(packages.encode()).hexdigest(),
    }
    key |= {name: digest(path) for name, path in files.items() if path is not None}
    with Resume(Path(output).parent / NAME, key=key, seconds=60 * minutes, writes=writes) as resume:
        yield resume
