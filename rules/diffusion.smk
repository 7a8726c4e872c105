# Diffusion models, each trained on the drawn real images alone.


rule train_diffusion:
    input:
        train=PATHS.split_of("train"),
        needs=one_line(NEEDS.pretrained),
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
        conditional=lambda w: PLAN.denoiser(w.dataset, w.denoiser).get("conditional"),
        network=lambda w: PLAN.denoiser(w.dataset, w.denoiser).get("network"),
        training=lambda w: PLAN.denoiser(w.dataset, w.denoiser).get("training"),
        pretrained=lambda w: PLAN.denoiser(w.dataset, w.denoiser).get("pretrained"),
        schedule=setting("noise_schedule"),
    message:
        "Trains the {wildcards.denoiser} denoiser of {wildcards.dataset} on {wildcards.real} images, seed {wildcards.seed}"
    script:
        "../scripts/train_diffusion.py"
