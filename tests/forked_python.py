"""A `python` that forks a process which has imported the heavy packages: it starts in no time.

Of what a process costs in these tests, importing torch, diffusers or Snakemake is most. A program
that this `python` runs is a process of its own all the same: its own folder, environment, streams
and exit status, and it imports the library itself. A test of the interpreter or of imports takes
`sys.executable`.
"""

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
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

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
    """Fork for each program that is asked for, until standard input is closed."""
    for name in modules:
        import_module(name)
    gc.freeze()  # what is imported stays shared with the forks
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        print("ready", flush=True)
        answering: set[int] = set()
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if (child := os.fork()) == 0:
                break
            connection.close()
            answering = {other for other in answering if os.waitpid(other, os.WNOHANG)[0] == 0}
            answering.add(child)
        else:
            for child in answering:
                os.waitpid(child, 0)
            os._exit(0)  # taking torch down takes seconds
    _answer(connection)


def _answer(connection: socket.socket) -> None:
    """Run a program in a fork: pass signals on to it, send its status, kill it with who asked."""
    request, streams, _, _ = socket.recv_fds(connection, LONGEST, 3)
    child = os.fork()
    if child == 0:
        connection.close()
        _become(streams, **json.loads(request))
        return
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if select.select([connection], [], [], 0.02)[0]:
            told = connection.recv(1)
            os.kill(child, told[0] if told else signal.SIGKILL)
            if not told:
                os.waitpid(child, 0)
                os._exit(0)
    connection.sendall(json.dumps(os.waitstatus_to_exitcode(ended[1])).encode())
    os._exit(0)


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
