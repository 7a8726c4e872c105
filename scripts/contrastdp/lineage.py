"""Which library code a script's result depends on, as one digest.

The digest covers the script and every library module that it imports, directly or through another,
as parsed code without docstrings. So a touched file, a comment or a new docstring changes
nothing, and an edited loss changes every result that used it.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "contrastdp"


def code_digest(script: str | Path) -> str:
    """Digest (16 hex digits) of `script` and of the library modules beside it that it imports."""
    script = Path(script)
    digest = hashlib.sha256()
    for path in [script, *modules_of(script)]:
        digest.update(_code(path))
    return digest.hexdigest()[:16]


def modules_of(script: str | Path) -> list[Path]:
    """Files of the library that `script` imports at any depth, also inside functions; sorted."""
    library = Path(script).parent / PACKAGE
    waiting, found = [Path(script)], set()
    while waiting:
        for module in _imports(waiting.pop()):
            path = library / f"{module}.py"
            if path.is_file() and path not in found:
                found.add(path)
                waiting.append(path)
    return sorted(found)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def _imports(path: Path) -> frozenset[str]:
    """Names of the library's modules that a file imports."""
    names = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE + "."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith(PACKAGE + ".")}
    return frozenset(names)


@cache
def _code(path: Path) -> bytes:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        documented = isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and ast.get_docstring(node, clean=False)
        if documented:
            body[:1] = [] if len(body) > 1 else [ast.Pass()]
    return f"{path.name}\n{ast.dump(tree)}\n".encode()
