# Merged settings, experiment rows, paths and input functions; nothing runs here.
import os
import sys
from datetime import datetime
from functools import partial
from pathlib import Path

import yaml

sys.path.append(str(Path(workflow.basedir) / "scripts"))

from contrastdp.plan import experiments
from contrastdp.jobs.gpus import LOCKS, visible_gpus
from contrastdp.jobs.code_digest import code_digest
from snakemake.exceptions import WorkflowError
from contrastdp.errors import InputError
from contrastdp.files import read_csv

BASE = Path(workflow.basedir)


# ---------------------------------------------------------------- settings
def load_yaml(path):
    """One YAML file as a dict; one clear line where it cannot be read."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


def typed(value):
    """Settings of the command line, where Snakemake leaves the numbers of a mapping as text."""
    if isinstance(value, dict):
        return {key: typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    return yaml.safe_load(value) if isinstance(value, str) else value


try:
    PLAN = experiments.plan(
        load_yaml,
        partial(read_csv, delimiter="\t"),
        folder=BASE / "config",
        command_line=typed(dict(config)),
    )
    # What download_data and the long steps read; no parameters, as they decide no result.
    config["mirror"], config["resume"] = PLAN.mirror, PLAN.resume
    THEORY_SETTINGS = experiments.theory(load_yaml, folder=BASE / "config")
except InputError as error:
    # The line alone: a traceback of this file says nothing to a user.
    sys.exit(f"error in settings: {error}")

# The GPUs that jobs with the resource `gpu` share out among themselves. No parameter either. A run
# on this machine alone (no executor with nodes) starts no more jobs than it has GPUs for, unless
# --resources says how many.
config["gpus"] = visible_gpus(os.environ) | {"locks": LOCKS}
if config["gpus"]["names"] and workflow.resource_settings.nodes is None:
    if workflow.is_main_process and "gpu" not in workflow.resource_settings.resources:
        workflow.register_resource("gpu", len(config["gpus"]["names"]))


# ---------------------------------------------------------------- paths
RESULTS = f"results/{PLAN.scale}"
ARCHIVES = "results/archives/{dataset}"  # shared by all scales
SPLIT = f"{RESULTS}/{{dataset}}/data/{{split}}.npz"
CLASSIFIER = f"{RESULTS}/{{dataset}}/classifier/{{classifier}}/n{{real}}/seed{{seed}}"
DIFFUSION = f"{RESULTS}/{{dataset}}/diffusion/{{denoiser}}/n{{real}}/seed{{seed}}"
SAMPLES = f"{RESULTS}/{{dataset}}/samples/{{generator}}/n{{real}}/seed{{seed}}"
LABELLED = f"{RESULTS}/{{dataset}}/labelled/{{generator}}/n{{real}}/seed{{seed}}"
SELECTED = f"{RESULTS}/{{dataset}}/selected/{{arm}}/seed{{seed}}"
ROBUST = f"{RESULTS}/{{dataset}}/robust/{{arm}}/seed{{seed}}"
ATTACKS = f"{RESULTS}/{{dataset}}/attacks/{{arm}}/seed{{seed}}"
HELD_OUT = f"{RESULTS}/{{dataset}}/held_out/{{arm}}/seed{{seed}}"
AUDIT = f"{RESULTS}/{{dataset}}/audit/{{arm}}/seed{{seed}}"
QUALITY = f"{RESULTS}/{{dataset}}/quality/{{generator}}/n{{real}}/seed{{seed}}"
TRACE = f"{RESULTS}/{{dataset}}/traces/{{arm}}/seed{{seed}}/image{{image}}"
FIGURES = f"{RESULTS}/figures"
TABLES = f"{RESULTS}/tables"
TO_CHOOSE_BY = ("search",)  # tables of held-out training images


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
    table="|".join(experiments.TABLES),
    paper_table="|".join(experiments.PAPER_TABLES),
    page="|".join(("report", *experiments.TABLES[1:])),


def one_of(names):
    """Wildcard constraint: one of these names, or nothing at all where there is none."""
    return "|".join(names) or "(?!)"


def split(name):
    """Path of one split of the data set that the wildcard names."""
    return SPLIT.replace("{split}", name)


def arm_files(pattern, table):
    """`pattern` for each arm of a table and each seed that it has there."""
    return [
        pattern.format(dataset=PLAN.arms[arm]["dataset"], arm=arm, seed=seed)
        for arm in PLAN.table(table)
        for seed in PLAN.seeds(arm, table)
    ]


def table_files(table):
    """What make_table reads, by name; a table to choose by reads nothing of the test split."""
    if table in TO_CHOOSE_BY:
        return {"evaluations": arm_files(f"{HELD_OUT}/evaluation.json", table)}
    return {
        "evaluations": arm_files(f"{ATTACKS}/evaluation.json", table),
        "outcomes": arm_files(f"{ATTACKS}/outcomes.csv", table),
        "measures": quality_files(table),
    }


def shards_of_arm(pattern, arm, seed):
    """Files of the arm's generator, one a shard, that hold its candidates."""
    row = PLAN.arms[arm]
    return [
        f"{pattern}/shard{{shard}}.npz".format(**row | {"seed": seed, "shard": shard})
        for shard in PLAN.sample_shards(arm)
    ]


