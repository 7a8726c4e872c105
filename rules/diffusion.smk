# Diffusion models, each trained on the drawn real images alone.


rule train_diffusion:
    input:
        train=split("train"),
    output:
        model=directory(f"{DIFFUSION}/model"),
        history=f"{DIFFUSION}/history.csv",
        metrics=f"{DIFFUSION}/metrics.json",
    log:
        f"{RESULTS}/logs/train_diffusion/{{dataset}}/{{denoiser}}/n{{real}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_diffusion/{{dataset}}/{{denoiser}}/n{{real}}/seed{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
        gpu=1,
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
    script:
        "../scripts/train_diffusion.py"
