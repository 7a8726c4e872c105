# Classifiers: the labeler and the feature extractor, and the robust networks of the arms.


rule train_classifier:
    input:
        train=PATHS.split_of("train"),
        validation=PATHS.split_of("validation"),
    output:
        model=f"{PATHS.classifier}/model.safetensors",
        metrics=f"{PATHS.classifier}/metrics.json",
    log:
        PATHS.log("train_classifier", "{dataset}/{classifier}/n{real}/seed{seed}"),
    benchmark:
        PATHS.benchmark("train_classifier", "{dataset}/{classifier}/n{real}/seed{seed}")
    wildcard_constraints:
        classifier=one_of(PLAN.classifiers(time_dependent=False)),
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=60, gpu=1),
    params:
        code=code("train_classifier"),
        classes=setting("classes"),
        real=lambda w: int(w.real),
        seed=seed_of,
        settings=lambda w: PLAN.datasets[w.dataset]["classifiers"][w.classifier],
    message:
        "Trains the {wildcards.classifier} of {wildcards.dataset} on {wildcards.real} images, seed {wildcards.seed}"
    script:
        "../scripts/train_classifier.py"


rule train_time_classifier:
    input:
        train=PATHS.split_of("train"),
        validation=PATHS.split_of("validation"),
    output:
        model=f"{PATHS.classifier}/model.safetensors",
        metrics=f"{PATHS.classifier}/metrics.json",
        history=f"{PATHS.classifier}/history.csv",
    log:
        PATHS.log("train_time_classifier", "{dataset}/{classifier}/n{real}/seed{seed}"),
    benchmark:
        PATHS.benchmark("train_time_classifier", "{dataset}/{classifier}/n{real}/seed{seed}")
    wildcard_constraints:
        classifier=one_of(PLAN.classifiers(time_dependent=True)),
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=120, gpu=1),
    params:
        code=code("train_time_classifier"),
        classes=setting("classes"),
        real=lambda w: int(w.real),
        seed=seed_of,
        settings=lambda w: PLAN.datasets[w.dataset]["classifiers"][w.classifier],
        schedule=setting("noise_schedule"),
    message:
        "Trains the {wildcards.classifier} of {wildcards.dataset} on {wildcards.real} noisy images, seed {wildcards.seed}"
    script:
        "../scripts/train_time_classifier.py"


rule train_robust:
    input:
        unpack(NEEDS.training),
    output:
        best=f"{PATHS.robust}/best.safetensors",
        last=f"{PATHS.robust}/last.safetensors",
        history=f"{PATHS.robust}/history.csv",
        training=f"{PATHS.robust}/training.json",
    log:
        PATHS.log("train_robust", "{dataset}/{arm}/seed{seed}"),
    benchmark:
        PATHS.benchmark("train_robust", "{dataset}/{arm}/seed{seed}")
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=120, gpu=1),
    params:
        code=code("train_robust"),
        classes=setting("classes"),
        real=lambda w: PLAN.trained_on(w.arm),
        seed=seed_of,
        eps=lambda w: PLAN.threat(w.arm)["eps"],
        step_size=lambda w: PLAN.threat(w.arm)["step_size"],
        trainer=lambda w: PLAN.trainer(w.arm),
        settings=lambda w: PLAN.training(w.arm),
    message:
        "Trains arm {wildcards.arm} of {wildcards.dataset} robustly, seed {wildcards.seed}"
    script:
        "../scripts/train_robust.py"
