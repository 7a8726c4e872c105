# The paper's claims on images, table by table, and the page of all claims.


use rule judge_claims as judge_table_claims with:
    input:
        claims="config/claims.yaml",
        evidence=lambda w: [runs_file(w.table)],
    output:
        csv=f"{TABLES}/{{table}}_claims.csv",
        md=f"{TABLES}/{{table}}_claims.md",
    log:
        f"{RESULTS}/logs/judge_claims/{{table}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/judge_claims/{{table}}.tsv"
    params:
        code=code("judge_claims"),
        names=lambda w: [w.table],
        scopes=lambda w: [w.table],


rule gather_claims:
    input:
        judged=claim_files(),
        runs=[runs_file(table) for table in claimed_pages()],
        arms="config/arms.tsv",
        reported="config/reported/contrastive_dp.csv",
        gaussian="config/reported/gaussian.csv",
    output:
        csv=f"{RESULTS}/claims.csv",
        md=f"{RESULTS}/claims.md",
    log:
        f"{RESULTS}/logs/gather_claims/claims.log",
    benchmark:
        f"{RESULTS}/benchmarks/gather_claims/claims.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        code=code("gather_claims"),
        listed=CLAIMS,
        names=claimed_pages(),
        printed=list(PAPER_TABLES),
        optional=[table for table in CLAIMED if table not in PAPER_TABLES],
        links=claim_links(),
        scale=PLAN.scale,
    script:
        "../scripts/gather_claims.py"
