"""How a script runs as a job: threads, log file, progress, and one line when input is bad."""

import ctypes
import inspect
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from contrastdp.errors import InputError
from contrastdp.files import full_disk
from contrastdp.jobs.gpus import Held, held_gpus
from contrastdp.jobs.kept import Kept, check_owners
from contrastdp.jobs.processes import run_together
from contrastdp.jobs.provenance import content_of

Item = TypeVar("Item")
logger = logging.getLogger("contrastdp")
# By name: it imports torch, which most jobs do without.
PROCESS = "contrastdp.jobs.member:take_part"


def run(function: Callable[..., Any], job: Any) -> None:
    """Run a script's function as a job of Snakemake; job: the `snakemake` that it gives to scripts.

    The function gets the job's named inputs, outputs and parameters as keyword arguments, so one
    that it does not know is a TypeError. An input `needs` only has to be there. What decides no
    result is no parameter, but part of the configuration: `resume_minutes` and `mirror`, for a
    function that takes them.
    """
    own, beside = Path(__file__).resolve().parents[1], _library_beside(function)
    if beside.is_dir() and beside != own:
        sys.exit(
            f"error in {function.__name__}: {own} would run in the place of {beside}; uninstall "
            "the former (pip uninstall contrastdp)"
        )
    arguments = arguments_of(function, job)
    count = job.resources.get("gpu", 0)
    gpus = {"count": count, **job.config["gpus"]} if count else None
    code = arguments.pop("code", "")
    files = {
        "rule": job.rule,
        "settings": {name: value for name, value in job.params.items() if name != "code"},
        "inputs": {name: _listed(paths) for name, paths in job.input.items()},
        "outputs": _listed(list(job.output)) if count else [],
    }
    common = {"log": job.log[0], "threads": job.threads, "code": code, "gpus": gpus}
    execute(function, **common, files=files, **arguments)


def _library_beside(function: Callable[..., Any]) -> Path:
    """Where the library lies in the repository of a script's function."""
    return Path(function.__globals__["__file__"]).resolve().with_name("contrastdp")


def arguments_of(function: Callable[..., Any], job: Any) -> dict[str, Any]:
    """The keyword arguments of run: files as texts or lists of them, parameters as they are."""
    found: dict[str, Any] = {}
    for name, files in (*job.input.items(), *job.output.items()):
        if name in found:
            raise TypeError(f"{name}: names an input and an output")
        found[name] = _listed(files) if isinstance(files, list) else str(files)
    found.pop("needs", None)
    if twice := found.keys() & dict(job.params.items()).keys():
        raise TypeError(f"{', '.join(sorted(twice))}: names a file and a parameter")
    found |= dict(job.params.items())
    taken = inspect.signature(function).parameters.keys()
    if "resume_minutes" in taken:
        found["resume_minutes"] = job.config["resume"]["minutes"]
    if "mirror" in taken:
        found["mirror"] = job.config["mirror"]
    return found


def _listed(files: Any) -> list[str]:
    return list(map(str, files if isinstance(files, list) else [files]))


