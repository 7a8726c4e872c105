# Diffusion models, each trained on the drawn real images alone.


def denoiser_setting(key):
    """Parameter function: a setting of the denoiser that the wildcard names."""
    return lambda w: PLAN.datasets[w.dataset]["denoisers"][w.denoiser][key]


rule train_diffusion:
    input:
        train=split_file("train"),
    output:
        model=directory(DENOISER),
        history=f"{DIFFUSION}/history.csv",
        metrics=f"{DIFFUSION}/metrics.json",
    params:
        code=code("train_diffusion"),
        real=lambda w: int(w.real),
        seed=lambda w: int(w.seed),
        classes=setting("classes"),
        conditional=denoiser_setting("conditional"),
        network=denoiser_setting("network"),
        training=denoiser_setting("training"),
        schedule=setting("noise_schedule"),
    log:
        f"{RESULTS}/logs/train_diffusion/{{dataset}}/{{denoiser}}/n{{real}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_diffusion/{{dataset}}/{{denoiser}}/n{{real}}/seed{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    script:
        "../scripts/train_diffusion.py"
