"""How long Snakemake thinks before the first job."""


def bench_dry_run(workflow_copy, tmp_path, measure):
    workflow = workflow_copy(tmp_path)
    measure("dry run of the demo", lambda: workflow.run("--dry-run", "--quiet", "all"))
