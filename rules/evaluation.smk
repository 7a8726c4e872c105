# AutoAttack on fixed shards of the test split, and what the robust networks see.
# Seconds of reading: no job of its own, nor one shared with other arms, which these would wait for.
localrules:
    gather_attacks,


rule attack_shard:
    input:
        model=f"{ROBUST}/best.safetensors",
        test=split("test"),
    output:
        shard=f"{ATTACKS}/shard{{shard}}.json",
        adversarial=f"{ATTACKS}/shard{{shard}}_adversarial.npz",
    log:
        f"{RESULTS}/logs/attack_shard/{{dataset}}/{{arm}}/seed{{seed}}/shard{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/attack_shard/{{dataset}}/{{arm}}/seed{{seed}}/shard{{shard}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(120),
        gpu=1,
    params:
        code=code("attack_shard"),
        start=edge(setting("attack", "shard"), 0),
        stop=edge(setting("attack", "shard"), 1),
        classes=setting("classes"),
        attack=lambda w: PLAN.attack(w.arm),
    script:
        "../scripts/attack_shard.py"


# The checkpoint of the last step beside the one that validation chose, attacked alike.
use rule attack_shard as attack_last with:
    input:
        model=f"{ROBUST}/last.safetensors",
        test=split("test"),
    output:
        shard=f"{ATTACKS}/last/shard{{shard}}.json",
        adversarial=f"{ATTACKS}/last/shard{{shard}}_adversarial.npz",
    log:
        f"{RESULTS}/logs/attack_last/{{dataset}}/{{arm}}/seed{{seed}}/shard{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/attack_last/{{dataset}}/{{arm}}/seed{{seed}}/shard{{shard}}.tsv"


rule gather_attacks:
    input:
        shards=lambda w: attack_files(**w),
        last=lambda w: last_files(**w),
        training=f"{ROBUST}/training.json",
        origin=f"{RESULTS}/{{dataset}}/data/origin.json",
    output:
        evaluation=f"{ATTACKS}/evaluation.json",
        outcomes=f"{ATTACKS}/outcomes.csv",
        outcomes_last=f"{ATTACKS}/outcomes_last.csv",
    log:
        f"{RESULTS}/logs/gather_attacks/{{dataset}}/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/gather_attacks/{{dataset}}/{{arm}}/seed{{seed}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        code=code("gather_attacks"),
        identity=lambda w: PLAN.identity(w.arm, int(w.seed)),
    script:
        "../scripts/gather_attacks.py"


rule extract_features:
    input:
        model=f"{ROBUST}/best.safetensors",
        images=split("test"),
    output:
        features=f"{ROBUST}/features.npz",
    log:
        f"{RESULTS}/logs/extract_features/{{dataset}}/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract_features/{{dataset}}/{{arm}}/seed{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
        gpu=1,
    params:
        code=code("extract_features"),
        classes=setting("classes"),
    script:
        "../scripts/extract_features.py"
