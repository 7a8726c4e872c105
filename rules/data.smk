# Real data: one split of each data set into training, validation and test.


rule prepare_data:
    output:
        train=split("train"),
        validation=split("validation"),
        test=split("test"),
    log:
        f"{RESULTS}/logs/prepare_data/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare_data/{{dataset}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code("prepare_data"),
        dataset="{dataset}",
        sizes=setting("sizes"),
        seed=setting("data_seed"),
    script:
        "../scripts/prepare_data.py"
