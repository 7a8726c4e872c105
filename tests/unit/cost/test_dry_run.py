"""Jobs as Snakemake prints them."""

from contrastdp.cost.dry_run import planned

TEXT = """job    count
all        1
[Sat Nov 21 10:36:17 2026]
rule attack_shard:
    input: a, b
    output: c
    jobid: 3
    wildcards: dataset=gtsrb, arm=gtsrb_ddpm, seed=0, shard=25
    resources: tmpdir=/tmp
localrule plot_toy:
    output: d
localrule all:
    input: c, d
"""


def test_jobs_have_their_rules_and_wildcards_and_targets_have_none():
    wildcards = {"dataset": "gtsrb", "arm": "gtsrb_ddpm", "seed": "0", "shard": "25"}
    assert planned(TEXT) == [("attack_shard", wildcards), ("plot_toy", {}), ("all", None)]
