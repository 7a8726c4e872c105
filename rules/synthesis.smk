# Synthetic images: sampled in shards, or cut from elsewhere; labelled, selected, measured, traced.


rule sample_images:
    input:
        unpack(NEEDS.sampling),
    output:
        images=f"{PATHS.samples}/shard{{shard}}.npz",
    log:
        PATHS.log("sample_images", "{dataset}/{generator}/n{real}/seed{seed}/shard{shard}"),
    benchmark:
        PATHS.benchmark("sample_images", "{dataset}/{generator}/n{real}/seed{seed}/shard{shard}")
    wildcard_constraints:
        generator=one_of(name for name in PLAN.generators if name not in PLAN.external()),
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=60, gpu=1),
    params:
        code=code("sample_images"),
        sampler=lambda w: PLAN.sampler(w.dataset, w.generator),
        guidance=lambda w: PLAN.guidance(w.dataset, w.generator),
        shape=image_shape,
        classes=setting("classes"),
        real=lambda w: int(w.real),
        start=edge(setting("sampling", "shard"), 0),
        stop=lambda w: PLAN.sampled_until(w.dataset, w.generator, int(w.real), int(w.shard)),
        batch=setting("sampling", "batch"),
        execution=setting("sampling", "execution"),
        seed=seed_of,
    message:
        "Samples shard {wildcards.shard} of {wildcards.generator} for {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/sample_images.py"


rule import_images:
    input:
        source=one_line(external_images),
    output:
        images=f"{PATHS.samples}/shard{{shard}}.npz",
        origin=f"{PATHS.samples}/shard{{shard}}.json",
    log:
        PATHS.log("import_images", "{dataset}/{generator}/n{real}/seed{seed}/shard{shard}"),
    benchmark:
        PATHS.benchmark("import_images", "{dataset}/{generator}/n{real}/seed{seed}/shard{shard}")
    wildcard_constraints:
        generator=one_of(PLAN.external()),
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=1000, minutes=30),
    params:
        code=code("import_images"),
        shape=lambda w: [image_shape(w)[k] for k in (1, 2, 0)],
        classes=setting("classes"),
        start=edge(setting("sampling", "shard"), 0),
        stop=edge(setting("sampling", "shard"), 1),
        needed=lambda w: PLAN.most_candidates(w.dataset, w.generator, int(w.real)),
    message:
        "Cuts shard {wildcards.shard} of {wildcards.generator} for {wildcards.dataset} from images from elsewhere"
    script:
        "../scripts/import_images.py"


rule label_images:
    input:
        images=f"{PATHS.samples}/shard{{shard}}.npz",
        labeler=NEEDS.labeler,
    output:
        labelled=f"{PATHS.labelled}/shard{{shard}}.npz",
    log:
        PATHS.log("label_images", "{dataset}/{generator}/n{real}/seed{seed}/shard{shard}"),
    benchmark:
        PATHS.benchmark("label_images", "{dataset}/{generator}/n{real}/seed{seed}/shard{shard}")
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=30, gpu=1),
    params:
        code=code("label_images"),
        conditional=lambda w: PLAN.conditional(w.dataset, w.generator),
    message:
        "Labels shard {wildcards.shard} of {wildcards.generator} for {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/label_images.py"


rule select_images:
    input:
        unpack(NEEDS.selecting),
    output:
        images=f"{PATHS.selected}/images.npz",
    log:
        PATHS.log("select_images", "{dataset}/{arm}/seed{seed}"),
    benchmark:
        PATHS.benchmark("select_images", "{dataset}/{arm}/seed{seed}")
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=30, gpu=1),
    params:
        code=code("select_images"),
        rule=of_arm("selection"),
        eps=lambda w: PLAN.threat(w.arm)["eps"],
        step_size=lambda w: PLAN.threat(w.arm)["step_size"],
        attack_steps=setting("selection", "attack_steps"),
        synthetic=of_arm("synthetic"),
        candidates=lambda w: PLAN.candidates(w.arm),
        classes=setting("classes"),
        real=of_arm("real"),
        seed=seed_of,
    message:
        "Selects the synthetic images of arm {wildcards.arm} of {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/select_images.py"


