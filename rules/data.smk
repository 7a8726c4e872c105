# Real data: archives, one split of each data set into training, validation and test, and a sheet.
localrules:
    download_data,


# The only rule that uses the network. An archive is updated, not deleted, when this runs again: one
# with the right checksum stays, so an edit of the code asks nothing of the network. Its origin is
# deleted: after a download that failed it is missing, so that no archive of before is taken.
rule download_data:
    output:
        file=update(f"{PATHS.archives}/{{file}}"),
        origin=f"{PATHS.archives}/{{file}}.json",
    log:
        PATHS.log("download_data", "{dataset}/{file}", root="results/archives"),
    benchmark:
        PATHS.benchmark("download_data", "{dataset}/{file}", root="results/archives")
    wildcard_constraints:
        file=r"[A-Za-z0-9._-]+\.(gz|zip)",
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=120),
    params:
        code=code("download_data"),
        dataset="{dataset}",
        archive=lambda w: next(
            archive
            for archive in PLAN.datasets[w.dataset]["archives"].values()
            if archive["file"] == w.file
        ),
    message:
        "Fetches {wildcards.file} of {wildcards.dataset}"
    script:
        "../scripts/download_data.py"


rule prepare_data:
    input:
        needs=NEEDS.archive_files,
        origins=NEEDS.archive_origins,
    output:
        train=PATHS.split_of("train"),
        validation=PATHS.split_of("validation"),
        test=PATHS.split_of("test"),
        origin=PATHS.origin,
    log:
        PATHS.log("prepare_data", "{dataset}"),
    benchmark:
        PATHS.benchmark("prepare_data", "{dataset}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=10),
    params:
        code=code("prepare_data"),
        dataset="{dataset}",
        title=setting("title"),
        archives=NEEDS.archives,
        sizes=setting("sizes"),
        seed=setting("data_seed"),
    message:
        "Splits {wildcards.dataset} into training, validation and test images"
    script:
        "../scripts/prepare_data.py"


rule plot_data:
    input:
        train=PATHS.split_of("train"),
    output:
        png=f"{PATHS.figures}/data_{{dataset}}.png",
        pdf=f"{PATHS.figures}/data_{{dataset}}.pdf",
    log:
        PATHS.log("plot_data", "{dataset}"),
    benchmark:
        PATHS.benchmark("plot_data", "{dataset}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=10),
    params:
        code=code("plot_data"),
        classes=setting("classes"),
        images=32,
        seed=0,
    message:
        "Plots training images of {wildcards.dataset}"
    script:
        "../scripts/plot_data.py"
