"""The digest follows imports, sees edits, and overlooks comments and docstrings."""

import shutil

import pytest

from contrastdp.lineage import code_digest, modules_of

LOSS = '"""Doc."""\n\n\ndef loss(x):\n    """Double."""\n    return 2 * x  # twice\n'


@pytest.fixture
def scripts(tmp_path):
    library = tmp_path / "contrastdp"
    library.mkdir()
    (library / "__init__.py").write_text("")
    (library / "loss.py").write_text(LOSS)
    (library / "training.py").write_text("from contrastdp.loss import loss\n")
    (library / "attack.py").write_text("import math\n")
    (tmp_path / "train.py").write_text(
        "def train():\n    from contrastdp import training\n    return training\n"
    )
    (tmp_path / "attack.py").write_text("import contrastdp.attack\n")
    return tmp_path


def digests(folder):
    # a fresh folder for each call, since parsed files are remembered within a process
    return {name: code_digest(folder / f"{name}.py") for name in ("train", "attack")}


def edited(folder, tmp_path_factory, path, text):
    copy = tmp_path_factory.mktemp("edited")
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    (copy / path).write_text(text)
    return digests(copy)


def test_imports_are_followed_through_modules_and_into_functions(scripts):
    names = [path.stem for path in modules_of(scripts / "train.py")]
    assert names == ["loss", "training"]


def test_an_edit_changes_what_imports_it_and_nothing_else(scripts, tmp_path_factory):
    before = digests(scripts)
    after = edited(scripts, tmp_path_factory, "contrastdp/loss.py", LOSS.replace("2 *", "3 *"))
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
    after = edited(scripts, tmp_path_factory, "contrastdp/loss.py", text)
    assert after == digests(scripts)


def test_the_script_itself_counts(scripts, tmp_path_factory):
    after = edited(scripts, tmp_path_factory, "attack.py", "import contrastdp.loss\n")
    assert after["attack"] != digests(scripts)["attack"]
