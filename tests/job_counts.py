"""What Snakemake says it would run."""

import re


def planned(output: str) -> dict[str, int]:
    """Rules and numbers of jobs of a dry run, with their sum as `total`."""
    table = output.split("\ncount")[-1] if "\ncount" in output else output
    found = dict(re.findall(r"^(\w+)\s+(\d+)$", table, flags=re.MULTILINE))
    return {rule: int(count) for rule, count in found.items()}
