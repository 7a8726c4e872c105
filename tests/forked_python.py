"""A `python` that forks a process which has imported the heavy packages: it starts in no time.

Of what a process costs in these tests, importing torch, diffusers or Snakemake is most. A program
that this `python` runs is a process of its own all the same: its own folder, environment, streams
and exit status, and it imports the library itself. A test of the interpreter or of imports takes
`sys.executable`.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

LONGEST = 1 << 20  # bytes of a request: arguments and environment
EXECUTABLE = "PYTHONEXECUTABLE"  # names what the program is to start Python by


@contextmanager
def forked_python(*modules: str) -> Iterator[str]:
    """The path of a `python` that runs `SCRIPT ...` and `-m MODULE ...` with these imported."""
    with tempfile.TemporaryDirectory() as folder:
        place, python = f"{folder}/socket", Path(folder) / "python"
        command = (
            f'exec "{sys.executable}" -IS "{__file__}" --ask "{place}" "{sys.executable}" "$@"'
        )
        python.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
        python.chmod(0o755)
        serve = [sys.executable, __file__, "--serve", place, *modules]
        with subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdin and server.stdout
            assert server.stdout.readline() == b"ready\n"
            yield str(python)
            server.stdin.close()


def serve(place: str, *modules: str) -> None:
    """Fork for each program that is asked for, until standard input is closed.

    Signals of who asks are passed on to the program, and it is killed with who asks.
    """
    for name in modules:
        import_module(name)
    gc.freeze()  # what is imported stays shared with the forks
    for left in list(weakref.finalize._registry):
        left.atexit = False  # it is this process's
    asked: dict[socket.socket, int] = {}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        print("ready", flush=True)
        ready: list[Any] = []
        while asked or sys.stdin not in ready:
            ready = select.select([listener, sys.stdin, *asked], [], [], 0.02 if asked else None)[0]
            if listener in ready:
                connection, _ = listener.accept()
                request, streams, _, _ = socket.recv_fds(connection, LONGEST, 3)
                asked[connection] = os.fork()
                if asked[connection] == 0:
                    break
                for stream in streams:
                    os.close(stream)
            _attend(asked, ready)
        else:
            os._exit(0)  # taking torch down takes seconds
    for other in asked:
        other.close()
    _end(lambda: _become(streams, **json.loads(request)))


def _attend(asked: dict[socket.socket, int], ready: list[Any]) -> None:
    """Pass signals on to the programs, and the status of those that have ended."""
    for connection, program in list(asked.items()):
        if connection in ready:
            told = connection.recv(1)
            os.kill(program, told[0] if told else signal.SIGKILL)
        ended, status = os.waitpid(program, os.WNOHANG)
        if ended:
            with suppress(BrokenPipeError), connection:
                connection.sendall(json.dumps(os.waitstatus_to_exitcode(status)).encode())
            del asked[connection]


def _become(
    streams: list[int], folder: str, environment: dict[str, str], arguments: list[str]
) -> None:
    for own, given in enumerate(streams):
        os.dup2(given, own)
        os.close(given)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = environment.get(EXECUTABLE, sys.executable)
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in environment
    paths = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:1] = [folder, *paths]
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


def _end(program: Callable[[], None]) -> NoReturn:
    """Run a program and end as an interpreter does, but for taking down all that is imported."""
    status: object = None
    try:
        program()
    except SystemExit as error:
        status = error.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    if not isinstance(status, int | None):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit((status or 0) & 0xFF)


def ask(place: str, python: str, *arguments: str) -> int:
    """Have a program run, and end as it does; what is neither script nor module runs as usual."""
    if arguments[0] != "-m" and not arguments[0].endswith(".py"):
        os.execv(python, [python, *arguments])
    request = {"folder": os.getcwd(), "environment": dict(os.environ), "arguments": arguments}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        signal.signal(signal.SIGTERM, lambda number, _: connection.send(bytes([number])))
        status = json.loads(connection.makefile().read())
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if status < 0:
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(*sys.argv[2:])
    else:
        sys.exit(ask(*sys.argv[2:]))
