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
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",


rule ablations:
    input:
        f"{RESULTS}/ablations.html",


rule guidance:
    input:
        f"{RESULTS}/guidance.html",


rule theory:
    input:
        f"{THEORY}/claims.md",
        f"{THEORY}/tables/gaussian.md",
        rules.plot_gaussian.output,
        rules.plot_toy.output,


rule reference:
    input:
        rules.record_reference.output,
