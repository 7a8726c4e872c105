# Tables, figures, claims and pages: they read CSV, JSON and npz, never a model.
RECORD = ("robustness.csv", "evaluations.json", "times.csv", "machine.json")
SOURCES = sorted(
    in_repository(path.relative_to(BASE))
    for pattern in ("scripts/**/*.py", "config/**/*.yaml")
    for path in BASE.glob(pattern)
)


rule make_table:
    input:
        unpack(lambda w: NEEDS.table(w.table)),
    output:
        csv=f"{PATHS.tables}/{{table}}.csv",
        markdown=f"{PATHS.tables}/{{table}}.md",
        latex=f"{PATHS.tables}/{{table}}.tex",
        runs=f"{PATHS.tables}/{{table}}_runs.csv",
    log:
        PATHS.log("make_table", "{table}"),
    benchmark:
        PATHS.benchmark("make_table", "{table}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("make_table"),
        arms=lambda w: PLAN.laid_out(w.table),
        reference=lambda w: PLAN.references(w.table),
        mixed_attacks=lambda w: PLAN.mixed_attacks(w.table),
    message:
        "Makes table {wildcards.table}"
    script:
        "../scripts/make_table.py"


rule make_paper_table:
    input:
        unpack(lambda w: NEEDS.table(w.paper_table)),
        reported=in_repository("config/reported/contrastive_dp.csv"),
    output:
        csv=f"{PATHS.tables}/{{paper_table}}_paper.csv",
        markdown=f"{PATHS.tables}/{{paper_table}}_paper.md",
        latex=f"{PATHS.tables}/{{paper_table}}_paper.tex",
        cells=f"{PATHS.tables}/{{paper_table}}_paper_cells.csv",
        comparisons=f"{PATHS.tables}/{{paper_table}}_paper_comparisons.csv",
        runs=f"{PATHS.tables}/{{paper_table}}_paper_runs.csv",
    log:
        PATHS.log("make_paper_table", "{paper_table}"),
    benchmark:
        PATHS.benchmark("make_paper_table", "{paper_table}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("make_paper_table"),
        arms=lambda w: PLAN.paper_rows(w.paper_table),
        layout=lambda w: PLAN.layout(w.paper_table, REPORTED["contrastive_dp"]),
        comparable=PLAN.comparable,
        version=lambda w: PLAN.version(w.paper_table),
        mixed_attacks=lambda w: PLAN.mixed_attacks(w.paper_table),
    message:
        "Makes table {wildcards.paper_table} beside the paper's"
    script:
        "../scripts/make_paper_table.py"


rule make_quality_table:
    input:
        measures=lambda w: NEEDS.quality(w.paper_table),
    output:
        csv=f"{PATHS.tables}/{{paper_table}}_quality.csv",
        markdown=f"{PATHS.tables}/{{paper_table}}_quality.md",
    log:
        PATHS.log("make_quality_table", "{paper_table}"),
    benchmark:
        PATHS.benchmark("make_quality_table", "{paper_table}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("make_quality_table"),
        titles=lambda w: PLAN.generator_titles(w.paper_table),
    message:
        "Makes the table of image quality of {wildcards.paper_table}"
    script:
        "../scripts/make_quality_table.py"


rule make_measured_table:
    input:
        measures=lambda w: NEEDS.measured_table(w.table),
        reported=in_repository("config/reported/robust_guidance.csv"),
    output:
        csv=f"{PATHS.tables}/{{table}}_measured.csv",
        markdown=f"{PATHS.tables}/{{table}}_measured.md",
        runs=f"{PATHS.tables}/{{table}}_measured_runs.csv",
    log:
        PATHS.log("make_measured_table", "{table}"),
    benchmark:
        PATHS.benchmark("make_measured_table", "{table}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("make_measured_table"),
        rows=lambda w: PLAN.measured_rows(w.table),
    message:
        "Makes the table of measured images of {wildcards.table}"
    script:
        "../scripts/make_measured_table.py"


rule make_gradients_table:
    input:
        measures=lambda w: NEEDS.all_gradients(w.table),
    output:
        csv=f"{PATHS.tables}/{{table}}_gradients.csv",
        markdown=f"{PATHS.tables}/{{table}}_gradients.md",
        runs=f"{PATHS.tables}/{{table}}_gradients_runs.csv",
    log:
        PATHS.log("make_gradients_table", "{table}"),
    benchmark:
        PATHS.benchmark("make_gradients_table", "{table}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("make_gradients_table"),
    message:
        "Makes the table of gradients of {wildcards.table}"
    script:
        "../scripts/make_gradients_table.py"


rule make_audit_table:
    input:
        audits=lambda w: NEEDS.of_arms(f"{PATHS.audit}.json", w.table),
    output:
        csv=f"{PATHS.tables}/{{table}}_audit.csv",
        markdown=f"{PATHS.tables}/{{table}}_audit.md",
    log:
        PATHS.log("make_audit_table", "{table}"),
    benchmark:
        PATHS.benchmark("make_audit_table", "{table}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("make_audit_table"),
        titles=lambda w: {arm: PLAN.arms[arm]["title"] for arm in PLAN.table(w.table)},
    message:
        "Makes the audit of table {wildcards.table}"
    script:
        "../scripts/make_audit_table.py"


rule make_guidance_table:
    input:
        shards=lambda w: [path for path, _ in NEEDS.guided_shards()],
        robustness=lambda w: f"{PATHS.tables}/{PLAN.showing('guidance')}.csv",
    output:
        csv=f"{PATHS.tables}/guidance_size.csv",
        markdown=f"{PATHS.tables}/guidance_size.md",
    log:
        PATHS.log("make_guidance_table", "guidance"),
    benchmark:
        PATHS.benchmark("make_guidance_table", "guidance")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("make_guidance_table"),
        owners=lambda w: [owner for _, owner in NEEDS.guided_shards()],
        arms=lambda w: [PLAN.guidance_identity(arm) for arm in PLAN.guided_arms()],
    message:
        "Makes the table of guidance sizes"
    script:
        "../scripts/make_guidance_table.py"


rule plot_guidance:
    input:
        table=f"{PATHS.tables}/guidance_size.csv",
    output:
        png=f"{PATHS.figures}/guidance_{{dataset}}.png",
        pdf=f"{PATHS.figures}/guidance_{{dataset}}.pdf",
    log:
        PATHS.log("plot_guidance", "{dataset}"),
    benchmark:
        PATHS.benchmark("plot_guidance", "{dataset}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("plot_guidance"),
        dataset="{dataset}",
        swept=lambda w: PLAN.swept(PLAN.guided_arms(), "lambda"),
    message:
        "Plots the variants of the guidance on {wildcards.dataset}"
    script:
        "../scripts/plot_guidance.py"


rule plot_samples:
    input:
        needs=lambda w: sum(NEEDS.sample_grid(w.dataset).values(), []),
    output:
        png=f"{PATHS.figures}/samples_{{dataset}}.png",
        pdf=f"{PATHS.figures}/samples_{{dataset}}.pdf",
    log:
        PATHS.log("plot_samples", "{dataset}"),
    benchmark:
        PATHS.benchmark("plot_samples", "{dataset}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("plot_samples"),
        shards=lambda w: NEEDS.sample_grid(w.dataset),
        images=setting("report", "samples"),
    message:
        "Plots the same noise with and without guidance on {wildcards.dataset}"
    script:
        "../scripts/plot_samples.py"


# The same of the guided generators of measured.tsv, by seed and class.
use rule plot_samples as plot_guided_samples with:
    input:
        needs=lambda w: sum(NEEDS.guided_grid(w.dataset).values(), []),
    output:
        png=f"{PATHS.figures}/guided_samples_{{dataset}}.png",
        pdf=f"{PATHS.figures}/guided_samples_{{dataset}}.pdf",
    log:
        PATHS.log("plot_guided_samples", "{dataset}"),
    benchmark:
        PATHS.benchmark("plot_guided_samples", "{dataset}")
    params:
        code=code("plot_samples"),
        shards=lambda w: NEEDS.guided_grid(w.dataset),
        images=setting("report", "samples"),
    message:
        "Plots the same seed and class, guided by either classifier, on {wildcards.dataset}"


rule plot_gradients:
    input:
        table=lambda w: f"{PATHS.tables}/{PLAN.showing('gradients')}_gradients.csv",
    output:
        png=f"{PATHS.figures}/gradients_{{dataset}}.png",
        pdf=f"{PATHS.figures}/gradients_{{dataset}}.pdf",
    log:
        PATHS.log("plot_gradients", "{dataset}"),
    benchmark:
        PATHS.benchmark("plot_gradients", "{dataset}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("plot_gradients"),
        dataset="{dataset}",
    message:
        "Plots what gradients point at on {wildcards.dataset}"
    script:
        "../scripts/plot_gradients.py"


rule plot_gradient_pictures:
    input:
        pictures=lambda w: NEEDS.pictures(w.dataset),
    output:
        maps_png=f"{PATHS.figures}/gradient_maps_{{dataset}}.png",
        maps_pdf=f"{PATHS.figures}/gradient_maps_{{dataset}}.pdf",
        targeted_png=f"{PATHS.figures}/targeted_{{dataset}}.png",
        targeted_pdf=f"{PATHS.figures}/targeted_{{dataset}}.pdf",
        predicted_png=f"{PATHS.figures}/predicted_{{dataset}}.png",
        predicted_pdf=f"{PATHS.figures}/predicted_{{dataset}}.pdf",
    log:
        PATHS.log("plot_gradient_pictures", "{dataset}"),
    benchmark:
        PATHS.benchmark("plot_gradient_pictures", "{dataset}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("plot_gradient_pictures"),
    message:
        "Plots pictures of gradients on {wildcards.dataset}"
    script:
        "../scripts/plot_gradient_pictures.py"


rule plot_sizes:
    input:
        tables=lambda w: [f"{PATHS.tables}/{name}.csv" for name in PAGES.sizes_from(w.table)],
    output:
        png=f"{PATHS.figures}/sizes_{{dataset}}_{{table}}.png",
        pdf=f"{PATHS.figures}/sizes_{{dataset}}_{{table}}.pdf",
    log:
        PATHS.log("plot_sizes", "{dataset}_{table}"),
    benchmark:
        PATHS.benchmark("plot_sizes", "{dataset}_{table}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("plot_sizes"),
        generators=lambda w: PLAN.sized_generators(w.dataset, PAGES.sizes_from(w.table)),
        dataset="{dataset}",
        real=lambda w: PLAN.reference(w.dataset)["real"],
        trainer=lambda w: PLAN.reference(w.dataset)["trainer"],
    message:
        "Plots accuracy against synthetic size on {wildcards.dataset}, table {wildcards.table}"
    script:
        "../scripts/plot_sizes.py"


rule plot_real_sizes:
    input:
        evaluations=lambda w: NEEDS.evaluations(PLAN.showing("real_sizes")),
    output:
        png=f"{PATHS.figures}/real_sizes_{{dataset}}.png",
        pdf=f"{PATHS.figures}/real_sizes_{{dataset}}.pdf",
    log:
        PATHS.log("plot_real_sizes", "{dataset}"),
    benchmark:
        PATHS.benchmark("plot_real_sizes", "{dataset}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("plot_real_sizes"),
        arms=lambda w: PLAN.paper_rows(PLAN.showing("real_sizes"), w.dataset),
        generators=lambda w: PLAN.sized_generators(w.dataset, [PLAN.showing("real_sizes")]),
        total=lambda w: PLAN.most_real(PLAN.showing("real_sizes"), w.dataset),
    message:
        "Plots accuracy against the number of real images on {wildcards.dataset}"
    script:
        "../scripts/plot_real_sizes.py"


rule plot_tsne:
    input:
        features=lambda w: NEEDS.features(w.dataset),
    output:
        png=f"{PATHS.figures}/tsne_{{dataset}}.png",
        pdf=f"{PATHS.figures}/tsne_{{dataset}}.pdf",
    log:
        PATHS.log("plot_tsne", "{dataset}"),
    benchmark:
        PATHS.benchmark("plot_tsne", "{dataset}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=1000, minutes=10),
    params:
        code=code("plot_tsne"),
        titles=lambda w: [
            PLAN.arms[arm]["title"] for arm in PLAN.datasets[w.dataset]["report"]["features"]
        ],
        seed=0,
    message:
        "Plots features of robust networks on {wildcards.dataset}"
    script:
        "../scripts/plot_tsne.py"


use rule judge_claims as judge_table_claims with:
    input:
        claims=in_repository("config/claims.yaml"),
        evidence=lambda w: list(PAGES.evidence(w.table).values()),
    output:
        csv=f"{PATHS.tables}/{{table}}_claims.csv",
        md=f"{PATHS.tables}/{{table}}_claims.md",
    log:
        PATHS.log("judge_claims", "{table}"),
    benchmark:
        PATHS.benchmark("judge_claims", "{table}")
    params:
        code=code("judge_claims"),
        names=lambda w: list(PAGES.evidence(w.table)),
        scopes=lambda w: [w.table],
    message:
        "Judges the claims on table {wildcards.table}"


rule gather_claims:
    input:
        judged=PAGES.judged(),
        runs=[PAGES.runs(table) for table in PAGES.claimed_pages()],
        arms=in_repository("config/arms.tsv"),
        reported=in_repository("config/reported/contrastive_dp.csv"),
        gaussian=in_repository("config/reported/gaussian.csv"),
        measured=in_repository("config/reported/robust_guidance.csv"),
    output:
        csv=f"{PATHS.results}/claims.csv",
        md=f"{PATHS.results}/claims.md",
    log:
        PATHS.log("gather_claims", "claims"),
    benchmark:
        PATHS.benchmark("gather_claims", "claims")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("gather_claims"),
        listed=CLAIMS,
        names=PAGES.claimed_pages(),
        printed=PLAN.paper_tables(),
        optional=[table for table in PAGES.claimed if table not in PLAN.paper_tables()],
        links=PAGES.links(),
        scale=PLAN.scale,
    message:
        "Gathers all claims"
    script:
        "../scripts/gather_claims.py"


rule write_report:
    input:
        unpack(PAGES.inputs),
        in_repository("scripts/contrastdp/report/page.html.j2"),
    output:
        output=f"{PATHS.results}/{{page}}.html",
    log:
        PATHS.log("write_report", "{page}"),
    benchmark:
        PATHS.benchmark("write_report", "{page}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("write_report"),
        title=lambda w: f"Contrastive-DP: {PAGES.names[w.page]} at scale {PLAN.scale}",
        tables=lambda w: PAGES.tables(PAGES.names[w.page]),
        figures=lambda w: PAGES.figures(PAGES.names[w.page]),
        benchmarks=f"{PATHS.results}/benchmarks",
        settings=PLAN.settings(),
        sources=SOURCES,
    message:
        "Writes page {wildcards.page}"
    script:
        "../scripts/write_report.py"


rule record_reference:
    input:
        table=f"{PATHS.tables}/{PAGES.main}.csv",
        evaluations=NEEDS.evaluations(PAGES.main),
        needs=f"{PATHS.results}/report.html",
    output:
        [f"results/reference/{name}" for name in RECORD],
    log:
        PATHS.log("record_reference", "record"),
    benchmark:
        PATHS.benchmark("record_reference", "record")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("record_reference"),
        benchmarks=[f"{PATHS.results}/benchmarks", f"{PATHS.theory}/benchmarks"],
        readme="README.md",
        folder=lambda w, output: str(Path(output[0]).parent),
    message:
        "Records this run as the reference"
    script:
        "../scripts/record_reference.py"


rule record_table:
    input:
        tables=lambda w: PAGES.recorded(w.table),
        evaluations=lambda w: NEEDS.evaluations(w.table),
        needs=lambda w: page(w.table)(w),
    output:
        folder=directory(f"{PATHS.reference}/{{table}}"),
    log:
        PATHS.log("record_table", "{table}"),
    benchmark:
        PATHS.benchmark("record_table", "{table}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("record_table"),
        benchmarks=f"{PATHS.results}/benchmarks",
    message:
        "Records table {wildcards.table}"
    script:
        "../scripts/record_table.py"
