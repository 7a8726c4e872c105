# Diffusion models, each trained on the drawn real images alone.


def denoiser_setting(key):
    """Parameter function: a setting of the denoiser that the wildcard names."""
    return lambda w: PLAN.datasets[w.dataset]["denoisers"][w.denoiser].get(key)


rule train_diffusion:
    input:
        train=PATHS.split_of("train"),
    output:
        model=directory(f"{PATHS.diffusion}/model"),
        history=f"{PATHS.diffusion}/history.csv",
        metrics=f"{PATHS.diffusion}/metrics.json",
    log:
        PATHS.log("train_diffusion", "{dataset}/{denoiser}/n{real}/seed{seed}"),
    benchmark:
        PATHS.benchmark("train_diffusion", "{dataset}/{denoiser}/n{real}/seed{seed}")
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=60, gpu=1),
    params:
        code=code("train_diffusion"),
        real=lambda w: int(w.real),
        seed=seed_of,
        classes=setting("classes"),
        conditional=denoiser_setting("conditional"),
        network=denoiser_setting("network"),
        training=denoiser_setting("training"),
        pretrained=denoiser_setting("pretrained"),
        schedule=setting("noise_schedule"),
    message:
        "Trains the {wildcards.denoiser} denoiser of {wildcards.dataset} on {wildcards.real} images, seed {wildcards.seed}"
    script:
        "../scripts/train_diffusion.py"
