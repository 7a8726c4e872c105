# The paper's tables beside ours, its Figure 3, and sheets of the data: they read, never compute.


rule make_paper_table:
    input:
        unpack(lambda w: table_files(w.paper_table)),
        reported="config/reported/contrastive_dp.csv",
    output:
        csv=f"{TABLES}/{{paper_table}}_paper.csv",
        markdown=f"{TABLES}/{{paper_table}}_paper.md",
        latex=f"{TABLES}/{{paper_table}}_paper.tex",
        cells=f"{TABLES}/{{paper_table}}_paper_cells.csv",
        comparisons=f"{TABLES}/{{paper_table}}_paper_comparisons.csv",
        runs=f"{TABLES}/{{paper_table}}_paper_runs.csv",
    log:
        f"{RESULTS}/logs/make_paper_table/{{paper_table}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_paper_table/{{paper_table}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        code=code("make_paper_table"),
        arms=lambda w: PLAN.paper_rows(w.paper_table),
        layout=lambda w: paper_layout(w.paper_table),
        comparable=PLAN.comparable,
        version=lambda w: PLAN.version(w.paper_table),
        mixed_attacks=lambda w: PLAN.mixed_attacks(w.paper_table),
    script:
        "../scripts/make_paper_table.py"


rule plot_real_sizes:
    input:
        evaluations=lambda w: arm_files(f"{ATTACKS}/evaluation.json", "mnist_fig3"),
    output:
        png=f"{FIGURES}/real_sizes_{{dataset}}.png",
        pdf=f"{FIGURES}/real_sizes_{{dataset}}.pdf",
    log:
        f"{RESULTS}/logs/plot_real_sizes/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_real_sizes/{{dataset}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        code=code("plot_real_sizes"),
        arms=lambda w: real_size_rows(w.dataset),
        generators=lambda w: PLAN.sized_generators(w.dataset, ["mnist_fig3"]),
        total=lambda w: max(row["real"] for row in real_size_rows(w.dataset)),
    script:
        "../scripts/plot_real_sizes.py"


rule plot_data:
    input:
        train=split("train"),
    output:
        png=f"{FIGURES}/data_{{dataset}}.png",
        pdf=f"{FIGURES}/data_{{dataset}}.pdf",
    log:
        f"{RESULTS}/logs/plot_data/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_data/{{dataset}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code("plot_data"),
        classes=setting("classes"),
        images=32,
        seed=0,
    script:
        "../scripts/plot_data.py"
