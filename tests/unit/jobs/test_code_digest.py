"""The digest follows imports, sees edits, and overlooks comments, docstrings and how jobs run."""

import shutil
import sys

import code_graph
import pytest

from contrastdp.jobs.code_digest import code_digest, modules_of

LOSS = '"""Doc."""\n\n\ndef loss(x):\n    """Double."""\n    return 2 * x  # twice\n'


@pytest.fixture
def scripts(tmp_path):
    library = tmp_path / "contrastdp"
    texts = {
        "__init__": "",
        "training/__init__": '"""Doc."""\n',
        "training/loss": LOSS,
        "training/robust": "from contrastdp.training.loss import loss\n",
        "attack/__init__": "",
        "attack/pgd": "import math\n",
        "jobs/__init__": "",
        "jobs/run": "from contrastdp.jobs import gpus\nfrom contrastdp.errors import InputError\n",
        "jobs/gpus": "GPUS = 2\n",
        "errors": "class InputError(ValueError): ...\n",
    }
    for name, text in texts.items():
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / f"{name}.py").write_text(text)
    (tmp_path / "train.py").write_text(
        "from contrastdp.jobs.run import run\n\n"
        "def train():\n    from contrastdp.training import robust\n    return robust\n"
    )
    (tmp_path / "attack.py").write_text("import contrastdp.attack.pgd\n")
    return tmp_path


def digests(folder):
    return {name: code_digest(folder / f"{name}.py") for name in ("train", "attack")}


def edited(folder, tmp_path_factory, path, text):
    copy = tmp_path_factory.mktemp("edited")
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    (copy / path).write_text(text)
    return digests(copy)


def test_imports_are_followed_through_modules_and_into_functions(scripts):
    library = scripts / "contrastdp" / "training"
    assert modules_of(scripts / "train.py") == [library / "loss.py", library / "robust.py"]


def test_an_edit_changes_what_imports_it_and_nothing_else(scripts, tmp_path_factory):
    before = digests(scripts)
    path = "contrastdp/training/loss.py"
    after = edited(scripts, tmp_path_factory, path, LOSS.replace("2 *", "3 *"))
    assert after["train"] != before["train"]
    assert after["attack"] == before["attack"]


@pytest.mark.parametrize(
    "text",
    [
        LOSS.replace("# twice", "# two times"),
        LOSS.replace("Double.", "Two times x."),
        LOSS.replace('    """Double."""\n', ""),
        LOSS.replace('"""Doc."""', ""),
        LOSS.replace("return 2 * x", "return (2 * x)"),
    ],
)
def test_comments_docstrings_and_layout_change_nothing(scripts, tmp_path_factory, text):
    assert text != LOSS
    after = edited(scripts, tmp_path_factory, "contrastdp/training/loss.py", text)
    assert after == digests(scripts)


def test_how_jobs_run_does_not_count_nor_what_is_reached_through_it(scripts, tmp_path_factory):
    for path in ("contrastdp/jobs/gpus.py", "contrastdp/jobs/run.py", "contrastdp/errors.py"):
        assert edited(scripts, tmp_path_factory, path, "GPUS = 3\n") == digests(scripts)


def test_the_script_itself_counts(scripts, tmp_path_factory):
    text = "import contrastdp.training.loss\n"
    after = edited(scripts, tmp_path_factory, "attack.py", text)
    assert after["attack"] != digests(scripts)["attack"]


@pytest.mark.parametrize(
    "block",
    [
        "if x:\n    {}",
        "if x:\n    ...\nelse:\n    {}",
        "for a in x:\n    ...\nelse:\n    with x:\n        {}",
        "try:\n    {}\nfinally:\n    ...",
        "try:\n    ...\nexcept ImportError:\n    {}",
        "try:\n    ...\nfinally:\n    while x:\n        {}",
        "match x:\n    case 1:\n        {}",
        "class A:\n    async def f(self):\n        {}",
    ],
)
def test_imports_are_found_in_every_block(scripts, block):
    statement = "import contrastdp.training.loss"
    (scripts / "train.py").write_text(block.format(statement))
    assert [path.stem for path in modules_of(scripts / "train.py")] == ["loss"]


# ---------------------------------------------------------------- in this repository
@pytest.fixture(scope="module")
def reruns(tmp_path_factory):
    """A function: the rules whose digest changes with a line more in these modules.

    rules: those that count, all where it is None.
    """
    copy = tmp_path_factory.mktemp("repository") / "scripts"
    unread = shutil.ignore_patterns("__pycache__")
    shutil.copytree(code_graph.ROOT / "scripts", copy, ignore=unread)
    before = {path.stem: code_digest(copy / path.name) for path in code_graph.script_files()}

    def changed(*modules, rules=None):
        texts = {path: path.read_text(encoding="utf-8") for path in map(file, modules)}
        for path, text in texts.items():
            path.write_text(text + "\n\nEDITED = 1\n", encoding="utf-8")
        asked = before if rules is None else rules
        found = {rule for rule in asked if code_digest(copy / f"{rule}.py") != before[rule]}
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        return found

    def file(module):
        return copy / "contrastdp" / f"{module}.py"

    return changed


@pytest.mark.parametrize(
    ("module", "rules"),
    [
        ("training/losses", {"train_robust"}),
        ("guidance/contrast", {"sample_images", "sample_toy", "trace_image", "picture_gradients"}),
        ("attack/gate", {"attack_shard", "audit_network", "validate_network"}),
        ("theory/toy_measures", {"sample_toy", "plot_toy", "judge_claims", "gather_claims"}),
        ("report/quality_table", {"make_quality_table"}),
    ],
)
def test_an_edited_module_reruns_these_rules_and_no_others(reruns, module, rules):
    assert reruns(module) == rules


def test_what_decides_no_result_reruns_nothing_and_all_else_something(reruns):
    modules, readers = [], {}
    for path in code_graph.library_files():
        modules.append(str(path.relative_to(code_graph.LIBRARY).with_suffix("")))
    for script in code_graph.script_files():
        for path in modules_of(script):
            readers[str(path.relative_to(code_graph.LIBRARY).with_suffix(""))] = script.stem
    idle = set(modules) - readers.keys()
    assert reruns(*idle) == set()
    for module, rule in readers.items():
        assert reruns(module, rules=[rule]) == {rule}, module
    packages = {name for name in modules if name.endswith("__init__")}
    without = {name for name in modules if name.split("/")[0] in {"jobs", "plan", "cost"}}
    # of no rule: what users import, and what the table of flops is computed by
    assert idle - packages - without <= {"diffusion/pipeline"}
    assert without <= idle


# ---------------------------------------------------------------- what may stay uncounted
def test_jobs_import_nothing_that_decides_a_result():
    """Of the library: errors, files and streams beside themselves; of others, these."""
    allowed = {"torch", "tqdm", "numpy"} | set(sys.stdlib_module_names)
    for path in sorted((code_graph.LIBRARY / "jobs").glob("*.py")):
        for name in code_graph.imports(code_graph.parse(path)):
            package, *parts = name.split(".")
            if package == "contrastdp":
                assert parts[:1] in ([], ["jobs"], ["errors"], ["files"], ["streams"]), path
            else:
                assert package in allowed, path
