# How good each generator's images are: measured against held-out images, and put in a table.


rule measure_samples:
    input:
        unpack(quality_inputs),
    output:
        measures=f"{QUALITY}.json",
    log:
        f"{RESULTS}/logs/measure_samples/{{dataset}}/{{generator}}/n{{real}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_samples/{{dataset}}/{{generator}}/n{{real}}/seed{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=1,
    params:
        code=code("measure_samples"),
        identity=quality_identity,
        settings=setting("quality"),
    script:
        "../scripts/measure_samples.py"


rule make_quality_table:
    input:
        measures=lambda w: quality_files(w.paper_table),
    output:
        csv=f"{TABLES}/{{paper_table}}_quality.csv",
        markdown=f"{TABLES}/{{paper_table}}_quality.md",
    log:
        f"{RESULTS}/logs/make_quality_table/{{paper_table}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_quality_table/{{paper_table}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        code=code("make_quality_table"),
        titles=quality_titles,
    script:
        "../scripts/make_quality_table.py"
