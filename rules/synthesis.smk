# Synthetic images: sampled in shards, or cut from elsewhere; labelled, selected.


rule sample_images:
    input:
        unpack(sample_inputs),
    output:
        images=f"{SAMPLES}/shard{{shard}}.npz",
    log:
        f"{RESULTS}/logs/sample_images/{{dataset}}/{{generator}}/n{{real}}/seed{{seed}}/shard{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sample_images/{{dataset}}/{{generator}}/n{{real}}/seed{{seed}}/shard{{shard}}.tsv"
    wildcard_constraints:
        generator=one_of(name for name in PLAN.generators if name not in PLAN.external()),
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
        gpu=1,
    params:
        code=code("sample_images"),
        sampler=lambda w: PLAN.sampler(w.dataset, w.generator),
        guidance=lambda w: PLAN.guidance(w.dataset, w.generator),
        shape=image_shape,
        classes=setting("classes"),
        real=lambda w: int(w.real),
        start=edge(setting("sampling", "shard"), 0),
        stop=edge(setting("sampling", "shard"), 1),
        batch=setting("sampling", "batch"),
        execution=setting("sampling", "execution"),
        seed=seed_of,
    script:
        "../scripts/sample_images.py"


rule import_images:
    input:
        source=lambda w: PLAN.generators[w.generator]["images"],
    output:
        images=f"{SAMPLES}/shard{{shard}}.npz",
        origin=f"{SAMPLES}/shard{{shard}}.json",
    log:
        f"{RESULTS}/logs/import_images/{{dataset}}/{{generator}}/n{{real}}/seed{{seed}}/shard{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/import_images/{{dataset}}/{{generator}}/n{{real}}/seed{{seed}}/shard{{shard}}.tsv"
    wildcard_constraints:
        generator=one_of(PLAN.external()),
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        code=code("import_images"),
        shape=lambda w: [image_shape(w)[k] for k in (1, 2, 0)],
        classes=setting("classes"),
        start=edge(setting("sampling", "shard"), 0),
        stop=edge(setting("sampling", "shard"), 1),
        needed=lambda w: PLAN.most_candidates(w.dataset, w.generator, int(w.real)),
    script:
        "../scripts/import_images.py"


rule label_images:
    input:
        images=f"{SAMPLES}/shard{{shard}}.npz",
        labeler=labelling_network,
    output:
        labelled=f"{LABELLED}/shard{{shard}}.npz",
    log:
        f"{RESULTS}/logs/label_images/{{dataset}}/{{generator}}/n{{real}}/seed{{seed}}/shard{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/label_images/{{dataset}}/{{generator}}/n{{real}}/seed{{seed}}/shard{{shard}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
        gpu=1,
    params:
        code=code("label_images"),
        keep_label=lambda w: PLAN.conditional(w.dataset, w.generator),
    script:
        "../scripts/label_images.py"


rule select_images:
    input:
        unpack(select_inputs),
    output:
        images=f"{SELECTED}/images.npz",
    log:
        f"{RESULTS}/logs/select_images/{{dataset}}/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/select_images/{{dataset}}/{{arm}}/seed{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
        gpu=1,
    params:
        code=code("select_images"),
        rule=of_arm("selection"),
        eps=lambda w: PLAN.attack(w.arm)["eps"],
        attack_step=lambda w: PLAN.attack(w.arm)["step"],
        attack_steps=setting("selection", "attack_steps"),
        synthetic=of_arm("synthetic"),
        candidates=lambda w: PLAN.candidates(w.arm),
        classes=setting("classes"),
        real=of_arm("real"),
        seed=seed_of,
    script:
        "../scripts/select_images.py"