def execute(
    function: Callable[..., Any],
    *,
    log: str,
    threads: int,
    code: str = "",
    gpus: Mapping[str, Any] | None = None,
    files: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> None:
    """Run `function(**arguments)` as a job: log to `log`, use `threads` threads of the processor.

    code: digest of the script's code, a parameter of every rule so that Snakemake reruns what an
    edit concerns; logged, else unread. gpus: the arguments of held_gpus, of which `count` is what
    the rule asks for; where the machine has GPUs, the job sees those alone that it holds, and all
    of them where gpus is None. A count above 1 means so many processes, each with its own GPU, or
    on the processor where there is none, and its share of the threads; such a function takes
    `group`. files: of Kept, but for the code: inputs are checked, and outputs, where it names some,
    kept, or put back in the place of the work.

    An InputError ends the process with exit status 1 and its one line in log and terminal; any
    other exception leaves its traceback in the log as well. Once the function has returned, the
    process heeds no SIGTERM any more.
    """
    set_up_log(log, mode="w")
    set_up_torch(threads)
    start = time.monotonic()
    logger.info("%s started, code %s", function.__name__, code)
    try:
        if files:
            content = cache(content_of)  # inputs may be large
            check_owners([path for paths in files["inputs"].values() for path in paths], content)
        kept = Kept(code=code, content=content, **files) if files and files["outputs"] else None
        if not (kept and kept.put_back()):
            with _holding(gpus) as held:
                if gpus and gpus["count"] > 1:
                    share = max(threads // gpus["count"], 1)
                    common = {"log": log, "threads": share, "arguments": arguments}
                    _run_processes(function, gpus["count"], held, common)
                else:
                    function(**arguments)
                finish_in_peace()
            if kept:
                kept.keep()
    except InputError as error:
        logger.error("%s", error)
        sys.exit(f"error in {function.__name__}: {error}")
    except BaseException as error:
        if why := full_disk(error):
            logger.error("the disk is full (%s)", why)
            sys.exit(f"error in {function.__name__}: {why}; free some space and run again")
        logger.exception("%s failed", function.__name__)
        raise
    logger.info("%s finished in %.1f s", function.__name__, time.monotonic() - start)


def finish_in_peace() -> None:
    """Ignore SIGTERM from now on: the outputs are written and the state to go on from is gone.

    What is left is the end of the process, which takes a second or more with torch and CUDA;
    ended by a signal then, it would count as failed, and Snakemake delete its outputs.
    """
    if threading.current_thread() is threading.main_thread():  # which alone may set handlers
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _holding(gpus: Mapping[str, Any] | None) -> Iterator[Held]:
    """Hold the job's GPUs, and let CUDA see no others."""
    if not gpus or not gpus["names"]:
        yield Held()
        return
    with held_gpus(**gpus) as held:
        let_see(held.names)
        yield held


def let_see(names: Iterable[str]) -> None:
    """Name the GPUs that CUDA is to see; it looks when it is first used, which is later."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)


# ---------------------------------------------------------------- several processes
def _run_processes(
    function: Callable[..., Any], count: int, held: Held, common: dict[str, Any]
) -> None:
    """Run a script's function in `count` processes, which are one Group."""
    if "group" not in inspect.signature(function).parameters:
        raise InputError(f"gpu {count}: {function.__name__} uses one; ask for gpu 1, and more jobs")
    script = function.__globals__["__file__"]  # Snakemake runs a copy of it
    with tempfile.TemporaryDirectory(prefix="contrastdp-") as meeting:
        common |= {"script": script, "function": function.__name__, "meeting": meeting}
        tasks = [
            common | {"rank": rank, "size": count, "gpu": held.names[rank : rank + 1]}
            for rank in range(count)
        ]
        logger.info("%s runs in %d processes", function.__name__, count)
        run_together(tasks, entry=PROCESS, descriptors=held.descriptors)


# ---------------------------------------------------------------- log and torch
class _Log(logging.FileHandler):
    """A log file whose full disk is one line in the terminal, once: the work goes on."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not (why := full_disk(sys.exc_info()[1])):
            super().handleError(record)
        elif not self._told:
            self._told = True
            print(f"{self.baseFilename}: cannot be written ({why})", file=sys.stderr)


def set_up_log(log: str, mode: str, rank: int = 0) -> None:
    """Log to a file; of the processes of a job, those but the first tell faults alone."""
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    handler = _Log(log, mode=mode, encoding="utf-8")
    who = f" process {rank}:" if rank else ""
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s{who} %(message)s"))
    handler.setLevel(logging.ERROR if rank else logging.INFO)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addHandler(handler)
    warnings.simplefilter("default")


def set_up_torch(threads: int) -> None:
    """Give torch its threads, also where a function imports it later, and let it keep memory."""
    os.putenv("OMP_NUM_THREADS", str(threads))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    # glibc hands freed tensors' pages back and faults them in again at the next step; keeping them
    # makes training steps of small networks up to 30% cheaper. -1 and -3 are M_TRIM_THRESHOLD and
    # M_MMAP_THRESHOLD of malloc.h.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-3, 2**30)
        mallopt(-1, 2**31 - 1)


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items` with a progress bar on a terminal and one line a minute in the log."""
    from tqdm import tqdm

    total = total if total is not None else len(items) if isinstance(items, Sized) else None
    last = time.monotonic()
    bar = tqdm(items, desc=what, total=total, disable=not sys.stderr.isatty(), leave=False)
    for done, item in enumerate(bar):
        if time.monotonic() - last >= 60:
            logger.info("%s: %d of %s", what, done, total if total is not None else "?")
            last = time.monotonic()
        yield item
