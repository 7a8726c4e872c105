"""What imports what in this repository, read from the source without running it."""

import ast
import io
import re
import tokenize
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "scripts" / "contrastdp"
# For a person to run, by hand and elsewhere, of no rule; with what each needs beside Python.
PROGRAMS = {
    "check_command": {"contrastdp", "numpy", "yaml"},
    "plan_run": {
        *("contrastdp", "diffusers", "huggingface_hub", "jsonschema", "numpy", "pandas"),
        *("pyautoattack", "safetensors", "scipy", "statsmodels", "torch", "yaml"),
    },
    "show_settings": {"contrastdp", "jsonschema", "numpy", "yaml"},
    # diffusers where it builds a time_unet, which no robust network is
    "verify_adversarials": {"contrastdp", "diffusers", "numpy", "torch"},
    "why_failed": set(),
}


def library_files() -> list[Path]:
    """The library's modules."""
    return sorted(LIBRARY.rglob("*.py"))


def script_files() -> list[Path]:
    """The scripts, one a rule."""
    return sorted(p for p in (ROOT / "scripts").glob("*.py") if p.stem not in PROGRAMS)


def program_files() -> list[Path]:
    """The programs beside the scripts."""
    return [ROOT / "scripts" / f"{name}.py" for name in PROGRAMS]


def workflow_files() -> list[Path]:
    """The Snakefile and what it includes."""
    return [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]


def parse(path: Path) -> ast.Module:
    """The syntax tree of a Python file; of a Snakemake file, of its import statements alone."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return ast.parse(text, str(path))
    return ast.parse("\n".join(_import_statements(text)))


def _import_statements(text: str) -> list[str]:
    """The import statements of a Snakemake file, which is Python only token by token."""
    statements, line = [], []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
            if line and line[0] in ("import", "from"):
                statements.append(" ".join(line))
            line = []
        elif token.type not in (
            tokenize.NL,
            tokenize.COMMENT,
            tokenize.INDENT,
            tokenize.DEDENT,
        ):
            line.append(token.string)
    return statements


def imports(tree: ast.AST, *, at_import: bool = False) -> set[str]:
    """Dotted names that a syntax tree imports; at_import: only those that importing it runs."""
    found: set[str] = set()
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = ".".join(filter(None, ("contrastdp", module)))
            found.add(module)
            # `from contrastdp.data import images` names a module, `from contrastdp.data.images
            # import read_images` does not.
            names = (f"{module}.{alias.name}" for alias in node.names)
            found |= {name for name in names if len(_files(name)) == len(name.split("."))}
        if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        todo += ast.iter_child_nodes(node)
    return found


def reachable(path: Path, *, at_import: bool = False) -> set[str]:
    """Dotted names that a file imports, directly or through modules of contrastdp."""
    found: set[str] = set()
    todo, seen = [path], set()
    while todo:
        file = todo.pop()
        if file in seen:
            continue
        seen.add(file)
        names = imports(parse(file), at_import=at_import)
        found |= names
        for name in names:
            todo += _files(name)
    return found


def _files(name: str) -> list[Path]:
    """Files that importing a dotted name of the library runs: its packages, then its module."""
    package, *parts = name.split(".")
    if package != "contrastdp":
        return []
    places = [LIBRARY.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    files = (file for place in places for file in (place / "__init__.py", place.with_suffix(".py")))
    return [file for file in files if file.is_file()]


def packages(names: set[str]) -> set[str]:
    """The top-level packages of dotted names."""
    return {name.split(".")[0] for name in names}


@cache
def rule_names() -> set[str]:
    """Every rule of the workflow, those that take over another one among them."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in workflow_files())
    named = (r"^rule (\w+):", r"^use rule \w+ as (\w+) with:")
    return {name for words in named for name in re.findall(words, text, re.MULTILINE)}


def rules(files: Iterable[Path] | None = None) -> dict[str, dict[str, str]]:
    """Each rule that runs something, of the whole workflow or of `files`: directive -> its text.

    Reads the layout that snakefmt keeps: one directive a line, four spaces deeper than its rule.
    """
    found: dict[str, dict[str, str]] = {}
    for file in files if files is not None else workflow_files():
        rule = directive = None
        for line in file.read_text(encoding="utf-8").splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            depth = len(line) - len(line.lstrip())
            header = re.match(r"\s*(?:rule|checkpoint) (\w+):", line)
            if header:
                rule, start, directive = found.setdefault(header[1], {}), depth, None
            elif rule is not None and depth <= start:
                rule = None
            elif rule is not None and depth == start + 4:
                key = re.match(r"\s*(\w+):(.*)", line)
                if key:
                    directive = key[1]
                    rule[directive] = key[2]
                elif directive:
                    rule[directive] += line
            elif rule is not None and directive:
                rule[directive] += line + "\n"
    actions = {"script", "shell", "run", "notebook", "wrapper"}
    return {name: rule for name, rule in found.items() if actions & rule.keys()}