# ---------------------------------------------------------------- parameters
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


def growing(amount):
    """Resource function: `amount` at the first attempt, twice, then three times that."""
    return lambda wildcards, attempt: min(attempt, 3) * amount


def seed_of(wildcards):
    """Parameter function: the seed, as a number."""
    return int(wildcards.seed)


def image_shape(wildcards):
    """Parameter function: (C, H, W) of the data set."""
    settings = PLAN.datasets[wildcards.dataset]
    return [settings["channels"], settings["image_size"], settings["image_size"]]


def denoiser_setting(key):
    """Parameter function: a setting of the denoiser that the wildcard names."""
    return lambda w: PLAN.datasets[w.dataset]["denoisers"][w.denoiser].get(key)


def edge(length, offset):
    """Parameter function: where the wildcard's shard begins (offset 0) or ends (1)."""
    return lambda wildcards: (int(wildcards.shard) + offset) * length(wildcards)


# ---------------------------------------------------------------- inputs
def archive_files(wildcards):
    """The data set's archives by name, where they were downloaded."""
    archives = PLAN.datasets[wildcards.dataset]["archives"]
    folder = ARCHIVES.format(dataset=wildcards.dataset)
    return {name: f"{folder}/{archive['file']}" for name, archive in archives.items()}


def sample_inputs(wildcards):
    """The generator's diffusion model, and what its guidance reads."""
    return generator_files(**wildcards)


def generator_files(dataset, generator, **names):
    """Files of a generator by name; names: real and seed."""
    row = PLAN.generators[generator]
    inputs = {"denoiser": f"{DIFFUSION.replace('{denoiser}', row['denoiser'])}/model"}
    for role, name in PLAN.guidance_networks(dataset, generator).items():
        inputs[role] = f"{CLASSIFIER.replace('{classifier}', name)}/model.safetensors"
    if "train" in PLAN.guidance_files(dataset, generator):
        inputs["train"] = split("train")
    return {name: path.format(dataset=dataset, **names) for name, path in inputs.items()}


def classifier_of_arm(wildcards, classifier):
    """A classifier trained on the arm's real images."""
    real = PLAN.arms[wildcards.arm]["real"]
    folder = CLASSIFIER.format(classifier=classifier, real=real, **wildcards)
    return f"{folder}/model.safetensors"


def labelling_network(wildcards):
    """Input function: the classifier that labels the data set's synthetic images."""
    folder = CLASSIFIER.format(classifier=PLAN.labeler(wildcards.dataset), **wildcards)
    return f"{folder}/model.safetensors"


def select_inputs(wildcards):
    """The arm's labelled shards, and the networks and images that its selection rule reads."""
    rule_name = PLAN.arms[wildcards.arm]["selection"]
    inputs = {"shards": shards_of_arm(LABELLED, wildcards.arm, wildcards.seed)}
    if rule_name != "none":
        for role, name in PLAN.selection_networks(wildcards.dataset).items():
            inputs[role] = classifier_of_arm(wildcards, name)
        inputs["train"] = split("train").format(**wildcards)
    return inputs


