"""What the processes of tests of jobs.processes do: no torch, so they start at once."""

import os
import signal
import sys
import time
from pathlib import Path

from contrastdp.errors import InputError
from contrastdp.jobs.processes import Lost, member


def _stop(*_):
    raise InputError("told to stop")


def _act(task):
    """Do what the task says, leaving the process's number in a file."""
    Path(task["folder"], f"process{task['rank']}").write_text(str(os.getpid()), encoding="utf-8")
    what = task["what"]
    if what == "wait for SIGTERM":
        signal.signal(signal.SIGTERM, _stop)
        Path(task["folder"], "ready").touch()
    elif what == "tell itself to stop":
        while not Path(task["folder"], "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
    elif what == "fail slowly":
        time.sleep(0.5)
        raise InputError("a.npz: damaged; delete it")
    elif what == "fail":
        raise InputError("a.npz: damaged {0}; delete it")
    elif what == "break":
        raise KeyError("first line\nsecond {line}")
    elif what == "lose":
        raise Lost("lost the others")
    elif what == "exit":
        sys.exit(0)
    elif what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "print":
        print("a library's words")
        return
    if what != "succeed":
        time.sleep(600)


def act():
    """Be one of the processes."""
    member(_act)
