# Section 3: the Gaussian tables, Proposition 3.2, Theorem 3.4, the toy figures, and the claims.


rule simulate_gaussian:
    input:
        reported="config/reported/gaussian.csv",
    output:
        cells=f"{THEORY}/simulation/cells.csv",
        proposition=f"{THEORY}/simulation/proposition.csv",
        theorem=f"{THEORY}/simulation/theorem.csv",
    log:
        f"{THEORY}/logs/simulate_gaussian/gaussian.log",
    benchmark:
        f"{THEORY}/benchmarks/simulate_gaussian/gaussian.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        **THEORY_SETTINGS["simulate_gaussian"],
        code=code("simulate_gaussian"),
    script:
        "../scripts/simulate_gaussian.py"


rule make_gaussian_table:
    input:
        cells=rules.simulate_gaussian.output.cells,
        reported="config/reported/gaussian.csv",
        version1="config/reported/gaussian_version1.csv",
    output:
        csv=f"{THEORY}/tables/gaussian.csv",
        md=f"{THEORY}/tables/gaussian.md",
        tex=f"{THEORY}/tables/gaussian.tex",
        verdicts_csv=f"{THEORY}/tables/gaussian_verdicts.csv",
        verdicts_md=f"{THEORY}/tables/gaussian_verdicts.md",
        misfits=f"{THEORY}/tables/gaussian_misfits.csv",
    log:
        f"{THEORY}/logs/make_gaussian_table/gaussian.log",
    benchmark:
        f"{THEORY}/benchmarks/make_gaussian_table/gaussian.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        **THEORY_SETTINGS["make_gaussian_table"],
        code=code("make_gaussian_table"),
        geometry=THEORY_SETTINGS["simulate_gaussian"]["geometry"],
        trials=THEORY_SETTINGS["simulate_gaussian"]["trials"],
        test_points=THEORY_SETTINGS["simulate_gaussian"]["test_points"],
    script:
        "../scripts/make_gaussian_table.py"


rule plot_gaussian:
    input:
        proposition=rules.simulate_gaussian.output.proposition,
        theorem=rules.simulate_gaussian.output.theorem,
    output:
        **figure_files(
            cases="proposition_cases", proposition="proposition_errors", theorem="theorem_samples"
        ),
    log:
        f"{THEORY}/logs/plot_gaussian/gaussian.log",
    benchmark:
        f"{THEORY}/benchmarks/plot_gaussian/gaussian.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        **THEORY_SETTINGS["plot_gaussian"],
        code=code("plot_gaussian"),
    script:
        "../scripts/plot_gaussian.py"


rule sample_toy:
    output:
        points_npz=f"{THEORY}/toy/points.npz",
        measures=f"{THEORY}/toy/measures.csv",
        summary=f"{THEORY}/toy/summary.csv",
        training=f"{THEORY}/toy/training.json",
    log:
        f"{THEORY}/logs/sample_toy/toy.log",
    benchmark:
        f"{THEORY}/benchmarks/sample_toy/toy.tsv"
    priority: 1  # one long job: begun late, it would run alone at the end
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        **THEORY_SETTINGS["sample_toy"],
        code=code("sample_toy"),
    script:
        "../scripts/sample_toy.py"


rule plot_toy:
    input:
        points_npz=rules.sample_toy.output.points_npz,
        summary=rules.sample_toy.output.summary,
    output:
        **figure_files(
            figure_2="toy_figure_2",
            figure_6="toy_figure_6",
            figure_7="toy_figure_7",
            spreads="toy_spreads",
        ),
    log:
        f"{THEORY}/logs/plot_toy/toy.log",
    benchmark:
        f"{THEORY}/benchmarks/plot_toy/toy.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        **THEORY_SETTINGS["plot_toy"],
        code=code("plot_toy"),
        mixture=THEORY_SETTINGS["sample_toy"]["mixture"],
    script:
        "../scripts/plot_toy.py"


rule judge_claims:
    input:
        claims="config/claims.yaml",
        evidence=list(EVIDENCE.values()),
    output:
        csv=f"{THEORY}/claims.csv",
        md=f"{THEORY}/claims.md",
    log:
        f"{THEORY}/logs/judge_claims/theory.log",
    benchmark:
        f"{THEORY}/benchmarks/judge_claims/theory.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code("judge_claims"),
        names=list(EVIDENCE),
        scopes=["theory", "toy"],
    script:
        "../scripts/judge_claims.py"