def training_inputs(wildcards):
    """Real images, and the arm's synthetic ones where it has any."""
    inputs = {name: split(name).format(**wildcards) for name in ("train", "validation")}
    if PLAN.arms[wildcards.arm]["synthetic"]:
        inputs["synthetic"] = f"{SELECTED}/images.npz".format(**wildcards)
    return inputs


def quality_inputs(wildcards):
    """The generator's first shards, real images, and the networks that look at both."""
    size = PLAN.datasets[wildcards.dataset]["sampling"]["shard"]
    limit = PLAN.datasets[wildcards.dataset]["quality"]["images"]
    sampled = max(
        len(PLAN.sample_shards(arm))
        for arm, row in PLAN.arms.items()
        if (row["dataset"], row["generator"]) == (wildcards.dataset, wildcards.generator)
        and row["real"] == int(wildcards.real)
    )
    shards = range(min(-(-limit // size), sampled))
    networks = {
        name: f"{CLASSIFIER}/model.safetensors".format(classifier=name, **wildcards)
        for name in ("encoder", "labeler")
    }
    images = {name: split(name).format(**wildcards) for name in ("train", "test")}
    return {
        "shards": [f"{LABELLED}/shard{shard}.npz".format(**wildcards) for shard in shards],
        **networks,
        **images,
    }


def quality_identity(wildcards):
    """Parameter function: whose images are measured."""
    numbers = {"real": int(wildcards.real), "seed": int(wildcards.seed)}
    return {"dataset": wildcards.dataset, "generator": wildcards.generator} | numbers


def quality_files(table):
    """Measurements of every generator, number of real images and seed of a table."""
    rows = [PLAN.arms[arm] for arm in PLAN.table(table)]
    found = [
        f"{QUALITY}.json".format(**row, seed=seed)
        for row in rows
        if row["generator"]
        for seed in PLAN.seeds(row["arm"], table)
    ]
    return list(dict.fromkeys(found))


def quality_titles(wildcards):
    """Parameter function: titles of a table's generators, in the order of its arms."""
    rows = [PLAN.arms[arm] for arm in PLAN.table(wildcards.paper_table)]
    names = [row["generator"] for row in rows if row["generator"]]
    return {name: PLAN.generators[name]["title"] for name in names}


def transfer_arm(arm, seed):
    """The arm whose adversarial images an audit tries on `arm`; None where there is none.

    Of the arms of this data set and eps that stand with this seed in every table where `arm` does,
    so that no table needs another's networks: the data set's reference, else the next row.
    """
    row = PLAN.arms[arm]
    names = list(PLAN.arms)
    place = names.index(arm)
    alike = [
        name
        for name in names[place + 1 :] + names[:place]
        if PLAN.arms[name]["dataset"] == row["dataset"]
        and PLAN.attack(name)["eps"] == PLAN.attack(arm)["eps"]
        and PLAN.tables_of(arm, seed) <= PLAN.tables_of(name, seed)
    ]
    reference = PLAN.datasets[row["dataset"]]["report"]["reference"]
    return reference if reference in alike else next(iter(alike), None)


def audit_inputs(wildcards):
    """A robust network, the other arm's from which images are transferred, and validation images."""
    inputs = {"model": f"{ROBUST}/best.safetensors", "validation": split("validation")}
    found = {name: path.format(**wildcards) for name, path in inputs.items()}
    other = transfer_arm(wildcards.arm, int(wildcards.seed))
    if other:
        names = {"dataset": wildcards.dataset, "arm": other, "seed": wildcards.seed}
        found["other"] = inputs["model"].format(**names)
    return found


def audit_identity(wildcards):
    """Parameter function: whose network is audited, and with whose images."""
    seed = int(wildcards.seed)
    other = transfer_arm(wildcards.arm, seed)
    return {"dataset": wildcards.dataset, "arm": wildcards.arm, "seed": seed, "other": other}


def traced(wildcards):
    """The trace that --config asks for; one line where it asks for none."""
    if PLAN.trace is None:
        raise WorkflowError(
            "say which synthetic image: "
            """--config 'trace={"arm": "contrastive_hnm", "seed": 0, "image": 0}'"""
        )
    dataset = PLAN.arms[PLAN.trace["arm"]]["dataset"]
    return [f"{TRACE}.{kind}".format(dataset=dataset, **PLAN.trace) for kind in ("json", "png")]


def trace_inputs(wildcards):
    """The arm's synthetic images, and whatever they were made, labelled and chosen by."""
    row = PLAN.arms[wildcards.arm]
    names = {name: row[name] for name in ("dataset", "generator", "real")}
    found = {
        "selected": f"{SELECTED}/images.npz".format(**wildcards),
        "train": split("train").format(**wildcards),
        "labeler": classifier_of_arm(wildcards, PLAN.labeler(wildcards.dataset)),
    }
    chosen_by = {k: v for k, v in select_inputs(wildcards).items() if k != "shards"}
    made_by = generator_files(**names, seed=wildcards.seed)
    for use, files in (("guidance", made_by), ("selection", chosen_by)):
        for role, path in files.items():
            found[role if found.setdefault(role, path) == path else f"{use}_{role}"] = path
    return found


def trace_identity(wildcards):
    """Parameter function: which image is traced, and how its arm came to it."""
    row = PLAN.arms[wildcards.arm]
    cells = {name: row[name] for name in ("dataset", "arm", "generator", "selection")}
    numbers = {"seed": int(wildcards.seed), "image": int(wildcards.image)}
    own_label = PLAN.conditional(row["dataset"], row["generator"])
    return {"scale": PLAN.scale, **cells, **numbers, "own_label": own_label}


def traced_generator(wildcards):
    """Parameter function: settings of the arm's generator, as sample_images has them."""
    row = PLAN.arms[wildcards.arm]
    return {
        "sampler": PLAN.sampler(row["dataset"], row["generator"]),
        "guidance": PLAN.guidance(row["dataset"], row["generator"]),
        "shape": image_shape(wildcards),
        "classes": setting("classes")(wildcards),
        "real": row["real"],
        "batch": setting("sampling", "batch")(wildcards),
        "execution": setting("sampling", "execution")(wildcards),
    }


def asked_now(rule):
    """Parameter function: code(rule) and the time, so that the job runs whenever it is asked for.

    A trace checks the files as they are, and prints.
    """
    return lambda wildcards: f"{code(rule)}, asked for at {datetime.now():%Y-%m-%d %H:%M:%S.%f}"


def attack_files(dataset, **names):
    """Attacked shards of the test split; names: arm and seed."""
    return [
        f"{ATTACKS}/shard{{shard}}.json".format(dataset=dataset, shard=shard, **names)
        for shard in PLAN.attack_shards(dataset)
    ]


def last_files(dataset, **names):
    """The same of the last checkpoint; none where the data set does not attack it."""
    shards = PLAN.attack_shards(dataset) if PLAN.datasets[dataset]["attack"]["last"] else ()
    return [
        f"{ATTACKS}/last/shard{{shard}}.json".format(dataset=dataset, shard=shard, **names)
        for shard in shards
    ]


# ---------------------------------------------------------------- tables, figures and pages
PAGES = {"report": "robustness"} | {table: table for table in experiments.TABLES[1:]}
PAPER_TABLES = experiments.PAPER_TABLES
AUDITED = ("robustness", "evidence", "best", *PAPER_TABLES)
CLAIMS = load_yaml(BASE / "config" / "claims.yaml")["claims"]
CLAIMED = [table for table in experiments.TABLES if table in {c["scope"] for c in CLAIMS}]
RECORD = {
    "table": "robustness.csv",
    "evaluations": "evaluations.json",
    "times": "times.csv",
    "machine": "machine.json",
}
SIZES_FROM = {"robustness": ["robustness"], "ablations": ["robustness", "ablations"]}
SOURCES = sorted(
    str(path.relative_to(BASE))
    for pattern in ("scripts/*.py", "scripts/contrastdp/**/*.py", "config/**/*.yaml")
    for path in BASE.glob(pattern)
)


def page(table):
    """Input function: a table's page; one line where this scale has no arm of the table."""

    def value(wildcards):
        if not PLAN.table(table):
            raise WorkflowError(
                f"scale '{PLAN.scale}' has no arm of table '{table}' in config/arms.tsv; "
                f"choose another with --config scale=..., or add a row"
            )
        name = next(page for page, shown in PAGES.items() if shown == table)
        return f"{RESULTS}/{name}.html"

    return value


def recorded_files(table):
    """The files of a table that the repository keeps."""
    claims = ("claims.csv", "claims.md") if table in CLAIMED else ()
    if table not in PAPER_TABLES:
        shown = [path for shown in tables_of(table) for path in (shown["csv"], shown["markdown"])]
        return list(dict.fromkeys([*shown, *(f"{TABLES}/{table}_{name}" for name in claims)]))
    paper = ("paper.md", "paper_cells.csv", "paper_comparisons.csv", "paper_runs.csv")
    rest = ("quality.csv", "quality.md", "audit.csv", "audit.md")
    return [f"{TABLES}/{table}_{name}" for name in (*paper, *rest, *claims)]


def first_shards(dataset, generator):
    """The first shard, of seed 0, of a generator, at the reference arm's number of real images."""
    row = PLAN.arms[PLAN.datasets[dataset]["report"]["reference"]]
    names = {"dataset": dataset, "generator": generator, "real": row["real"], "seed": 0}
    return [f"{LABELLED}/shard0.npz".format(**names)]


def sample_grid_inputs(wildcards):
    """First shards of the generators of the sample grid: plain, and each guided by its name."""
    shown = PLAN.datasets[wildcards.dataset]["report"]
    generators = {"plain": shown["plain"]} | {name: name for name in shown["guided"]}
    return {key: first_shards(wildcards.dataset, name) for key, name in generators.items()}


def guided_titles(wildcards):
    """Parameter function: the guided generators of the sample grid, name -> title."""
    chosen = PLAN.datasets[wildcards.dataset]["report"]["guided"]
    return {generator: PLAN.generators[generator]["title"] for generator in chosen}


def with_theory(table):
    """Whether a table's page shows section 3 too."""
    shown = (PLAN.datasets[dataset]["report"]["theory"] for dataset in PLAN.of_dataset(table))
    return table == "robustness" and any(shown)


def tables_of(table):
    """Tables of a table's page: title, CSV, and the Markdown twin's caption or one of our own."""
    named = {table.capitalize(): table}
    if table == "guidance":
        named["Size of the guidance"] = "guidance_size"
    if table in PAPER_TABLES:
        named = {
            "Beside the paper": f"{table}_paper",
            "Quality of the synthetic images": f"{table}_quality",
        }
    if table in AUDITED:
        named["Audit for false robustness"] = f"{table}_audit"
    found = [
        {"title": title, "csv": f"{TABLES}/{name}.csv", "markdown": f"{TABLES}/{name}.md"}
        for title, name in named.items()
    ]
    return found + ([THEORY_TABLE] if with_theory(table) else [])


def figures_of(table):
    """Figures of a table's page: title, caption and file."""
    found = []
    for dataset in PLAN.of_dataset(table):
        title = PLAN.datasets[dataset]["title"]
        guidance = {
            "title": f"{title}: variants of the guidance, and its size",
            "caption": "Robust accuracy, mean over seeds; bars: 95% t interval over seeds, right "
            "over paired seeds. Size: norm of what is added to the predicted noise over that of "
            "the noise, in brackets on the right.",
            "png": f"{FIGURES}/guidance_{dataset}.png",
        }
        sizes = {
            "title": f"{title}: accuracy against synthetic size",
            "caption": "Mean over seeds; error bars: 95% t interval over seeds. Dashed: no "
            "synthetic data.",
            "png": f"{FIGURES}/sizes_{dataset}_{table}.png",
        }
        samples = {
            "title": f"{title}: the same noise with and without guidance",
            "caption": "Each column starts from the same noise; the first images, not chosen. "
            "Small figures: the label they were given.",
            "png": f"{FIGURES}/samples_{dataset}.png",
        }
        tsne = {
            "title": f"{title}: features of two robust networks (t-SNE)",
            "caption": "Penultimate features of test images, seed 0.",
            "png": f"{FIGURES}/tsne_{dataset}.png",
        }
        real_sizes = {
            "title": f"{title}: accuracy against the number of real images (Figure 3)",
            "caption": "Points: seeds; lines: their mean. Dashed: all real, no synthetic images.",
            "png": f"{FIGURES}/real_sizes_{dataset}.png",
        }
        sheet = {
            "title": f"{title}: training images",
            "caption": "Drawn at random; small figures: the label.",
            "png": f"{FIGURES}/data_{dataset}.png",
        }
        shown = {"robustness": [samples, sizes, tsne], "ablations": [sizes], "guidance": [guidance]}
        shown |= {name: [sheet, samples, tsne] for name in PAPER_TABLES}
        shown["mnist_fig3"] = [sheet, real_sizes, samples, tsne]
        found += shown.get(table, [])
    return found + (THEORY_SHOWN if with_theory(table) else [])


def real_size_rows(dataset):
    """Rows of Figure 3: the arms of a data set with several numbers of real images."""
    return [row for row in PLAN.paper_rows("mnist_fig3") if row["dataset"] == dataset]


def paper_layout(table):
    """Ids of the printed rows of a table, in the paper's order; none for a figure."""
    dataset, _, number = table.partition("_table")
    printed = read_csv(BASE / "config" / "reported" / "contrastive_dp.csv")
    wanted = {"dataset": dataset, "table": number, "text_version": "v2"}
    return [row["id"] for row in printed if wanted.items() <= row.items()]


def guidance_arms():
    """Arms of the guidance's table that have synthetic images."""
    return [arm for arm in PLAN.table("guidance") if PLAN.arms[arm]["generator"]]


def guidance_shards():
    """Labelled shards of those arms, (path, (arm, seed)) each."""
    return [
        (path, (arm, seed))
        for arm in guidance_arms()
        for seed in PLAN.seeds(arm, "guidance")
        for path in shards_of_arm(LABELLED, arm, seed)
    ]


def metrics_of(table):
    """Metrics of the classifiers and diffusion models behind a table's synthetic images."""
    rows = [PLAN.arms[arm] for arm in PLAN.table(table) if PLAN.arms[arm]["generator"]]
    found = set()
    for row in rows:
        denoiser = PLAN.generators[row["generator"]]["denoiser"]
        for seed in PLAN.seeds(row["arm"], table):
            names = {"dataset": row["dataset"], "real": row["real"], "seed": seed}
            used = {PLAN.labeler(row["dataset"])}
            used |= {*PLAN.guidance_networks(row["dataset"], row["generator"]).values()}
            models = [CLASSIFIER.format(classifier=name, **names) for name in used]
            if row["generator"] in PLAN.external():
                found.add(f"{SAMPLES}/shard0.json".format(**row | names))
            else:
                models += [DIFFUSION.format(denoiser=denoiser, **names)]
            found |= {f"{model}/metrics.json" for model in models}
    return sorted(found)


def records_of(table):
    """Every further JSON behind a table: trainings, attacked shards, metrics of the models."""
    attacked = () if table in TO_CHOOSE_BY else PLAN.table(table)
    shards = [
        path
        for arm in attacked
        for seed in PLAN.seeds(arm, table)
        for files in (attack_files, last_files)
        for path in files(PLAN.arms[arm]["dataset"], arm=arm, seed=seed)
    ]
    found = arm_files(f"{ROBUST}/training.json", table) + shards + metrics_of(table)
    return found + ([f"{THEORY}/toy/training.json"] if with_theory(table) else [])


def report_inputs(wildcards):
    """Everything a page is made from."""
    table = PAGES[wildcards.page]
    inputs = {
        "evaluations": table_files(table)["evaluations"],
        "records": records_of(table),
        "figures": [figure["png"] for figure in figures_of(table)],
        "tables": [
            path
            for shown in tables_of(table)
            for path in (shown["csv"], shown.get("markdown"))
            if path
        ],
    }
    if with_theory(table):
        inputs["claims"] = f"{THEORY}/claims.csv"
    elif table in CLAIMED:
        inputs["claims"] = f"{TABLES}/{table}_claims.csv"
    return inputs


def runs_file(table):
    """Runs of a table, one an arm and seed."""
    return (
        f"{TABLES}/{table}_paper_runs.csv"
        if table in PAPER_TABLES
        else f"{TABLES}/{table}_runs.csv"
    )


def claimed_pages():
    """Tables of this scale's main target that claims are about."""
    return [table for table in PLAN.pages if table in CLAIMED]


def claim_files():
    """Judged claims of this scale's main target."""
    theory = [f"{THEORY}/claims.csv"] if any(map(with_theory, PLAN.pages)) else []
    return theory + [f"{TABLES}/{table}_claims.csv" for table in claimed_pages()]


def claim_links():
    """What shows the evidence of each claimed scope, made with the claims or before them."""
    shown = {
        table: [tables_of(table)[0]["markdown"], f"{TABLES}/{table}_claims.md"]
        for table in claimed_pages()
    }
    simulated = {"theory": f"{THEORY}/tables/gaussian.md", "toy": EVIDENCE["toy"]}
    return shown | {scope: [path, f"{THEORY}/claims.md"] for scope, path in simulated.items()}


# ---------------------------------------------------------------- theory (section 3)
THEORY = "results/theory"
EVIDENCE = {
    "cells": f"{THEORY}/simulation/cells.csv",
    "reported": "config/reported/gaussian.csv",
    "proposition": f"{THEORY}/simulation/proposition.csv",
    "theorem": f"{THEORY}/simulation/theorem.csv",
    "verdicts": f"{THEORY}/tables/gaussian_verdicts.csv",
    "toy": f"{THEORY}/toy/measures.csv",
}


THEORY_TABLE = {
    "title": "Section 3: do the printed tables follow from the settings?",
    "caption": "Mean absolute difference to the printed values in points, share of values within 2 "
    "standard errors, and the share of the setting's own repetitions that fit as badly (p_fit), for "
    "the fitted setting and for Eq. 5 as printed. docs/theory.md says how both were found.",
    "csv": f"{THEORY}/tables/gaussian_verdicts.csv",
}
THEORY_SHOWN = [
    {
        "title": "Figure 1: the three cases of Proposition 3.2",
        "caption": "Real means ±mu, and synthetic means orthogonal to mu, along mu, along mu − eps·1.",
        "png": f"{THEORY}/figures/proposition_cases.png",
    },
    {
        "title": "Proposition 3.2: errors against the synthetic mean's angle and length",
        "caption": "Curves: estimator in the limit of many synthetic samples; means over trials.",
        "png": f"{THEORY}/figures/proposition_errors.png",
    },
    {
        "title": "Theorem 3.4: synthetic samples needed for a robust accuracy, against c",
        "caption": "Both axes logarithmic; lines: fitted power laws with their slope.",
        "png": f"{THEORY}/figures/theorem_samples.png",
    },
    {
        "title": "Figure 2: two Gaussians, plain and guided",
        "caption": "A diffusion model of the mixture; guidance as large as the predicted noise.",
        "png": f"{THEORY}/figures/toy_figure_2.png",
    },
    {
        "title": "Figure 6: the mixture under each loss, started from N(0, I)",
        "caption": "Numbers: between-class over within-class distance, variance within a class, and "
        "the radius's coefficient of variation (a Gaussian blob 0.52, a filled disc 0.35, a ring 0).",
        "png": f"{THEORY}/figures/toy_figure_6.png",
    },
    {
        "title": "Figure 7: the same, started from N(0, 4I)",
        "caption": "Numbers as in Figure 6.",
        "png": f"{THEORY}/figures/toy_figure_7.png",
    },
    {
        "title": "Toy: the measures against the size of the guidance",
        "caption": "Size: norm of the guidance over that of the predicted noise.",
        "png": f"{THEORY}/figures/toy_spreads.png",
    },
]


def figure_files(**names):
    """Outputs of a plotting rule: PNG and PDF of each name."""
    return {
        f"{key}_{kind}": f"{THEORY}/figures/{name}.{kind}"
        for key, name in names.items()
        for kind in ("png", "pdf")
    }
