"""The arrows of the design, kept by reading the source: who imports what, which names agree.

`make lint` keeps those between the library's modules ([tool.importlinter] in pyproject.toml).
"""

import ast
import os
import re
import subprocess
import sys

import code_graph
import pytest
from code_graph import ROOT

REPORTING = ("gather_", "judge_", "make_", "plot_", "simulate_", "write_")
DUSTBINS = {"common", "core", "helpers", "misc", "util", "utils"}


def shown(path):
    return str(path.relative_to(ROOT))


def script_names():
    return {path.stem for path in code_graph.script_files()}


def runnable_files():
    return [*code_graph.script_files(), *code_graph.program_files()]


@pytest.fixture(scope="module")
def tracked():
    """Files under version control or about to be; every text file where this is no checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    if not names:
        hidden = {".git", ".venv", ".snakemake", "results", "__pycache__"}
        for folder, folders, files in os.walk(ROOT):
            folders[:] = [name for name in folders if name not in hidden]
            names += [os.path.relpath(os.path.join(folder, name), ROOT) for name in files]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


# ---------------------------------------------------------------- who may import what
def test_library_reads_no_environment_variables():
    faults = []
    for path in code_graph.library_files():
        nodes = list(ast.walk(code_graph.parse(path)))
        # os.environ["X"] = ... tells CUDA and others; it reads nothing
        told = {
            id(node.value)
            for node in nodes
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
        }
        faults += [
            f"{shown(path)}:{node.lineno}"
            for node in nodes
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
            if id(node) not in told
        ]
    assert not faults


def test_nothing_imports_a_script():
    faults = [
        f"{shown(path)} imports {name}"
        for path in [*code_graph.library_files(), *runnable_files()]
        for name in code_graph.packages(code_graph.imports(code_graph.parse(path)))
        if name in script_names() | {*code_graph.PROGRAMS}
    ]
    assert not faults


def test_workflow_never_imports_torch():
    # A dry run passes through these, so what a function imports when called counts as well.
    faults = [
        shown(path)
        for path in code_graph.workflow_files()
        if "torch" in code_graph.packages(code_graph.reachable(path))
    ]
    assert not faults


def test_reporting_scripts_never_import_torch():
    scripts = [path for path in code_graph.script_files() if path.stem.startswith(REPORTING)]
    assert scripts
    faults = [
        shown(path)
        for path in scripts
        if code_graph.packages(code_graph.reachable(path)) & {"torch", "diffusers"}
    ]
    assert not faults


# ---------------------------------------------------------------- one rule, one script, one name
def test_rule_script_and_function_bear_one_name():
    rules = code_graph.rules()
    assert set(rules) == script_names()
    faults = [
        f"rule {name}: script is {rule.get('script', '').strip()}"
        for name, rule in rules.items()
        if rule.get("script", "").strip() != f'"../scripts/{name}.py"'
    ]
    assert not faults


def test_script_holds_one_public_function_of_its_name():
    faults = []
    for path in code_graph.script_files():
        functions = [
            node.name
            for node in code_graph.parse(path).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        ]
        if functions != [path.stem]:
            faults.append(f"{shown(path)} defines {', '.join(functions) or 'nothing'}")
    assert not faults


def test_script_function_takes_keywords_alone():
    faults = []
    for path in code_graph.script_files():
        for node in code_graph.parse(path).body:
            if isinstance(node, ast.FunctionDef) and node.name == path.stem:
                given = node.args
                loose = [*given.posonlyargs, *given.args, given.vararg, given.kwarg]
                if any(loose) or not given.kwonlyargs:
                    faults.append(shown(path))
    assert not faults


def test_script_ends_by_running_its_function_as_a_job():
    faults = []
    for path in code_graph.script_files():
        body = code_graph.parse(path).body
        outside = [node for node in body[:-1] if "snakemake" in _names(node)]
        last = ast.unparse(body[-1])
        if outside or last != f"if 'snakemake' in globals():\n    run({path.stem}, snakemake)":
            faults.append(shown(path))
    assert not faults


def _names(tree):
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_scripts_are_short():
    lines = {shown(p): len(p.read_text().splitlines()) for p in code_graph.script_files()}
    assert {name: count for name, count in lines.items() if count > 75} == {}


def test_programs_are_short_and_need_what_they_say_alone():
    for path in code_graph.program_files():
        assert len(path.read_text().splitlines()) <= 120
        needed = code_graph.packages(code_graph.reachable(path)) - sys.stdlib_module_names
        assert needed == code_graph.PROGRAMS[path.stem]


def test_rules_say_what_they_need():
    rules = code_graph.rules()
    assert rules
    wanted = {"log", "benchmark", "conda", "threads", "resources"}
    faults = {name: sorted(wanted - rule.keys()) for name, rule in rules.items()}
    assert {name: missing for name, missing in faults.items() if missing} == {}


# ---------------------------------------------------------------- what no file may hold
def test_no_dustbin_modules():
    python = [*(ROOT / "scripts").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    rules = [path for path in code_graph.workflow_files() if shown(path) != "rules/common.smk"]
    assert [shown(path) for path in [*python, *rules] if path.stem in DUSTBINS] == []


def test_nothing_is_loaded_that_can_run_code_or_hide_a_mismatch():
    faults = []
    for path in [*code_graph.library_files(), *runnable_files()]:
        tree = code_graph.parse(path)
        pickles = {"cloudpickle", "dill", "joblib", "pickle", "shelve"}
        faults += [
            f"{shown(path)} imports {name}"
            for name in code_graph.packages(code_graph.imports(tree)) & pickles
        ]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (why := _unsafe(node)):
                faults.append(f"{shown(path)}:{node.lineno} {why}")
    assert not faults


def _unsafe(call):
    """Why a call is unsafe, or None."""
    function = ast.unparse(call.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if given.get("allow_pickle", "False") != "False":
        return "allows pickle"
    if function in {"torch.load", "load"} and given.get("weights_only") != "True":
        return "loads without weights_only=True"
    if given.get("strict", "True") != "True" and function != "zip":
        return "loads with strict=False"
    if function.endswith(("read_pickle", "yaml.load", "yaml.unsafe_load")):
        return f"calls {function}"
    return None


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("torch.load(p)", "loads without weights_only=True"),
        ("torch.load(p, weights_only=True)", None),
        ("np.load(p, allow_pickle=True)", "allows pickle"),
        ("np.load(p, allow_pickle=False)", None),
        ("net.load_state_dict(s, strict=False)", "loads with strict=False"),
        ("zip(a, b, strict=False)", None),
        ("yaml.load(f)", "calls yaml.load"),
    ],
)
def test_unsafe_calls_are_recognised(call, why):
    assert _unsafe(ast.parse(call, mode="eval").body) == why


OPENERS = {"open", "read_text", "write_text", "fdopen", "FileHandler"}


def _silent(call):
    """Whether a call reads or writes text in the encoding that the caller's environment names."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if given.get("text") == "True" or given.get("universal_newlines") == "True":
        return "encoding" not in given
    owner = ast.unparse(getattr(call.func, "value", call.func))
    modes = [*(ast.unparse(argument) for argument in call.args), given.get("mode", "")]
    if name == "open" and owner not in {"open", "Path"} and not owner.startswith("Path("):
        return False  # of an archive, a picture, a descriptor
    binary = any(re.search(r"'[rwax]?b[+]?'", mode) for mode in modes)
    return name in OPENERS and "encoding" not in given and not binary


