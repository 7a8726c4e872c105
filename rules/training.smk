# Classifiers: the labeler and the feature extractor, and the robust networks of the arms.


rule train_classifier:
    input:
        train=split("train"),
        validation=split("validation"),
    output:
        model=f"{CLASSIFIER}/model.safetensors",
        metrics=f"{CLASSIFIER}/metrics.json",
    log:
        f"{RESULTS}/logs/train_classifier/{{dataset}}/{{classifier}}/n{{real}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_classifier/{{dataset}}/{{classifier}}/n{{real}}/seed{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
        gpu=1,
    params:
        code=code("train_classifier"),
        classes=setting("classes"),
        real=lambda w: int(w.real),
        seed=seed_of,
        settings=lambda w: PLAN.datasets[w.dataset]["classifiers"][w.classifier],
    script:
        "../scripts/train_classifier.py"


rule train_robust:
    input:
        unpack(training_inputs),
    output:
        best=f"{ROBUST}/best.safetensors",
        last=f"{ROBUST}/last.safetensors",
        history=f"{ROBUST}/history.csv",
        training=f"{ROBUST}/training.json",
    log:
        f"{RESULTS}/logs/train_robust/{{dataset}}/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_robust/{{dataset}}/{{arm}}/seed{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(120),
        gpu=1,
    params:
        code=code("train_robust"),
        classes=setting("classes"),
        real=lambda w: PLAN.trained_on(w.arm),
        seed=seed_of,
        eps=lambda w: PLAN.attack(w.arm)["eps"],
        attack_step=lambda w: PLAN.attack(w.arm)["step"],
        trainer=lambda w: PLAN.trainer(w.arm),
        settings=lambda w: PLAN.training(w.arm),
    script:
        "../scripts/train_robust.py"
