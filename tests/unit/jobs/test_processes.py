"""Processes that are one job: how each way to fail ends them all, in one line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contrastdp.errors import InputError
from contrastdp.jobs.processes import run_together

TESTS = Path(__file__).parents[2]
ENTRY = "process_members:act"


@pytest.fixture
def together(tmp_path, monkeypatch):
    """Run processes that each do what is said; `numbers` of those that began."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))

    def run(*whats):
        tasks = [{"rank": r, "what": w, "folder": str(tmp_path)} for r, w in enumerate(whats)]
        run_together(tasks, entry=ENTRY)

    return run


def numbers(folder):
    return [int(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("process*"))]


def alive(number):
    """Whether a process of that number runs; one that has ended but was not asked for does not."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_all_succeed_whatever_they_print(together, tmp_path):
    together("succeed", "print", "succeed")
    assert len(numbers(tmp_path)) == 3


@pytest.mark.parametrize(
    ("whats", "line"),
    [
        (("wait", "fail"), "a.npz: damaged {0}; delete it"),
        (("fail", "wait"), "a.npz: damaged {0}; delete it"),
        (("succeed", "fail"), "a.npz: damaged {0}; delete it"),
        (("lose", "fail slowly"), "a.npz: damaged; delete it"),
        (("wait", "break"), "process 1 of 2 failed (KeyError: 'first line\\nsecond {line}')"),
        (("exit", "wait"), "process 0 of 2 failed (SystemExit: 0)"),
        (("lose", "die"), "process 1 of 2 was ended by SIGKILL"),
        (("die", "wait", "wait"), "process 0 of 3 was ended by SIGKILL"),
    ],
)
def test_one_that_fails_ends_all_with_the_cause(together, tmp_path, whats, line):
    with pytest.raises(InputError) as failed:
        together(*whats)
    assert str(failed.value).startswith(line)
    assert "\n" not in str(failed.value)
    assert not [number for number in numbers(tmp_path) if alive(number)]


def test_one_that_lost_the_others_is_told_where_nothing_else_is_known(together):
    with pytest.raises(InputError, match="process 0 of 2 lost the others"):
        together("lose", "wait")


def test_sigterm_to_any_goes_to_the_first(together):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InputError, match=r"^told to stop$"):
        together("wait for SIGTERM", "tell itself to stop")
    assert signal.getsignal(signal.SIGTERM) == before


def test_no_process_outlives_a_parent_that_is_killed(tmp_path):
    code = (
        "from contrastdp.jobs.processes import run_together\n"
        f"tasks = [{{'rank': r, 'what': 'wait', 'folder': {str(tmp_path)!r}}} for r in range(2)]\n"
        f"run_together(tasks, entry={ENTRY!r})\n"
    )
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "scripts")])
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path})
    wait_for(lambda: len([n for n in numbers_if_written(tmp_path) if n]) == 2)
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(alive(number) for number in numbers(tmp_path)))


def numbers_if_written(folder):
    return [path.read_text(encoding="utf-8") for path in folder.glob("process*")]


def wait_for(condition):
    """Until it holds; an error after a minute."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited for a minute")
