"""The program that make calls before Snakemake: what Snakemake answers by a stack is one line."""

import subprocess
import sys

import pytest


@pytest.fixture
def check(root, tmp_path):
    def run(*arguments):
        command = [sys.executable, str(root / "scripts" / "check_command.py"), *arguments]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )

    return run


def test_what_snakemake_can_read_is_passed(check, tmp_path):
    (tmp_path / "mine.yaml").write_text("training: {steps: 3}\n", encoding="utf-8")
    (tmp_path / "mine.json").write_text('{"training":\t{"steps": 3}}', encoding="utf-8")
    given = ("-n", "--configfile", "mine.yaml", "mine.json", "--until", "prepare_data", "all")
    for words in ((), given, ("--config", "scale=smoke", "trace={}", "--", "trace"), ("-h",)):
        done = check(*words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        (None, ("--config", "key"), "'key' has no '='"),
        (None, ("-n", "-C", "training.steps=3", "-q"), """'training={"steps": 3}'"""),
        (None, ("--config=a.b=1",), """'a={"b": 1}'"""),
        (None, ("--configfile", "mine.yaml"), "mine.yaml: no such file; correct --configfile"),
        (None, ("--configfiles", "."), ".: cannot be read (Is a directory)"),
        (b"title: caf\xe9\n", ("--configfile", "mine.yaml"), "mine.yaml, line 1: is not UTF-8"),
        (b"a: [1,\nb: {\n", ("--configfile=mine.yaml",), "mine.yaml: cannot be read"),
        (b'{"a": 1, "a": 2}', ("--configfile", "mine.yaml"), "key 'a' stands in line 1 already"),
        (b"- 1\n", ("--configfile", "mine.yaml"), "mine.yaml: holds a list"),
        (b"", ("--configfile", "mine.yaml"), "mine.yaml: is empty; write 'key: value' lines"),
    ],
)
def test_what_snakemake_cannot_read_is_told_in_one_line(check, tmp_path, content, arguments, words):
    if content is not None:
        (tmp_path / "mine.yaml").write_bytes(content)
    done = check(*arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error in settings: ")
    assert words in line
