"""Several processes as one job: one that fails ends them all, with one line that says why.

The process that starts them, the parent, does no work of its own. It tells each its task on
standard input, which it keeps open, so that they end when it is killed, and each tells on standard
output why it failed.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from contrastdp.errors import InputError

POLL = 0.05
# Seconds for which a process that lost another waits to be ended with the rest, for the cause.
PATIENCE = 5.0
# What a process ends of, the likelier cause first.
CAUSES = ("input", "signal", "defect", "lost")


class Lost(RuntimeError):
    """Another process of the job does not answer: an outcome of its failure, not a cause."""


# ---------------------------------------------------------------- the parent
def run_together(
    tasks: Sequence[Mapping[str, Any]], *, entry: str, descriptors: Sequence[int] = ()
) -> None:
    """Run a process for each task, told as JSON, until all have ended.

    entry: 'package.module:function' that each process calls, which calls `member`; descriptors: of
    open files that the processes hold as well. SIGTERM goes to the first process, which is to end
    by itself. Raises InputError in one line where one fails, once all the others are ended.
    """
    started: list[subprocess.Popen[str]] = []
    with _terminating(started):
        try:
            for task in tasks:
                started.append(_start(entry, descriptors))
                with suppress(BrokenPipeError):  # it has ended, and its status says more
                    print(json.dumps(task), file=started[-1].stdin, flush=True)
            causes = _watch(started)
        finally:
            for process in started:
                process.kill()  # of one that has ended it does nothing
                process.wait()
                for pipe in filter(None, (process.stdin, process.stdout)):
                    with suppress(BrokenPipeError):
                        pipe.close()
    if causes:
        raise InputError(min(causes, key=lambda cause: CAUSES.index(cause[0]))[1])


def _start(entry: str, descriptors: Sequence[int]) -> "subprocess.Popen[str]":
    module, function = entry.split(":")
    folder = str(Path(__file__).parents[2])
    code = f"import sys; sys.path.insert(0, sys.argv[1]); from {module} import {function} as work"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", f"{code}; work()", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        pass_fds=descriptors,
    )


def _watch(started: Sequence["subprocess.Popen[str]"]) -> list[tuple[str, str]]:
    """Wait until all have ended well, or one has not; returns causes and lines of the latter."""
    while True:
        states = [process.poll() for process in started]
        failed = [number for number, state in enumerate(states) if state]
        if failed or None not in states:
            return [_cause(started[n], f"process {n} of {len(started)}") for n in failed]
        time.sleep(POLL)


def _cause(process: "subprocess.Popen[str]", name: str) -> tuple[str, str]:
    """Kind, of CAUSES, and line of what ended a process."""
    if process.returncode < 0:
        number = -process.returncode
        known = {s.value: s.name for s in signal.Signals}
        line = f"{name} was ended by {known.get(number, f'signal {number}')}"
        return "signal", f"{line}; run it again, with more memory where that was short"
    assert process.stdout is not None
    try:
        told = json.loads(process.stdout.read())
        return told["kind"], told["line"].format(name=name)
    except ValueError:
        return "signal", f"{name} ended with status {process.returncode}; its log may say why"


@contextmanager
def _terminating(started: Sequence["subprocess.Popen[str]"]) -> Iterator[None]:
    """Inside the block, SIGTERM is for the first process alone, once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets the main thread alone set handlers
        return
    told: list[bool] = []

    def tell(*_: Any) -> None:
        if started and not told and started[0].poll() is None:
            told.append(True)
            started[0].terminate()

    before = signal.signal(signal.SIGTERM, tell)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


# ---------------------------------------------------------------- one of the processes
def member(work: Callable[[dict[str, Any]], None]) -> NoReturn:
    """Call `work` with the task of this process, then end the process.

    An InputError becomes the job's one line; any other exception a line that names it, its
    traceback being for `work` to log. SIGTERM to any but the first process, task['rank'] 0, goes
    to the parent.
    """
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer to the parent
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, too
    if task["rank"]:
        parent = os.getppid()
        signal.signal(signal.SIGTERM, lambda *_: os.kill(parent, signal.SIGTERM))
    status = 1
    try:
        work(task)
        status = 0
    except Lost as error:
        time.sleep(PATIENCE)
        json.dump({"kind": "lost", "line": f"{{name}} {_escaped(error)}"}, told)
    except InputError as error:
        json.dump({"kind": "input", "line": _escaped(error)}, told)
    except BaseException as error:  # also a SystemExit, which would end this process alone
        line = f"{{name}} failed ({type(error).__name__}: {_escaped(error)[:200]})"
        json.dump({"kind": "defect", "line": f"{line}; its log holds the traceback"}, told)
    told.close()
    sys.stderr.flush()
    # No clearing up: what waits for a process that is gone would wait for ever.
    os._exit(status)


def _escaped(error: BaseException) -> str:
    return " ".join(str(error).split()).replace("{", "{{").replace("}", "}}")


def _end_with_the_parent() -> None:
    sys.stdin.read()  # ends where the parent has ended
    os._exit(1)