@pytest.mark.parametrize(
    ("call", "silent"),
    [
        ("open(p)", True),
        ("open(p, 'rb')", False),
        ("open(p, encoding='utf-8')", False),
        ("Path(p).open()", True),
        ("p.read_text()", True),
        ("p.read_text(encoding='utf-8')", False),
        ("subprocess.run(c, text=True)", True),
        ("subprocess.run(c, encoding='utf-8')", False),
        ("gzip.open(p)", False),
    ],
)
def test_a_call_that_names_no_encoding_is_recognised(call, silent):
    assert _silent(ast.parse(call, mode="eval").body) == silent


def test_text_is_read_and_written_in_an_encoding_that_is_named():
    faults = []
    own = {"read_text", "write_text"}  # of contrastdp.files
    for path in [*code_graph.library_files(), *runnable_files()]:
        faults += [
            f"{shown(path)}:{node.lineno}"
            for node in ast.walk(code_graph.parse(path))
            if isinstance(node, ast.Call) and _silent(node)
            if not (isinstance(node.func, ast.Name) and node.func.id in own)
        ]
    assert not faults


def test_no_path_of_one_machine(tracked):
    machine = re.compile(r"(?<![\w.])/(?:work|home|Users|root)/\w")
    faults = []
    for path in tracked:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        faults += [f"{shown(path)}: {found[0]}" for found in machine.finditer(text)]
    assert not faults


# ---------------------------------------------------------------- documentation
def test_public_functions_of_the_library_are_documented():
    faults = []
    for path in code_graph.library_files():
        tree = code_graph.parse(path)
        if not ast.get_docstring(tree):
            faults.append(shown(path))
        faults += [
            f"{shown(path)}: {node.name}"
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ]
    assert not faults


def test_scripts_are_documented():
    faults = [
        shown(path)
        for path in code_graph.script_files()
        if not all(
            ast.get_docstring(node)
            for node in ast.walk(code_graph.parse(path))
            if isinstance(node, ast.Module)
            or (isinstance(node, ast.FunctionDef) and node.name == path.stem)
        )
    ]
    assert not faults
