"""The jobs of Snakemake's dry run, read from what it prints."""

import re

JOB = re.compile(r"(?:local)?(?:rule|checkpoint) (\w+):$")
WILDCARDS = re.compile(r" +wildcards: (.*)$")


def planned(text: str) -> list[tuple[str, dict[str, str] | None]]:
    """(rule, wildcards) of each job of a dry run's output; None of a target, which has no file."""
    found: list[list] = []
    for line in text.splitlines():
        if job := JOB.match(line):
            found.append([job[1], None])
        elif found and line.startswith("    output: "):
            found[-1][1] = {}
        elif found and (values := WILDCARDS.match(line)):
            pairs = (pair.partition("=") for pair in values[1].split(", "))
            found[-1][1] = {name: value for name, _, value in pairs}
    return [(rule, wildcards) for rule, wildcards in found]
