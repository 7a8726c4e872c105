# Real data: archives, and one split of each data set into training, validation and test.
localrules:
    download_data,


# The only rule that uses the network. Its files are updated, not deleted, when it runs again: an
# archive with the right checksum stays, so an edit of its code asks nothing of the network.
rule download_data:
    output:
        file=update(f"{ARCHIVES}/{{file}}"),
        origin=update(f"{ARCHIVES}/{{file}}.json"),
    log:
        "results/archives/logs/download_data/{dataset}/{file}.log",
    benchmark:
        "results/archives/benchmarks/download_data/{dataset}/{file}.tsv"
    wildcard_constraints:
        file=r"[A-Za-z0-9._-]+\.(gz|zip)",
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(120),
    params:
        code=code("download_data"),
        dataset="{dataset}",
        archive=lambda w: next(
            archive
            for archive in PLAN.datasets[w.dataset]["archives"].values()
            if archive["file"] == w.file
        ),
    script:
        "../scripts/download_data.py"


rule prepare_data:
    input:
        unpack(archive_files),
        origins=lambda w: [f"{path}.json" for path in archive_files(w).values()],
    output:
        train=split("train"),
        validation=split("validation"),
        test=split("test"),
        origin=f"{RESULTS}/{{dataset}}/data/origin.json",
    log:
        f"{RESULTS}/logs/prepare_data/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare_data/{{dataset}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code("prepare_data"),
        dataset="{dataset}",
        title=setting("title"),
        sizes=setting("sizes"),
        seed=setting("data_seed"),
    script:
        "../scripts/prepare_data.py"
