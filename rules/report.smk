# Tables, figures and the report: they read CSV, JSON and npz, never a model.


rule make_table:
    input:
        unpack(lambda w: table_files(w.table)),
    output:
        csv=f"{TABLES}/{{table}}.csv",
        markdown=f"{TABLES}/{{table}}.md",
        latex=f"{TABLES}/{{table}}.tex",
        runs=f"{TABLES}/{{table}}_runs.csv",
    log:
        f"{RESULTS}/logs/make_table/{{table}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_table/{{table}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        code=code("make_table"),
        arms=lambda w: PLAN.laid_out(w.table),
        reference=lambda w: PLAN.references(w.table),
        mixed_attacks=lambda w: PLAN.mixed_attacks(w.table),
    script:
        "../scripts/make_table.py"


rule make_guidance_table:
    input:
        shards=lambda w: [path for path, _ in guidance_shards()],
        robustness=f"{TABLES}/guidance.csv",
    output:
        csv=f"{TABLES}/guidance_size.csv",
        markdown=f"{TABLES}/guidance_size.md",
    log:
        f"{RESULTS}/logs/make_guidance_table/guidance.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_guidance_table/guidance.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        code=code("make_guidance_table"),
        owners=lambda w: [owner for _, owner in guidance_shards()],
        arms=lambda w: [PLAN.guidance_identity(arm) for arm in guidance_arms()],
    script:
        "../scripts/make_guidance_table.py"


rule plot_guidance:
    input:
        table=f"{TABLES}/guidance_size.csv",
    output:
        png=f"{FIGURES}/guidance_{{dataset}}.png",
        pdf=f"{FIGURES}/guidance_{{dataset}}.pdf",
    log:
        f"{RESULTS}/logs/plot_guidance/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_guidance/{{dataset}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        code=code("plot_guidance"),
        dataset="{dataset}",
        swept=lambda w: PLAN.swept(guidance_arms(), "lambda"),
    script:
        "../scripts/plot_guidance.py"


rule plot_samples:
    input:
        unpack(sample_grid_inputs),
    output:
        png=f"{FIGURES}/samples_{{dataset}}.png",
        pdf=f"{FIGURES}/samples_{{dataset}}.pdf",
    log:
        f"{RESULTS}/logs/plot_samples/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_samples/{{dataset}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        code=code("plot_samples"),
        plain_title=lambda w: PLAN.generators[PLAN.datasets[w.dataset]["report"]["plain"]]["title"],
        titles=guided_titles,
        images=setting("report", "samples"),
    script:
        "../scripts/plot_samples.py"


rule plot_sizes:
    input:
        tables=lambda w: [f"{TABLES}/{name}.csv" for name in SIZES_FROM[w.table]],
    output:
        png=f"{FIGURES}/sizes_{{dataset}}_{{table}}.png",
        pdf=f"{FIGURES}/sizes_{{dataset}}_{{table}}.pdf",
    log:
        f"{RESULTS}/logs/plot_sizes/{{dataset}}_{{table}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_sizes/{{dataset}}_{{table}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        code=code("plot_sizes"),
        generators=lambda w: PLAN.sized_generators(w.dataset, SIZES_FROM[w.table]),
        dataset="{dataset}",
        real=lambda w: PLAN.arms[PLAN.datasets[w.dataset]["report"]["reference"]]["real"],
        trainer=lambda w: PLAN.arms[PLAN.datasets[w.dataset]["report"]["reference"]]["trainer"],
    script:
        "../scripts/plot_sizes.py"


rule plot_tsne:
    input:
        features=lambda w: [
            f"{ROBUST}/features.npz".format(dataset=w.dataset, arm=arm, seed=0)
            for arm in PLAN.datasets[w.dataset]["report"]["features"]
        ],
    output:
        png=f"{FIGURES}/tsne_{{dataset}}.png",
        pdf=f"{FIGURES}/tsne_{{dataset}}.pdf",
    log:
        f"{RESULTS}/logs/plot_tsne/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_tsne/{{dataset}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code("plot_tsne"),
        titles=lambda w: [
            PLAN.arms[arm]["title"] for arm in PLAN.datasets[w.dataset]["report"]["features"]
        ],
        seed=0,
    script:
        "../scripts/plot_tsne.py"


rule write_report:
    input:
        unpack(report_inputs),
        template="scripts/contrastdp/report/page.html.j2",
    output:
        f"{RESULTS}/{{page}}.html",
    log:
        f"{RESULTS}/logs/write_report/{{page}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/write_report/{{page}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        code=code("write_report"),
        title=lambda w: f"Contrastive-DP: {PAGES[w.page]} at scale {PLAN.scale}",
        tables=lambda w: tables_of(PAGES[w.page]),
        figures=lambda w: figures_of(PAGES[w.page]),
        benchmarks=f"{RESULTS}/benchmarks",
        settings=PLAN.settings(),
        sources=SOURCES,
    script:
        "../scripts/write_report.py"


rule record_reference:
    input:
        table=f"{TABLES}/robustness.csv",
        evaluations=arm_files(f"{ATTACKS}/evaluation.json", "robustness"),
        report=f"{RESULTS}/report.html",
    output:
        **{name: f"results/reference/{file}" for name, file in RECORD.items()},
    log:
        f"{RESULTS}/logs/record_reference/record.log",
    benchmark:
        f"{RESULTS}/benchmarks/record_reference/record.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        code=code("record_reference"),
        benchmarks=[f"{RESULTS}/benchmarks", f"{THEORY}/benchmarks"],
        readme="README.md",
    script:
        "../scripts/record_reference.py"


rule record_table:
    input:
        tables=lambda w: recorded_files(w.table),
        evaluations=lambda w: table_files(w.table)["evaluations"],
        page=lambda w: page(w.table)(w),
    output:
        folder=directory(f"results/reference/{PLAN.scale}/{{table}}"),
    log:
        f"{RESULTS}/logs/record_table/{{table}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/record_table/{{table}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        code=code("record_table"),
        benchmarks=f"{RESULTS}/benchmarks",
    script:
        "../scripts/record_table.py"
