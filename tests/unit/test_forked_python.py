"""The forked python of the tests: what it runs differs in nothing but its start."""

import os
import signal
import subprocess
import sys
import time

import pytest
from forked_python import EXECUTABLE, forked_python

PROGRAM = """
import atexit, os, sys
loaded = "sched" in sys.modules
print(sys.argv[1:], os.getcwd(), os.environ.get("A"), sys.path[:2], __name__, sys.stdin.read())
print(sys.executable, sys.dont_write_bytecode, file=sys.stderr)
atexit.register(lambda: print("at exit", loaded))
sys.exit(3)
"""


@pytest.fixture(scope="module")
def python():
    with forked_python("sched") as path:
        yield path


@pytest.fixture
def program(tmp_path):
    (tmp_path / "named").mkdir()
    path = tmp_path / "named" / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.parametrize("module", [False, True])
def test_a_program_runs_as_in_an_interpreter_of_its_own(python, program, tmp_path, module):
    command = ["-m", "named.program", "a b"] if module else [str(program), "a b"]
    environment = {"A": "1", "PYTHONPATH": "/x", EXECUTABLE: sys.executable}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"} if module else {}
    mine, forked = (
        subprocess.run(
            [start, *command], cwd=tmp_path, env=environment, input="x\n", capture_output=True,
            text=True, check=False,
        )
        for start in (sys.executable, python)
    )  # fmt: skip
    assert mine.returncode == forked.returncode == 3
    assert mine.stderr == forked.stderr == f"{sys.executable} {module}\n"
    assert "at exit False" in mine.stdout
    assert forked.stdout == mine.stdout.replace("False", "True")


def test_an_error_is_told_as_ever(python, program, tmp_path):
    program.write_text("raise KeyError('missing')\n")
    done = subprocess.run([python, program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("KeyError: 'missing'\n")


def test_code_on_the_command_line_and_options_take_an_interpreter(python):
    code = "import sys; print(sys.flags.safe_path, 'sched' in sys.modules)"
    done = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True False\n"


def test_signals_go_both_ways(python, program, tmp_path):
    program.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert subprocess.run([python, program], check=False).returncode == -signal.SIGKILL
    number = tmp_path / "number"
    program.write_text(
        "import os, pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        f"part = pathlib.Path({str(tmp_path / 'part')!r})\n"
        f"part.write_text(str(os.getpid()))\npart.rename({str(number)!r})\ntime.sleep(60)\n"
    )
    for act, status in (("terminate", 5), ("kill", -signal.SIGKILL)):
        with subprocess.Popen([python, program]) as process:
            while not number.exists():
                time.sleep(0.01)
            getattr(process, act)()
        assert process.returncode == status
        forked = int(number.read_text())
        number.unlink()
        while runs(forked):
            time.sleep(0.01)


def runs(process):
    """Whether a process of this number has not ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
