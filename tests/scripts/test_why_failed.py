"""why_failed on the logs that Snakemake writes: a real failure, and texts of those on SLURM."""

import shlex
import textwrap

import pytest

import why_failed as program

HEAD = """\
SNAKEMAKE
=========
  Command: /x/snakemake/__main__.py --cores 1 --config scale=smoke training={"steps": 30, "a": -1} \
--rerun-triggers mtime -- a b
  Snakefile: /x/Snakefile

Select jobs to execute...
"""
JOB = """
[Sat Nov 21 08:59:36 2026]
{indent}rule {rule}:
{indent}    input: in.npz
{indent}    output: results/smoke/{name}.npz, results/smoke/{name}.json
{indent}    log: logs/{name}.log
{indent}    jobid: {number}
{indent}    wildcards: arm=ddim, seed={number}
{indent}    threads: 4
{indent}    resources: tmpdir=<TBD>, mem_mb=32000, runtime=2880, gpu=1
"""
ERROR = """\
[Sat Nov 21 09:00:12 2026]
{indent}Error in rule {rule}:
{indent}    message: {message}
{indent}    jobid: {number}
{indent}    output: results/smoke/{name}.npz, results/smoke/{name}.json
{indent}    log: logs/{name}.log{more} (check log file(s) for error details)
Logfile logs/{name}.log: empty file
"""
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
GROUP = """\
[Sat Nov 21 09:00:12 2026]
    message: Error in group gathering
    log: /x/.snakemake/slurm_logs/group_gathering_1a/33.log (check log file(s) for error details)
    jobs:
        rule gather_attacks:
            jobid: 5
            output: results/smoke/g.npz, results/smoke/g.json
            log: logs/g.log (check log file(s) for error details)
"""


def job(rule, name, number, indent=""):
    return JOB.format(rule=rule, name=name, number=number, indent=indent)


def error(rule, name, number, message="None", more="", indent=""):
    return ERROR.format(
        rule=rule, name=name, number=number, message=message, more=more, indent=indent
    )


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes the newest log and returns what the program says of it."""
    monkeypatch.chdir(tmp_path)

    def write(*parts, name="2026-11-21T09"):
        folder = tmp_path / "log"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.snakemake.log").write_text("".join(parts), encoding="utf-8")
        return program.why_failed(folder, lines=2)

    return write


def test_a_failed_job_shows_its_log_and_how_to_run_it_again(written, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_text("first\nsecond\nthird\n")
    said = written(HEAD, job("train_robust", "a", 3), error("train_robust", "a", 3))
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
        HEAD,
        job("train_robust", "a", 3),
        error("train_robust", "a", 3, SLURM.format(id=1001, state="TIMEOUT")),
        job("train_robust", "a", 3),
        error("train_robust", "a", 3, message, ", slurm/1002.log"),
    )
    assert said.count("train_robust  arm") == 1
    assert "\n  SLURM job 1002: TIMEOUT\n" in said
    assert "1001" not in said
    assert "\n  slurm/1002.log\n    (never written" in said


def test_a_job_that_slurm_refused_is_shown_with_slurms_words(written):
    """The message, from a real refusal, has several lines, the call among them."""
    said = written(
        HEAD, job("train_robust", "a", 3), error("train_robust", "a", 3, message=REFUSED)
    )
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
        ("--configfile a.yaml b.yaml", ["--configfile", "a.yaml", "b.yaml"]),
    ],
)
def test_settings_are_repeated_in_all_forms_of_the_options(written, given, repeated):
    head = HEAD.replace('--config scale=smoke training={"steps": 30, "a": -1}', given)
    assert head != HEAD
    said = written(head, job("train_robust", "a", 3), error("train_robust", "a", 3))
    command = shlex.split(said.partition("again: ")[2])
    assert command[:-2][-len(repeated) :] == repeated


def test_a_job_that_a_later_attempt_finished_is_not_shown(written):
    said = written(
        HEAD,
        job("train_robust", "a", 3),
        error("train_robust", "a", 3),
        job("sample_images", "b", 4),
        error("sample_images", "b", 4),
        job("train_robust", "a", 3),
        "[Sat Nov 21 09:01:12 2026]\nFinished jobid: 3 (Rule: train_robust)\n",
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
        HEAD,
        job("gather_attacks", "g", 5, indent="    "),
        GROUP,
        error("gather_attacks", "g", 5, indent="    "),
    )
    assert "1 failed job(s)" in said
    assert "gather_attacks  arm=ddim, seed=5" in said
    assert "  logs/g.log\n" in said and "/33.log\n" in said
    assert f"SLURM job 33: {state}\n" in said


@pytest.mark.parametrize("indent", ["", "    "])
def test_a_quoted_log_of_another_snakemake_counts_for_nothing(written, indent):
    """SLURM's log holds the output of the Snakemake inside the job, which quotes the step's log."""
    bar = "=" * 80 + "\n"
    inner = error("train_robust", "a", 0).replace(": empty file", f":\n{bar}ValueError: 1\n{bar}")
    said = written(
        HEAD,
        job("train_robust", "a", 3),
        error("train_robust", "a", 3, indent=indent).replace(" empty file", ""),
        textwrap.indent(bar + "SNAKEMAKE\n=========\n", indent),
        textwrap.indent(job("train_robust", "a", 0) + inner, indent),
        textwrap.indent("Finished jobid: 3 (Rule: train_robust)\n" + bar, indent),
        job("sample_images", "b", 4),
        error("sample_images", "b", 4),
    )
    assert "2 failed job(s)" in said
    assert "sample_images  arm=ddim, seed=4" in said


def test_the_newest_run_counts_not_a_dry_run_after_it(written):
    written(HEAD, job("train_robust", "a", 3), error("train_robust", "a", 3), name="2026-01")
    said = written("Assuming unrestricted shared filesystem usage.\n", name="2026-02")
    assert "2026-01" in said and "1 failed job(s)" in said
    said = written(HEAD, job("train_robust", "a", 3), name="2026-03")
    assert said.endswith("2026-03.snakemake.log: 0 failed job(s)")


def test_a_folder_without_runs_is_told_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"^why_failed: .* holds no log of a run"):
        program.why_failed(tmp_path, lines=2)
