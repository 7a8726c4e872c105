"""why_failed on the events that Snakemake gives: a real failure, and those of runs on SLURM."""

import json
import logging
import shlex
import sys

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

import why_failed as program
from snakemake_logger_plugin_jobs import LogHandler, LogHandlerSettings

GIVEN = ["--config", "scale=smoke", 'training={"steps": 30, "a": -1}']
AFTER = ["--rerun-triggers", "mtime", "--", "a", "b"]


SLURM = (
    "SLURM-job '{id}' failed, SLURM status is: '{state}'. Detailed failure reason unavailable "
    "(status command is not 'sacct').For further error details see the cluster/cloud log."
)
REFUSED = """\
SLURM sbatch failed. The error message was 'sbatch: error: Memory specification can not be satisfied
sbatch: error: Batch job submission failed: Requested node configuration is not available'.
    sbatch call:
        sbatch --parsable --comment rule_a -p main --mem 99 --wrap="/x/python -m snakemake --force"
For further error details see the cluster/cloud log and the log files of the involved rule(s)."""


def files(name):
    """As Snakemake has them in an event."""
    output = [f"results/smoke/{name}.npz", f"results/smoke/{name}.json"]
    return {"input": ["in.npz"], "output": output, "log": [f"logs/{name}.log"]}


def job(rule, name, number):
    """A job that starts; rule_msg is its rule's `message`."""
    wildcards = {"arm": "ddim", "seed": str(number)}
    event = {"event": LogEvent.JOB_INFO, "rule_name": rule, "jobid": number, "threads": 4}
    return event | files(name) | {"wildcards": wildcards, "rule_msg": "Does it", "resources": {1}}


def error(rule, name, number, message=None, slurm=None):
    """A job that failed; rule_msg is the executor's, slurm SLURM's number."""
    event = {"event": LogEvent.JOB_ERROR, "rule_name": rule, "jobid": number, "rule_msg": message}
    event |= files(name) | {"aux": {"external_jobid": slurm} if slurm else {}}
    return event | ({"log": [*event["log"], f"slurm/{slurm}.log"]} if slurm else {})


def group_error(slurm, *members):
    log = f"/x/.snakemake/slurm_logs/group_gathering_1a/{slurm}.log"
    event = {"event": LogEvent.GROUP_ERROR, "groupid": "1a", "job_error_info": list(members)}
    return event | {"aux_logs": [log], "external_jobid": slurm}


def finished(number):
    return {"event": LogEvent.JOB_FINISHED, "job_id": number}


def other():
    """An event that is none of the jobs'."""
    return {"event": LogEvent.PROGRESS, "done": 1, "total": 2}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes the newest run's events and returns what the program says of it."""
    monkeypatch.chdir(tmp_path)

    def write(*events, name="2026-11-21T09", given=GIVEN):
        monkeypatch.setattr(sys, "argv", ["/x/snakemake", "--cores", "1", *given, *AFTER])
        folder = tmp_path / "log"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.snakemake.log.jsonl"
        handler = LogHandler(None, LogHandlerSettings(file=str(path)))
        for event in events:
            handler.handle(logging.makeLogRecord(event))
        handler.close()
        return program.why_failed(folder, lines=2)

    return write


