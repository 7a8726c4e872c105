"""The project's own plan at a scale, read as the workflow reads it."""

import copy
from functools import partial
from pathlib import Path

from contrastdp.files import read_csv
from contrastdp.plan import experiments
from contrastdp.plan.yaml_files import read_yaml

CONFIG = Path(__file__).parents[1] / "config"
READ = {}  # a file's text -> what it holds; reading it again is most of a plan's time


def _reading(path):
    """What read_yaml gives, each text read once."""
    text = path.read_bytes()
    if text not in READ:
        READ[text] = read_yaml(path)
    return copy.deepcopy(READ[text])


def resolved(folder=CONFIG, **command_line):
    """The Plan of a folder of settings, by default the project's."""
    return experiments.plan(
        _reading,
        partial(read_csv, delimiter="\t"),
        folder=folder,
        command_line=command_line,
    )


def claims(folder=CONFIG):
    """The claims of claims.yaml."""
    return _reading(folder / "claims.yaml")["claims"]


class Wildcards(dict):
    """Wildcards of a job as Snakemake gives them: attributes that can be unpacked."""

    __getattr__ = dict.__getitem__


def wildcards(**names):
    """Wildcards of these names, all texts."""
    return Wildcards({name: str(value) for name, value in names.items()})
