# Signs of false robustness: each network under attacks that must agree, and the table of them.


rule audit_network:
    input:
        unpack(audit_inputs),
    output:
        audit=f"{AUDIT}.json",
    log:
        f"{RESULTS}/logs/audit_network/{{dataset}}/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/audit_network/{{dataset}}/{{arm}}/seed{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
        gpu=1,
    params:
        code=code("audit_network"),
        identity=audit_identity,
        attack=lambda w: PLAN.attack(w.arm),
        settings=setting("audit"),
        classes=setting("classes"),
    script:
        "../scripts/audit_network.py"


rule make_audit_table:
    input:
        audits=lambda w: arm_files(f"{AUDIT}.json", w.table),
    output:
        csv=f"{TABLES}/{{table}}_audit.csv",
        markdown=f"{TABLES}/{{table}}_audit.md",
    log:
        f"{RESULTS}/logs/make_audit_table/{{table}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_audit_table/{{table}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        code=code("make_audit_table"),
        titles=lambda w: {arm: PLAN.arms[arm]["title"] for arm in PLAN.table(w.table)},
    script:
        "../scripts/make_audit_table.py"