def test_a_failed_job_shows_its_log_and_how_to_run_it_again(written, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_text("first\nsecond\nthird\n")
    said = written(job("train_robust", "a", 3), error("train_robust", "a", 3))
    head, _, title, *rest = said.splitlines()
    assert head.endswith("2026-11-21T09.snakemake.log: 1 failed job(s)")
    assert title == "train_robust  arm=ddim, seed=3"
    assert rest[:3] == ["  logs/a.log", "    second", "    third"]
    command = shlex.split(rest[3].removeprefix("  again: "))
    assert command == [
        *("snakemake", "--executor", "local", "--cores", "4", "--force"),
        *("--allowed-rules", "train_robust"),
        *("--config", "scale=smoke", 'training={"steps": 30, "a": -1}'),
        *("--", "results/smoke/a.npz"),
    ]


def test_a_job_of_slurm_shows_its_number_state_and_both_logs(written):
    message = SLURM.format(id=1002, state="TIMEOUT")
    said = written(
        job("train_robust", "a", 3),
        error("train_robust", "a", 3, SLURM.format(id=1001, state="TIMEOUT"), 1001),
        job("train_robust", "a", 3),
        error("train_robust", "a", 3, message, 1002),
    )
    assert said.count("train_robust  arm") == 1
    assert "\n  SLURM job 1002: TIMEOUT\n" in said
    assert "1001" not in said
    assert "\n  slurm/1002.log\n    (never written" in said


def test_a_job_that_slurm_refused_is_shown_with_slurms_words(written):
    """The message, from a real refusal, has several lines, the call among them."""
    said = written(job("train_robust", "a", 3), error("train_robust", "a", 3, message=REFUSED))
    assert "1 failed job(s)\n\ntrain_robust  arm=ddim, seed=3\n" in said
    assert "'sbatch: error: Memory specification can not be satisfied sbatch: error: Batch" in said
    assert "node configuration is not available'.\n" in said
    assert "--parsable" not in said and "cluster/cloud" not in said
    assert "again: " in said and "results/smoke/a.npz" in said


@pytest.mark.parametrize(
    ("given", "repeated"),
    [
        ("-C scale=smoke a=1", ["-C", "scale=smoke", "a=1"]),
        ("--config=scale=smoke", ["--config", "scale=smoke"]),
        ("--configfile=a.yaml", ["--configfile", "a.yaml"]),
        ("-s /p/Snakefile", ["-s", "/p/Snakefile"]),
        ("--snakefile=/p/Snakefile -n", ["--snakefile", "/p/Snakefile"]),
        ("--configfile a.yaml b.yaml", ["--configfile", "a.yaml", "b.yaml"]),
    ],
)
def test_settings_are_repeated_in_all_forms_of_the_options(written, given, repeated):
    said = written(
        job("train_robust", "a", 3), error("train_robust", "a", 3), given=given.split(" ")
    )
    command = shlex.split(said.partition("again: ")[2])
    assert command[:-2][-len(repeated) :] == repeated


def test_a_job_that_a_later_attempt_finished_is_not_shown(written):
    said = written(
        job("train_robust", "a", 3),
        error("train_robust", "a", 3),
        job("sample_images", "b", 4),
        error("sample_images", "b", 4),
        job("train_robust", "a", 3),
        finished(3),
    )
    assert "1 failed job(s)" in said
    assert "sample_images" in said and "train_robust" not in said


ASKED = """\
#!/bin/sh
test "$1 $2" = "{options}" && eval "test \\${$#} = 33" && test "{state}" && echo {state}
"""


@pytest.mark.parametrize(
    ("clients", "state"),
    [
        ({}, "neither squeue nor sacct has its state"),
        ({"squeue": "FAILED"}, "FAILED"),
        ({"squeue": "", "sacct": "CANCELLED by 0"}, "CANCELLED by 0"),
    ],
)
def test_a_group_shows_each_job_and_the_group_s_log(written, tmp_path, monkeypatch, clients, state):
    """Its state is not in Snakemake's log; SLURM is asked, where it is there and knows."""
    for name, answer in clients.items():
        options = {"squeue": "-h --states=all", "sacct": "-Xn -P"}[name]
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(ASKED.replace("{options}", options).replace("{state}", answer))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    said = written(
        job("gather_attacks", "g", 5),
        group_error(33, error("gather_attacks", "g", 5)),
        error("gather_attacks", "g", 5),
    )
    assert "1 failed job(s)" in said
    assert "gather_attacks  arm=ddim, seed=5" in said
    assert "  logs/g.log\n" in said and "/33.log\n" in said
    assert f"SLURM job 33: {state}\n" in said


def test_the_newest_run_counts_not_a_dry_run_after_it(written, tmp_path):
    written(job("train_robust", "a", 3), error("train_robust", "a", 3), name="2026-01")
    # which writes no events
    (tmp_path / "log/2026-02.snakemake.log").write_text("Assuming unrestricted shared filesystem")
    said = program.why_failed(tmp_path / "log", lines=2)
    assert "2026-01" in said and "1 failed job(s)" in said
    said = written(job("train_robust", "a", 3), name="2026-03")
    assert said.endswith("2026-03.snakemake.log: 0 failed job(s)")


def test_a_folder_without_runs_is_told_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"^why_failed: .* holds no log of a run"):
        program.why_failed(tmp_path, lines=2)


def test_a_run_that_was_killed_while_it_wrote_is_read(written, tmp_path):
    written(job("train_robust", "a", 3), error("train_robust", "a", 3))
    with next((tmp_path / "log").iterdir()).open("a", encoding="utf-8") as file:
        file.write('{"event": "job_in')
    assert "1 failed job(s)" in program.why_failed(tmp_path / "log", lines=2)


def test_the_events_are_jobs_alone_and_hold_what_is_read(written, tmp_path):
    written(other(), job("train_robust", "a", 3))
    first, *events = next((tmp_path / "log").iterdir()).read_text(encoding="utf-8").splitlines()
    assert json.loads(first)["words"][3:6] == GIVEN
    assert [json.loads(event)["event"] for event in events] == ["job_info"]
    assert "resources" not in json.loads(events[0])


# ---------------------------------------------------------------- a run of the workflow
def test_a_run_without_options_leaves_what_is_read(workflow_copy, tmp_path, monkeypatch):
    workflow = workflow_copy(tmp_path)
    script = workflow.folder / "scripts" / "prepare_data.py"
    script.write_text("raise SystemExit('broken')\n", encoding="utf-8")
    target = "results/smoke/digits/data/train.npz"
    done = workflow.run("--cores", "1", target, "--config", "scale=smoke")
    assert done.returncode == 1, done.stdout
    monkeypatch.chdir(workflow.folder)
    said = program.why_failed(".snakemake/log", lines=2)
    assert "1 failed job(s)\n\nprepare_data  dataset=digits\n" in said
    assert said.endswith(f" --allowed-rules prepare_data --config scale=smoke -- {target}")
