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
        [page(table) for table in PLAN.pages],
        rules.gather_claims.output.md,


rule claims:
    input:
        rules.gather_claims.output.md,


# A target for each table of config/tables.tsv, by its name: its page.
for table in PLAN.tables:

    rule:
        name:
            table
        input:
            page(table),


rule figures:
    input:
        PAGES.all_figures(),


rule trace:
    input:
        one_line(lambda w: NEEDS.traced()),


rule theory:
    input:
        f"{PATHS.theory}/claims.md",
        f"{PATHS.theory}/tables/gaussian.md",
        rules.plot_gaussian.output,
        rules.plot_toy.output,


rule reference:
    input:
        rules.record_reference.output,