rule measure_samples:
    input:
        unpack(NEEDS.measuring),
    output:
        measures=f"{PATHS.quality}.json",
    log:
        PATHS.log("measure_samples", "{dataset}/{generator}/n{real}/seed{seed}"),
    benchmark:
        PATHS.benchmark("measure_samples", "{dataset}/{generator}/n{real}/seed{seed}")
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=4000, minutes=60, gpu=1),
    params:
        code=code("measure_samples"),
        identity=lambda w: identity(w, "dataset", "generator", real=int(w.real)),
        settings=setting("quality"),
    message:
        "Measures images of {wildcards.generator} for {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/measure_samples.py"


# Generators of measured.tsv, whose images are measured and not trained on.
use rule measure_samples as measure_generator with:
    input:
        unpack(NEEDS.measuring_row),
    output:
        measures=f"{PATHS.measured}.json",
    log:
        PATHS.log("measure_generator", "{dataset}/{generator}/n{real}/seed{seed}"),
    benchmark:
        PATHS.benchmark("measure_generator", "{dataset}/{generator}/n{real}/seed{seed}")
    params:
        code=code("measure_samples"),
        identity=lambda w: identity(w, "dataset", "generator", real=int(w.real)),
        settings=lambda w: PLAN.measuring(w.dataset, w.generator, int(w.real)),
    message:
        "Measures images of generator {wildcards.generator} for {wildcards.dataset}, seed {wildcards.seed}"


rule measure_gradients:
    input:
        unpack(NEEDS.gradients),
    output:
        measures=f"{PATHS.gradients}/measures.json",
    log:
        PATHS.log("measure_gradients", "{dataset}/n{real}/seed{seed}"),
    benchmark:
        PATHS.benchmark("measure_gradients", "{dataset}/n{real}/seed{seed}")
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=4000, minutes=60, gpu=1),
    params:
        code=code("measure_gradients"),
        identity=lambda w: identity(w, "dataset", real=int(w.real)),
        settings=setting("gradients"),
        classes=setting("classes"),
    message:
        "Measures gradients of two classifiers for {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/measure_gradients.py"


rule picture_gradients:
    input:
        unpack(NEEDS.picturing),
    output:
        pictures=f"{PATHS.gradients}/pictures.npz",
    log:
        PATHS.log("picture_gradients", "{dataset}/n{real}/seed{seed}"),
    benchmark:
        PATHS.benchmark("picture_gradients", "{dataset}/n{real}/seed{seed}")
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=60, gpu=1),
    params:
        code=code("picture_gradients"),
        sampling=lambda w: PLAN.pictured(w.dataset),
        settings=setting("gradients"),
        classes=setting("classes"),
        seed=seed_of,
    message:
        "Makes pictures of gradients for {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/picture_gradients.py"


rule trace_image:
    input:
        unpack(NEEDS.tracing),
    output:
        json=f"{PATHS.trace}.json",
        png=f"{PATHS.trace}.png",
    log:
        PATHS.log("trace_image", "{dataset}/{arm}/seed{seed}/image{image}"),
    benchmark:
        PATHS.benchmark("trace_image", "{dataset}/{arm}/seed{seed}/image{image}")
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=30, gpu=1),
    params:
        code=asked_now("trace_image"),
        identity=lambda w: PLAN.trace_identity(w.arm, int(w.seed), int(w.image)),
        settings=lambda w: PLAN.sampling(
            w.dataset, PLAN.arms[w.arm]["generator"], PLAN.arms[w.arm]["real"]
        ),
        reads=lambda w: PLAN.guidance_files(w.dataset, PLAN.arms[w.arm]["generator"]),
    message:
        "Traces image {wildcards.image} of arm {wildcards.arm} of {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/trace_image.py"
