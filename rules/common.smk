# Merged settings, experiment rows, paths and input functions; no rules.
import sys
from functools import partial
from pathlib import Path

import yaml

sys.path.append(str(Path(workflow.basedir) / "scripts"))

from snakemake.exceptions import WorkflowError

from contrastdp import experiments
from contrastdp.lineage import code_digest
from contrastdp.records import InputError, read_csv

BASE = Path(workflow.basedir)


def load_yaml(path):
    """One YAML file of the config folder, as a dict; one clear line where it cannot be read."""
    try:
        return yaml.safe_load((BASE / path).read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


try:
    PLAN = experiments.plan(
        load_yaml,
        partial(read_csv, delimiter="\t"),
        folder=BASE / "config",
        command_line=dict(config),
    )
except InputError as error:
    # Only the line itself: a traceback of this file says nothing to the user.
    sys.exit(f"error in settings: {error}")

RESULTS = f"results/{PLAN.scale}"
CLASSIFIER = RESULTS + "/{dataset}/classifier/{classifier}/n{real}/seed{seed}/model.safetensors"
DIFFUSION = RESULTS + "/{dataset}/diffusion/{denoiser}/n{real}/seed{seed}"
DENOISER = DIFFUSION + "/model"
SAMPLES = RESULTS + "/{dataset}/samples/{generator}/n{real}/seed{seed}/shard{shard}.npz"
LABELLED = RESULTS + "/{dataset}/labelled/{generator}/n{real}/seed{seed}/shard{shard}.npz"
SELECTED = RESULTS + "/{dataset}/selected/{arm}/seed{seed}/images.npz"
ROBUST = RESULTS + "/{dataset}/robust/{arm}/seed{seed}"
ATTACKS = RESULTS + "/{dataset}/attacks/{arm}/seed{seed}"


wildcard_constraints:
    dataset="|".join(PLAN.datasets) or "none",
    split="train|validation|test",
    classifier="labeler|encoder",
    denoiser="[a-z0-9_]+",
    generator="|".join(PLAN.generators) or "none",
    arm="|".join(PLAN.arms) or "none",
    real=r"\d+",
    seed=r"\d+",
    shard=r"\d+",


def code(rule):
    """Digest of a rule's script and of the library it imports: an edit reruns what it concerns."""
    return code_digest(BASE / "scripts" / f"{rule}.py")


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


def split_file(split, dataset="{dataset}"):
    """Path of one split of a data set."""
    return f"{RESULTS}/{dataset}/data/{split}.npz"


def image_shape(wildcards):
    """(C, H, W) of the data set."""
    settings = PLAN.datasets[wildcards.dataset]
    return [settings["channels"], settings["image_size"], settings["image_size"]]


def arm_paths(pattern, arms, **more):
    """`pattern` for each seed of each of `arms`."""
    return [
        pattern.format(dataset=PLAN.arms[arm]["dataset"], arm=arm, seed=seed, **more)
        for arm in arms
        for seed in PLAN.seeds(arm)
    ]


def shards_of_arm(pattern, arm, seed):
    """Shards of the arm's generator that hold its candidates."""
    row = PLAN.arms[arm]
    return [
        pattern.format(
            dataset=row["dataset"],
            generator=row["generator"],
            real=row["real"],
            seed=seed,
            shard=shard,
        )
        for shard in PLAN.sample_shards(arm)
    ]


def classifier_of_arm(classifier):
    """Input function: a classifier trained on the arm's real images."""

    def path(wildcards):
        return CLASSIFIER.format(
            dataset=wildcards.dataset,
            classifier=classifier,
            real=PLAN.arms[wildcards.arm]["real"],
            seed=wildcards.seed,
        )

    return path
