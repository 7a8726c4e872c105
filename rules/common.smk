# The plan of this run, wildcards, and what several rules files use; nothing runs here.
import os
import sys
from datetime import datetime
from functools import partial
from pathlib import Path

# The repository, also where another workflow has this one as a module.
BASE = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).resolve().parent

# Before any copy of the library that is installed; Snakemake puts a script's folder last.
sys.path.insert(0, f"{BASE}/scripts")

from contrastdp.errors import InputError
from contrastdp.files import read_csv
from contrastdp.jobs.code_digest import code_digest
from contrastdp.jobs.gpus import LOCKS, visible_gpus
from contrastdp.plan import experiments
from contrastdp.plan.needs import Needs
from contrastdp.plan.pages import Pages, read_claims, read_reported
from contrastdp.plan.paths import Paths
from contrastdp.plan.places import check_places, named_file, put_first
from contrastdp.plan.yaml_files import read_configfile, read_yaml, typed
from snakemake_logger_plugin_jobs import LogHandler, LogHandlerSettings

put_first(f"{BASE}/scripts", os.environ)  # in every job, too


# ---------------------------------------------------------------- settings
try:
    check_places(BASE, Path.cwd())
    # Snakemake has read them, but takes the last of two keys in silence.
    for path in workflow.overwrite_configfiles:
        read_configfile(path)
    PLAN = experiments.plan(
        read_yaml,
        partial(read_csv, delimiter="\t"),
        folder=BASE / "config",
        command_line=typed(dict(config)),
    )
    # What download_data and the long steps read; no parameters, as they decide no result.
    config["mirror"], config["resume"] = PLAN.mirror, PLAN.resume
    THEORY_SETTINGS = experiments.theory(read_yaml, folder=BASE / "config")
    CLAIMS = read_claims(BASE / "config" / "claims.yaml")
    REPORTED = read_reported(BASE / "config" / "reported")
except InputError as error:
    # The line alone: a traceback of this file says nothing to a user.
    sys.exit(f"error in settings: {error}")

PATHS = Paths(PLAN.scale)
NEEDS = Needs(PLAN, PATHS)
PAGES = Pages(PLAN, NEEDS, CLAIMS)

# The GPUs that jobs with the resource `gpu` share out among themselves. No parameter either. A run
# on this machine alone (no executor with nodes) starts no more jobs than it has GPUs for, unless
# --resources says how many.
config["gpus"] = visible_gpus(os.environ) | {"locks": LOCKS}
if config["gpus"]["names"] and workflow.resource_settings.nodes is None:
    if workflow.is_main_process and "gpu" not in workflow.resource_settings.resources:
        workflow.register_resource("gpu", len(config["gpus"]["names"]))


onstart:
    # For why_failed: what happens to the jobs, beside Snakemake's own log. Attached here, as an
    # option of the command or a profile finds a plugin only where it is installed.
    beside = LogHandlerSettings(file=f"{log[-1]}.jsonl")
    logger.addHandler(LogHandler(workflow.output_settings, beside))


wildcard_constraints:
    dataset="|".join(PLAN.datasets),
    classifier="|".join(PLAN.classifiers()),
    denoiser="[a-z0-9_]+",
    generator="|".join(PLAN.generators),
    arm="|".join(PLAN.arms),
    real=r"\d+",
    seed=r"\d+",
    shard=r"\d+",
    image=r"\d+",
    table="|".join(PLAN.tables),
    paper_table="|".join(PLAN.paper_tables()),
    page="|".join(PAGES.names),


def one_of(names):
    """Wildcard constraint: one of these names, or nothing at all where there is none."""
    return "|".join(names) or "(?!)"


# ---------------------------------------------------------------- inputs
def in_repository(path):
    """A file of the repository as an input: relative where Snakemake runs in the repository.

    So neither a move of the repository nor another name of it reruns anything.
    """
    path = BASE / path
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def one_line(function):
    """An input function whose InputError ends the run in its line alone."""

    def value(wildcards):
        try:
            return function(wildcards)
        except InputError as error:
            # what Snakemake catches it tells in ten lines and a traceback
            sys.exit(f"error: {error}")

    return value


def external_images(wildcards):
    """Input function: the file or folder of a generator's images from elsewhere."""
    where = f"config/generators.tsv, {wildcards.generator}: images"
    return named_file(in_repository(PLAN.generators[wildcards.generator]["images"]), where)


def page(table):
    """Input function: a table's page; one line where this scale has no arm of the table."""
    return one_line(lambda wildcards: PAGES.file(table))


# ---------------------------------------------------------------- parameters and resources
def code(rule):
    """Digest of a rule's script and of the library it imports: an edit reruns what it concerns."""
    return code_digest(BASE / "scripts" / f"{rule}.py")


def asked_now(rule):
    """Parameter function: code(rule) and the time, so that the job runs whenever it is asked for.

    A trace checks the files as they are, and prints.
    """
    return lambda wildcards: f"{code(rule)}, asked for at {datetime.now():%Y-%m-%d %H:%M:%S.%f}"


def setting(*path):
    """Parameter function: the data set's setting at `path`."""

    def value(wildcards):
        found = PLAN.datasets[wildcards.dataset]
        for key in path:
            found = found[key]
        return found

    return value


def of_arm(column):
    """Parameter function: a cell of the arm's row."""
    return lambda wildcards: PLAN.arms[wildcards.arm][column]


def identity(wildcards, *names, **more):
    """What a result says of itself: wildcards by their names, the seed as a number, and more."""
    return {name: wildcards[name] for name in names} | {"seed": seed_of(wildcards)} | more


def seed_of(wildcards):
    """Parameter function: the seed, as a number."""
    return int(wildcards.seed)


def image_shape(wildcards):
    """Parameter function: (C, H, W) of the data set."""
    return PLAN.image_shape(wildcards.dataset)


def edge(length, offset):
    """Parameter function: where the wildcard's shard begins (offset 0) or ends (1)."""
    return lambda wildcards: (int(wildcards.shard) + offset) * length(wildcards)


def growing(amount):
    """Resource function: `amount` at the first attempt, twice, then three times that."""
    return lambda wildcards, attempt: min(attempt, 3) * amount


def asking(*, mem_mb, minutes, **gpu):
    """Resources of a rule; memory and time grow when a job is tried again."""
    return {"mem_mb": growing(mem_mb), "runtime": growing(minutes), **gpu}
