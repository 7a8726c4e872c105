"""The project's own plan at a scale, read as the workflow reads it."""

from functools import partial
from pathlib import Path

import yaml

from contrastdp.files import read_csv
from contrastdp.plan import experiments

CONFIG = Path(__file__).parents[1] / "config"


def resolved(folder=CONFIG, **command_line):
    """The Plan of a folder of settings, by default the project's."""
    return experiments.plan(
        lambda path: yaml.safe_load(path.read_text(encoding="utf-8")) or {},
        partial(read_csv, delimiter="\t"),
        folder=folder,
        command_line=command_line,
    )


def claims(folder=CONFIG):
    """The claims of claims.yaml."""
    return yaml.safe_load((folder / "claims.yaml").read_text(encoding="utf-8"))["claims"]


class Wildcards(dict):
    """Wildcards of a job as Snakemake gives them: attributes that can be unpacked."""

    __getattr__ = dict.__getitem__


def wildcards(**names):
    """Wildcards of these names, all texts."""
    return Wildcards({name: str(value) for name, value in names.items()})
