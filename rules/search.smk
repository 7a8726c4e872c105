# What decides between settings: images of the training split that a seed's networks never saw.


rule validate_network:
    input:
        model=f"{ROBUST}/best.safetensors",
        train=split("train"),
    output:
        evaluation=f"{HELD_OUT}/evaluation.json",
    log:
        f"{RESULTS}/logs/validate_network/{{dataset}}/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/validate_network/{{dataset}}/{{arm}}/seed{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
        gpu=1,
    params:
        code=code("validate_network"),
        classes=setting("classes"),
        attack=lambda w: PLAN.attack(w.arm),
        steps=setting("search", "steps"),
        images=setting("search", "images"),
        identity=lambda w: PLAN.identity(w.arm, int(w.seed)),
    script:
        "../scripts/validate_network.py"
