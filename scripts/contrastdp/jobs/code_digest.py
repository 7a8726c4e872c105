"""Which library code a script's result depends on, as one digest.

The digest covers the script and every library module that it imports, directly or through another,
as parsed code without docstrings. So a touched file, a comment or a new docstring changes
nothing, and an edited loss changes every result that used it. How jobs run (contrastdp.jobs)
decides no result: those modules do not count, nor does what is reached through them alone.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = "contrastdp"
UNCOUNTED = "jobs"


def code_digest(script: str | Path) -> str:
    """Digest (16 hex digits) of `script` and of the library modules beside it that it imports."""
    script = Path(script)
    digest = hashlib.sha256()
    for path in [script, *modules_of(script)]:
        digest.update(f"{path.relative_to(script.parent)}\n{_read(path).code}\n".encode())
    return digest.hexdigest()[:16]


def modules_of(script: str | Path) -> list[Path]:
    """Files of the library that decide a script's result, sorted.

    Those that it imports at any depth, also inside functions, but for the package of jobs.
    """
    library = Path(script).parent / PACKAGE
    waiting, found = [Path(script)], set()
    while waiting:
        for name in _read(waiting.pop()).imports:
            path = library.joinpath(*name).with_suffix(".py")
            if name[0] != UNCOUNTED and path not in found and path.is_file():
                found.add(path)
                waiting.append(path)
    return sorted(found)


class _Source(NamedTuple):
    """A file's digest, and what it imports of the library, as parts of dotted names."""

    code: str
    imports: frozenset[tuple[str, ...]]


def _read(path: Path) -> _Source:
    return _parsed(path.read_text(encoding="utf-8"))


@cache
def _parsed(text: str) -> _Source:
    tree = ast.parse(text)
    statements = list(_statements(tree))
    imports = _imports(statements)
    for node in [tree, *statements]:
        body: Any = getattr(node, "body", None)
        documented = isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and ast.get_docstring(node, clean=False)
        if documented:
            body[:1] = [] if len(body) > 1 else [ast.Pass()]
    return _Source(hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements inside a node; their expressions, most of the tree, hold none."""
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        for inner in getattr(node, name, ()):
            yield inner
            yield from _statements(inner)


def _imports(statements: Iterable[ast.AST]) -> frozenset[tuple[str, ...]]:
    """Modules of the library that are imported, and imported names that may be modules."""
    names: set[str] = set()
    for node in statements:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    inside = (name.split(".") for name in names)
    return frozenset(tuple(rest) for package, *rest in inside if package == PACKAGE and rest)
