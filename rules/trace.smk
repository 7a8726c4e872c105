# Lineage: where one synthetic image comes from, and that it can be made again.


rule trace_image:
    input:
        unpack(trace_inputs),
    output:
        json=f"{TRACE}.json",
        png=f"{TRACE}.png",
    log:
        f"{RESULTS}/logs/trace_image/{{dataset}}/{{arm}}/seed{{seed}}/image{{image}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/trace_image/{{dataset}}/{{arm}}/seed{{seed}}/image{{image}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
        gpu=1,
    params:
        code=asked_now("trace_image"),
        identity=trace_identity,
        settings=traced_generator,
        reads=lambda w: PLAN.guidance_files(w.dataset, PLAN.arms[w.arm]["generator"]),
    script:
        "../scripts/trace_image.py"
