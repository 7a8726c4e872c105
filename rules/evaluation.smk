# What the robust networks withstand: AutoAttack on fixed shards of the test split, signs of false
# robustness on validation images, and accuracy on held-out training images to choose settings by.
# Seconds of reading: no job of its own, nor one shared with other arms, which these would wait for.
localrules:
    gather_attacks,


rule attack_shard:
    input:
        model=f"{PATHS.robust}/best.safetensors",
        test=PATHS.split_of("test"),
    output:
        shard=f"{PATHS.attacks}/shard{{shard}}.json",
        adversarial=f"{PATHS.attacks}/shard{{shard}}_adversarial.npz",
    log:
        PATHS.log("attack_shard", "{dataset}/{arm}/seed{seed}/shard{shard}"),
    benchmark:
        PATHS.benchmark("attack_shard", "{dataset}/{arm}/seed{seed}/shard{shard}")
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=120, gpu=1),
    params:
        code=code("attack_shard"),
        start=edge(setting("attack", "shard"), 0),
        stop=edge(setting("attack", "shard"), 1),
        classes=setting("classes"),
        attack=lambda w: PLAN.attack(w.arm),
    message:
        "Attacks arm {wildcards.arm} of {wildcards.dataset}, seed {wildcards.seed}, on shard {wildcards.shard}"
    script:
        "../scripts/attack_shard.py"


# The checkpoint of the last step beside the one that validation chose, attacked alike.
use rule attack_shard as attack_last with:
    input:
        model=f"{PATHS.robust}/last.safetensors",
        test=PATHS.split_of("test"),
    output:
        shard=f"{PATHS.attacks}/last/shard{{shard}}.json",
        adversarial=f"{PATHS.attacks}/last/shard{{shard}}_adversarial.npz",
    log:
        PATHS.log("attack_last", "{dataset}/{arm}/seed{seed}/shard{shard}"),
    benchmark:
        PATHS.benchmark("attack_last", "{dataset}/{arm}/seed{seed}/shard{shard}")
    message:
        "Attacks the last checkpoint of arm {wildcards.arm} of {wildcards.dataset}, seed {wildcards.seed}, on shard {wildcards.shard}"


rule gather_attacks:
    input:
        shards=NEEDS.attacks,
        last=NEEDS.last_attacks,
        training=f"{PATHS.robust}/training.json",
        origin=PATHS.origin,
    output:
        evaluation=f"{PATHS.attacks}/evaluation.json",
        outcomes=f"{PATHS.attacks}/outcomes.csv",
        outcomes_last=f"{PATHS.attacks}/outcomes_last.csv",
    log:
        PATHS.log("gather_attacks", "{dataset}/{arm}/seed{seed}"),
    benchmark:
        PATHS.benchmark("gather_attacks", "{dataset}/{arm}/seed{seed}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=500, minutes=10),
    params:
        code=code("gather_attacks"),
        identity=lambda w: PLAN.identity(w.arm, int(w.seed)),
    message:
        "Gathers the attacks on arm {wildcards.arm} of {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/gather_attacks.py"


rule extract_features:
    input:
        model=f"{PATHS.robust}/best.safetensors",
        images=PATHS.split_of("test"),
    output:
        features=f"{PATHS.robust}/features.npz",
    log:
        PATHS.log("extract_features", "{dataset}/{arm}/seed{seed}"),
    benchmark:
        PATHS.benchmark("extract_features", "{dataset}/{arm}/seed{seed}")
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=10, gpu=1),
    params:
        code=code("extract_features"),
        classes=setting("classes"),
    message:
        "Extracts features of arm {wildcards.arm} of {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/extract_features.py"


rule audit_network:
    input:
        unpack(NEEDS.auditing),
    output:
        audit=f"{PATHS.audit}.json",
    log:
        PATHS.log("audit_network", "{dataset}/{arm}/seed{seed}"),
    benchmark:
        PATHS.benchmark("audit_network", "{dataset}/{arm}/seed{seed}")
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=30, gpu=1),
    params:
        code=code("audit_network"),
        identity=lambda w: identity(
            w, "dataset", "arm", other=PLAN.transfer_arm(w.arm, int(w.seed))
        ),
        attack=lambda w: PLAN.attack(w.arm),
        settings=setting("audit"),
        classes=setting("classes"),
    message:
        "Looks for false robustness of arm {wildcards.arm} of {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/audit_network.py"


rule validate_network:
    input:
        model=f"{PATHS.robust}/best.safetensors",
        train=PATHS.split_of("train"),
    output:
        evaluation=f"{PATHS.held_out}/evaluation.json",
    log:
        PATHS.log("validate_network", "{dataset}/{arm}/seed{seed}"),
    benchmark:
        PATHS.benchmark("validate_network", "{dataset}/{arm}/seed{seed}")
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=60, gpu=1),
    params:
        code=code("validate_network"),
        classes=setting("classes"),
        attack=lambda w: PLAN.attack(w.arm),
        step_size=lambda w: PLAN.step_size(w.arm, PLAN.attack(w.arm)["eps"]),
        steps=setting("search", "steps"),
        images=setting("search", "images"),
        identity=lambda w: PLAN.identity(w.arm, int(w.seed)),
    message:
        "Measures arm {wildcards.arm} of {wildcards.dataset}, seed {wildcards.seed}, on held-out training images"
    script:
        "../scripts/validate_network.py"
