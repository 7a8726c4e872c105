"""How a script runs as a job: threads, log file, progress, and one line when input is bad."""

import ctypes
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from contrastdp.records import InputError

Item = TypeVar("Item")
logger = logging.getLogger("contrastdp")


def run(
    function: Callable[..., Any], *, log: str, threads: int, code: str = "", **arguments: Any
) -> None:
    """Run `function(**arguments)` as a job: log to `log`, use `threads` threads of the processor.

    code: digest of the script's code, a parameter of every rule so that Snakemake reruns what an
    edit concerns; logged, else unread.

    An InputError ends the process with exit status 1 and its one line in log and terminal; any
    other exception leaves its traceback in the log as well.
    """
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(log, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addHandler(handler)
    warnings.simplefilter("default")
    _set_up_torch(threads)
    start = time.monotonic()
    logger.info("%s started, code %s", function.__name__, code)
    try:
        function(**arguments)
    except InputError as error:
        logger.error("%s", error)
        sys.exit(f"error in {function.__name__}: {error}")
    except BaseException:
        logger.exception("%s failed", function.__name__)
        raise
    logger.info("%s finished in %.1f s", function.__name__, time.monotonic() - start)


def _set_up_torch(threads: int) -> None:
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

    total = total if total is not None else len(items) if hasattr(items, "__len__") else None
    last = time.monotonic()
    bar = tqdm(items, desc=what, total=total, disable=not sys.stderr.isatty(), leave=False)
    for done, item in enumerate(bar):
        if time.monotonic() - last >= 60:
            logger.info("%s: %d of %s", what, done, total if total is not None else "?")
            last = time.monotonic()
        yield item
