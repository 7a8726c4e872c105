# Contrastive-DP: an index. Settings, rules in the order the data flows, named targets.
from snakemake.utils import min_version

min_version("9.0")


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/training.smk"
include: "rules/diffusion.smk"
include: "rules/synthesis.smk"
include: "rules/evaluation.smk"
include: "rules/theory.smk"
include: "rules/paper.smk"
include: "rules/claims.smk"
include: "rules/quality.smk"
include: "rules/audit.smk"
include: "rules/search.smk"
include: "rules/trace.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        [page(table) for table in PLAN.pages],
        rules.gather_claims.output.md,


rule claims:
    input:
        rules.gather_claims.output.md,


rule ablations:
    input:
        page("ablations"),


rule guidance:
    input:
        page("guidance"),


rule evidence:
    input:
        page("evidence"),


rule search:
    input:
        page("search"),


rule best:
    input:
        page("best"),


rule mnist_fig3:
    input:
        page("mnist_fig3"),


rule gtsrb_table3:
    input:
        page("gtsrb_table3"),


rule cifar10_table2:
    input:
        page("cifar10_table2"),


rule cifar10_table8:
    input:
        page("cifar10_table8"),


rule cifar10_table9:
    input:
        page("cifar10_table9"),


rule cifar10_table10:
    input:
        page("cifar10_table10"),


rule cifar10_table11:
    input:
        page("cifar10_table11"),


rule figures:
    input:
        [figure["png"] for table in PLAN.pages for figure in figures_of(table)],


rule trace:
    input:
        traced,


rule theory:
    input:
        f"{THEORY}/claims.md",
        f"{THEORY}/tables/gaussian.md",
        rules.plot_gaussian.output,
        rules.plot_toy.output,


rule reference:
    input:
        rules.record_reference.output,
