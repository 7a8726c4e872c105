# Section 3: the Gaussian tables, Proposition 3.2, Theorem 3.4, the toy figures, and the claims.
EVIDENCE = {
    "cells": f"{PATHS.theory}/simulation/cells.csv",
    "reported": in_repository("config/reported/gaussian.csv"),
    "proposition": f"{PATHS.theory}/simulation/proposition.csv",
    "theorem": f"{PATHS.theory}/simulation/theorem.csv",
    "verdicts": f"{PATHS.theory}/tables/gaussian_verdicts.csv",
    "toy": f"{PATHS.theory}/toy/measures.csv",
}


rule simulate_gaussian:
    input:
        reported=in_repository("config/reported/gaussian.csv"),
    output:
        cells=f"{PATHS.theory}/simulation/cells.csv",
        proposition=f"{PATHS.theory}/simulation/proposition.csv",
        theorem=f"{PATHS.theory}/simulation/theorem.csv",
    log:
        PATHS.log("simulate_gaussian", "gaussian", root=PATHS.theory),
    benchmark:
        PATHS.benchmark("simulate_gaussian", "gaussian", root=PATHS.theory)
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=30),
    params:
        **THEORY_SETTINGS["simulate_gaussian"],
        code=code("simulate_gaussian"),
    message:
        "Simulates the Gaussian model of section 3"
    script:
        "../scripts/simulate_gaussian.py"


rule make_gaussian_table:
    input:
        cells=rules.simulate_gaussian.output.cells,
        reported=in_repository("config/reported/gaussian.csv"),
        version1=in_repository("config/reported/gaussian_version1.csv"),
    output:
        csv=f"{PATHS.theory}/tables/gaussian.csv",
        md=f"{PATHS.theory}/tables/gaussian.md",
        tex=f"{PATHS.theory}/tables/gaussian.tex",
        verdicts_csv=f"{PATHS.theory}/tables/gaussian_verdicts.csv",
        verdicts_md=f"{PATHS.theory}/tables/gaussian_verdicts.md",
        misfits=f"{PATHS.theory}/tables/gaussian_misfits.csv",
    log:
        PATHS.log("make_gaussian_table", "gaussian", root=PATHS.theory),
    benchmark:
        PATHS.benchmark("make_gaussian_table", "gaussian", root=PATHS.theory)
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=1000, minutes=10),
    params:
        **THEORY_SETTINGS["make_gaussian_table"],
        code=code("make_gaussian_table"),
        geometry=THEORY_SETTINGS["simulate_gaussian"]["geometry"],
        trials=THEORY_SETTINGS["simulate_gaussian"]["trials"],
        test_points=THEORY_SETTINGS["simulate_gaussian"]["test_points"],
    message:
        "Makes the Gaussian tables of section 3"
    script:
        "../scripts/make_gaussian_table.py"


rule plot_gaussian:
    input:
        proposition=rules.simulate_gaussian.output.proposition,
        theorem=rules.simulate_gaussian.output.theorem,
    output:
        **PATHS.theory_figures(
            cases="proposition_cases", proposition="proposition_errors", theorem="theorem_samples"
        ),
    log:
        PATHS.log("plot_gaussian", "gaussian", root=PATHS.theory),
    benchmark:
        PATHS.benchmark("plot_gaussian", "gaussian", root=PATHS.theory)
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=1000, minutes=10),
    params:
        **THEORY_SETTINGS["plot_gaussian"],
        code=code("plot_gaussian"),
    message:
        "Plots Proposition 3.2 and Theorem 3.4"
    script:
        "../scripts/plot_gaussian.py"


rule sample_toy:
    output:
        points_npz=f"{PATHS.theory}/toy/points.npz",
        measures=f"{PATHS.theory}/toy/measures.csv",
        summary=f"{PATHS.theory}/toy/summary.csv",
        training=f"{PATHS.theory}/toy/training.json",
    log:
        PATHS.log("sample_toy", "toy", root=PATHS.theory),
    benchmark:
        PATHS.benchmark("sample_toy", "toy", root=PATHS.theory)
    priority: 1  # one long job: begun late, it would run alone at the end
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **asking(mem_mb=2000, minutes=30),
    params:
        **THEORY_SETTINGS["sample_toy"],
        code=code("sample_toy"),
    message:
        "Trains and samples the toy of section 3"
    script:
        "../scripts/sample_toy.py"


rule plot_toy:
    input:
        points_npz=rules.sample_toy.output.points_npz,
        summary=rules.sample_toy.output.summary,
    output:
        **PATHS.theory_figures(
            figure_2="toy_figure_2",
            figure_6="toy_figure_6",
            figure_7="toy_figure_7",
            spreads="toy_spreads",
        ),
    log:
        PATHS.log("plot_toy", "toy", root=PATHS.theory),
    benchmark:
        PATHS.benchmark("plot_toy", "toy", root=PATHS.theory)
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=1000, minutes=10),
    params:
        **THEORY_SETTINGS["plot_toy"],
        code=code("plot_toy"),
        mixture=THEORY_SETTINGS["sample_toy"]["mixture"],
    message:
        "Plots the toy of section 3"
    script:
        "../scripts/plot_toy.py"


rule judge_claims:
    input:
        claims=in_repository("config/claims.yaml"),
        evidence=list(EVIDENCE.values()),
    output:
        csv=f"{PATHS.theory}/claims.csv",
        md=f"{PATHS.theory}/claims.md",
    log:
        PATHS.log("judge_claims", "theory", root=PATHS.theory),
    benchmark:
        PATHS.benchmark("judge_claims", "theory", root=PATHS.theory)
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **asking(mem_mb=1000, minutes=10),
    params:
        code=code("judge_claims"),
        names=list(EVIDENCE),
        scopes=["theory", "toy"],
    message:
        "Judges the claims of section 3"
    script:
        "../scripts/judge_claims.py"
