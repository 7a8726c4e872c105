"""The reading of imports and rules that the architecture tests rest on."""

import ast
import textwrap

import code_graph

RULES = """
import json
from contrastdp.plan import (
    experiments,  # a comment
    settings,
)

text = "import torch"


rule all:
    input:
        "a",


rule make_a:
    input:
        expand("{x}", x=[1]),
    output:
        csv="a",
    log:
        "a.log",
    threads: 2
    params:
        step=lambda wildcards: {
            "log": 1,
        },
    script:
        "../scripts/make_a.py"


if True:

    checkpoint make_b:
        output:
            "b",
        shell:
            "touch {output}"
"""


def test_imports_of_a_workflow_file(tmp_path):
    file = tmp_path / "some.smk"
    file.write_text(RULES)
    assert code_graph.imports(code_graph.parse(file)) == {
        "json",
        "contrastdp.plan",
        "contrastdp.plan.experiments",
        "contrastdp.plan.settings",
    }


def test_rules_of_a_workflow_file(tmp_path):
    file = tmp_path / "some.smk"
    file.write_text(RULES)
    rules = code_graph.rules([file])
    assert {name: list(rule) for name, rule in rules.items()} == {
        "make_a": ["input", "output", "log", "threads", "params", "script"],
        "make_b": ["output", "shell"],
    }
    assert rules["make_a"]["threads"].strip() == "2"
    assert rules["make_a"]["script"].strip() == '"../scripts/make_a.py"'


def test_imports_inside_functions_count_unless_asked():
    tree = ast.parse(
        textwrap.dedent(
            """
            import numpy as np
            try:
                from . import files
            except ImportError:
                pass

            class Net:
                import scipy

            def late():
                import torch
            """
        )
    )
    early = {"numpy", "scipy", "contrastdp", "contrastdp.files"}
    assert code_graph.imports(tree, at_import=True) == early
    assert code_graph.imports(tree) == early | {"torch"}


def test_reachable_follows_the_library():
    names = code_graph.reachable(code_graph.LIBRARY / "jobs" / "run.py")
    assert {"contrastdp.jobs.gpus", "contrastdp.errors", "tqdm"} <= names
    assert "torch" not in code_graph.packages(names)
