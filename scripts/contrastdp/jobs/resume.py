"""Going on with long work that was killed: its state, in one file beside its outputs.

The file is written whole or not at all, so that a kill at any moment leaves the last good one, and
it is removed once the outputs are written. It goes with one set of settings, images, code and
package versions; on the CPU what comes of it is, bit for bit, what an uninterrupted run gives.
"""

import hashlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from contrastdp.errors import InputError
from contrastdp.files import full_disk, replacing
from contrastdp.jobs.code_digest import code_digest
from contrastdp.jobs.provenance import content_of, made_with, others

SHARE = 0.02
# Of the file. The key leaves out this code, so a state that it cannot read needs a new number.
FORMAT = 1
logger = logging.getLogger("contrastdp.jobs.resume")


class Stopped(InputError):
    """Work that was told to stop: nothing is wrong, but it ends as bad input does."""


class Told(BaseException):
    """SIGTERM amid a batch; like KeyboardInterrupt, no library may catch it as an error."""


class Resume:
    """Keeps the state of a long work in a file, and gives it back to a later run.

    A context manager: inside it SIGTERM asks the work to keep its state and stop at the end of
    a step; where the block ends without an error the file is removed. A training has *parts*, which
    have a state (networks, optimisers, generators, data order), and *values*, which are its own
    (numbers, texts, tensors, and lists and dicts of them). Of work in batches that do not depend on
    each other, such as sampling and attacks, Finished makes the state.
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
        self._told, self._at_once, self._kept, self._unit = False, False, 0, "step"

    def __enter__(self) -> "Resume":
        self._wait(0.0)
        # Python lets the main thread alone set handlers
        in_main = threading.current_thread() is threading.main_thread()
        self._handles = in_main and self._writes
        if self._handles:
            self._before = signal.signal(signal.SIGTERM, self._tell) or signal.SIG_DFL
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None and self._writes:
            self.path.unlink(missing_ok=True)
        if self._handles:
            signal.signal(signal.SIGTERM, self._before)

    def _tell(self, *_: Any) -> None:
        self._told = True
        if self._at_once:
            self._at_once = False
            raise Told

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within, SIGTERM does not wait for the end of a step: it raises Told where it finds us."""
        self._at_once = True
        try:
            if self._told:  # since the last step
                raise Told
            yield
        finally:
            self._at_once = False

    def _wait(self, cost: float) -> None:
        self._next = time.monotonic() + max(self._seconds, cost / self._share)

    # ---------------------------------------------------------------- from the file
    def restore(self, parts: Mapping[str, Any], unit: str = "step") -> tuple[int, dict[str, Any]]:
        """Put the file's state into `parts`; returns the steps done and the values, 0 and {} anew.

        unit: what a step is called. Also sets torch's own random streams. Raises InputError where
        the file is damaged or belongs to something else; the file stays.
        """
        self._unit = unit
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
        logger.info("goes on after %s %d, from %s", unit, self._kept, self.path)
        return self._kept, found["values"]

    def _read(self) -> dict[str, Any]:
        wanted = {"format", "key", "step", "parts", "values", "random", "random_cuda"}
        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch has no type of its own for what is no file of its own
            lines = str(error).splitlines() or [type(error).__name__]
            raise InputError(
                f"{self.path}: damaged or no state to go on from ({lines[0][:100]}); delete it to "
                "start anew"
            ) from None
        if not isinstance(found, dict) or set(found) != wanted:
            raise InputError(f"{self.path}: is no state to go on from; delete it to start anew")
        if found["format"] != FORMAT:
            raise InputError(
                f"{self.path}: state of format {found['format']}, this code reads {FORMAT}; delete "
                "it to start anew, or go back to the code that wrote it"
            )
        if found["key"] != self.key:
            other = others(found["key"], self.key)
            raise InputError(
                f"{self.path}: state of other work (other {other}); delete it to start anew, or go "
                "back to what it was made with"
            )
        return found

    # ---------------------------------------------------------------- into the file
    def due(self) -> bool:
        """Whether the state is to be saved after this step."""
        return self._writes and (self._told or time.monotonic() >= self._next)

    def save(self, step: int, parts: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Write the state after `step` steps; raises Stopped where the work was told to stop.

        Where it cannot be written, as on a full disk, a line in the log says so, the state before
        stays, and the work goes on.
        """
        start = time.monotonic()
        content = {
            "format": FORMAT,
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
        except (OSError, RuntimeError, InputError) as error:  # torch's writer raises the second
            why = full_disk(error) or " ".join(str(error).split())[:100]
            logger.warning(
                "%s: the state after %s %d cannot be written (%s); %s; free some space",
                *(self.path, self._unit, step, why, self._last()),
            )
        self._wait(time.monotonic() - start)
        if self._told:
            raise Stopped(
                f"told to stop after {self._unit} {step} (SIGTERM); {self._last()}; run it again "
                "to go on"
            )

    def _last(self) -> str:
        return f"{self.path} holds {self._unit} {self._kept}" if self._kept else "no state is kept"


class Finished:
    """Batches of a work by name, of which those finished before a kill are not computed again.

    For batches that do not depend on each other: the work runs once more from its start, and each
    of its batches that was finished gives at once what it gave before.
    """

    def __init__(self, resume: Resume | None = None):
        """resume: where the results are kept; without it every batch is computed."""
        self._resume, self._next, self._saved = resume, 0, 0.0
        values = resume.restore({}, unit="batch")[1] if resume else {}
        self._results: list[dict[str, Any]] = values.get("results", [])

    def __call__(self, name: str, function: Callable[..., Any], *given: Any) -> Any:
        """function(*given), tensors and plain values, or what it gave before the kill.

        Tensors that were given back lie on the CPU. Where the work is, beyond the kill, at another
        batch than it was before, as rounding on a GPU may bring about, it goes on without the rest.
        """
        if self._resume is None:
            return function(*given)
        asked = _fingerprint(name, given)
        if self._next < len(self._results):
            found = self._results[self._next]
            if found["of"] == asked:
                self._next += 1
                self._saved += found["seconds"]
                return found["result"]
            logger.warning("%s: is another batch than before; it is computed again", name)
            del self._results[self._next :]
        start = time.monotonic()
        try:
            with self._resume.at_once():
                result = function(*given)
        except Told:
            self._save()
        seconds = time.monotonic() - start
        self._results.append({"of": asked, "result": _owned(result), "seconds": seconds})
        self._next += 1
        if self._resume.due():
            self._save()
        return result

    def clock(self) -> float:
        """A monotonic clock in seconds that counts what batches took before the kill, too."""
        return time.monotonic() + self._saved

    def _save(self) -> None:
        assert self._resume is not None
        self._resume.save(len(self._results), {}, {"results": self._results})


def _fingerprint(name: str, given: tuple[Any, ...]) -> str:
    found = hashlib.sha256(name.encode())
    for value in given:
        if isinstance(value, torch.Tensor):
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
        else:
            found.update(repr(value).encode())
    return found.hexdigest()


def _owned(result: Any) -> Any:
    """The result with tensors on the CPU that are no views: of a view, all would be written."""
    if isinstance(result, torch.Tensor):
        return result.detach().cpu().clone()
    return type(result)(map(_owned, result)) if isinstance(result, list | tuple) else result


@contextmanager
def resuming(
    output: str | Path,
    minutes: float | None,
    *,
    script: str | Path,
    settings: Any,
    writes: bool = True,
    **files: str | Path | Sequence[str] | None,
) -> Iterator[Resume | None]:
    """The Resume of the work that writes `output`, beside it; None where minutes is None.

    Of 'shard0.npz' the state is in '.shard0.resume.pt'. minutes: least time between two states;
    script: whose code, library included, decides the result; settings: whatever else decides it, as
    JSON would take it; writes: as of Resume; files: files and model folders that are read, by name.
    """
    if minutes is None:
        yield None
        return
    contents = {name: content_of(path) for name, path in files.items() if path is not None}
    key = made_with(code_digest(script), settings, contents)
    state = Path(output).with_name(f".{Path(output).stem}.resume.pt")
    with Resume(state, key=key, seconds=60 * minutes, writes=writes) as resume:
        yield resume
