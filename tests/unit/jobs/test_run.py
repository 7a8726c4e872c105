"""A job tells bad input in one line, and anything else with its traceback."""

import logging
import signal
import subprocess
import sys
import warnings

import pytest

from contrastdp.errors import InputError
from contrastdp.jobs.run import arguments_of, execute, logger, run, track


@pytest.fixture(autouse=True)
def restored():
    """Handlers, warnings and filters as they were: execute() sets them for a process of its own."""
    handlers, filters = list(logger.handlers), list(warnings.filters)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    logger.handlers = handlers
    logging.captureWarnings(False)
    warnings.filters[:] = filters


def text(log):
    return log.read_text(encoding="utf-8")


def test_a_job_logs_its_beginning_and_end(tmp_path):
    done = []
    log = tmp_path / "logs" / "work.log"

    def work(*, number):
        done.append(number)

    execute(work, log=str(log), threads=1, code="abc", number=3)
    assert done == [3]
    assert "work started, code abc" in text(log)
    assert "work finished" in text(log)


def test_bad_input_is_one_line_in_log_and_terminal(tmp_path):
    log = tmp_path / "work.log"

    def work():
        raise InputError("a.npz: damaged; delete it")

    with pytest.raises(SystemExit) as stopped:
        execute(work, log=str(log), threads=1)
    assert stopped.value.code == "error in work: a.npz: damaged; delete it"
    assert text(log).count("a.npz: damaged; delete it") == 1
    assert "Traceback" not in text(log)


def test_a_defect_leaves_its_traceback(tmp_path):
    log = tmp_path / "work.log"

    def work():
        raise KeyError("defect")

    with pytest.raises(KeyError):
        execute(work, log=str(log), threads=1)
    assert "Traceback" in text(log)
    assert "KeyError: 'defect'" in text(log)


def test_a_misspelt_setting_is_an_error(tmp_path):
    def work(*, beta):
        return beta

    with pytest.raises(TypeError, match="betaa"):
        execute(work, log=str(tmp_path / "w.log"), threads=1, betaa=6)


def test_progress_passes_every_item_on():
    assert list(track(range(5), "steps")) == [0, 1, 2, 3, 4]
    assert list(track(iter("ab"), "letters", total=2)) == ["a", "b"]


# ---------------------------------------------------------------- SIGTERM after the work
ENDING = """
import sys, time
from contrastdp.jobs.run import execute
from contrastdp.jobs.resume import Resume

def work(*, state):
    with Resume(state, key={}, seconds=3600.0) as resume:
        resume.save(1, {}, {})

execute(work, log=sys.argv[1] + "/a.log", threads=1, state=sys.argv[1] + "/.a.resume.pt")
print("done", flush=True)
time.sleep(1)  # as the end of a process does that has used torch and CUDA
"""


def test_sigterm_once_the_work_is_done_does_not_make_it_fail(working_python, tmp_path):
    """Its state is gone then: Snakemake would delete the outputs, and all begin anew."""
    program = tmp_path / "program.py"
    program.write_text(ENDING)
    command = [working_python, program, tmp_path]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    ) as process:
        assert process.stdout.readline() == "done\n"
        assert not (tmp_path / ".a.resume.pt").exists()
        process.terminate()
        assert process.wait() == 0


def test_sigterm_ends_a_job_that_failed(tmp_path):
    def work():
        raise InputError("bad")

    with pytest.raises(SystemExit):
        execute(work, log=str(tmp_path / "a.log"), threads=1)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# ---------------------------------------------------------------- as a job of Snakemake
class Job:
    """What Snakemake gives a script, as far as it is read."""

    def __init__(self, inputs, outputs, params):
        self.input, self.output, self.params = inputs, outputs, params
        self.config = {"resume": {"minutes": 10}, "mirror": None}


def test_a_function_gets_files_and_parameters_by_name():
    def work(*, shards, model, table, classes):
        """Takes neither minutes nor a mirror."""

    inputs = {"shards": ["a", "b"], "model": "m", "needs": ["page"]}
    job = Job(inputs, {"table": "t"}, {"classes": 3, "code": "abc"})
    wanted = {"shards": ["a", "b"], "model": "m", "table": "t", "classes": 3, "code": "abc"}
    assert arguments_of(work, job) == wanted


def test_what_decides_no_result_comes_from_the_configuration_where_it_is_taken():
    def fetch(*, file, mirror):
        """Takes a mirror."""

    def train(*, model, resume_minutes=None):
        """Takes minutes."""

    assert arguments_of(fetch, Job({}, {"file": "f"}, {})) == {"file": "f", "mirror": None}
    assert arguments_of(train, Job({}, {"model": "m"}, {}))["resume_minutes"] == 10


@pytest.mark.parametrize(
    "job", [Job({"a": "x"}, {"a": "y"}, {}), Job({"a": "x"}, {}, {"a": 1})], ids=["files", "params"]
)
def test_a_name_that_is_given_twice_is_a_defect(job):
    with pytest.raises(TypeError, match="a: names"):
        arguments_of(lambda *, a: None, job)


def test_a_copy_of_the_library_beside_the_script_is_the_one_that_runs(tmp_path):
    """Where another one was imported, as from site-packages, the job is refused in one line."""
    (tmp_path / "contrastdp").mkdir()
    script = tmp_path / "make_table.py"
    script.write_text("def make_table(): ...\n", encoding="utf-8")
    found = {"__file__": str(script)}
    exec(script.read_text(encoding="utf-8"), found)
    with pytest.raises(SystemExit) as error:
        run(found["make_table"], None)
    assert str(error.value).startswith("error in make_table: ")
    assert f"would run in the place of {tmp_path / 'contrastdp'}; uninstall" in str(error.value)
