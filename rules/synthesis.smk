# Synthetic images: sampled in shards, labelled, selected.


def sample_inputs(wildcards):
    """The generator's diffusion model, and the feature extractor where it is guided."""
    denoiser = PLAN.generators[wildcards.generator]["denoiser"]
    inputs = {"denoiser": DENOISER.replace("{denoiser}", denoiser)}
    if PLAN.generators[wildcards.generator]["guidance"]:
        inputs["encoder"] = CLASSIFIER.replace("{classifier}", "encoder")
    return {name: path.format(**wildcards) for name, path in inputs.items()}


def shard_edge(offset):
    """Parameter function: first index of the shard `offset` after the wildcard's."""
    return lambda w: (int(w.shard) + offset) * PLAN.datasets[w.dataset]["sampling"]["shard"]


rule sample_images:
    input:
        unpack(sample_inputs),
    output:
        images=SAMPLES,
    params:
        code=code("sample_images"),
        sampler=lambda w: PLAN.sampler(w.dataset, w.generator),
        guidance=lambda w: PLAN.guidance(w.dataset, w.generator),
        shape=image_shape,
        start=shard_edge(0),
        stop=shard_edge(1),
        batch=setting("sampling", "batch"),
        seed=lambda w: int(w.seed),
    log:
        f"{RESULTS}/logs/sample_images/{{dataset}}/{{generator}}/n{{real}}/seed{{seed}}/shard{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sample_images/{{dataset}}/{{generator}}/n{{real}}/seed{{seed}}/shard{{shard}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    script:
        "../scripts/sample_images.py"
