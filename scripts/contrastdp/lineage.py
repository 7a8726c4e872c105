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
        digest.update(_read(path)[1])
    return digest.hexdigest()[:16]


def modules_of(script: str | Path) -> list[Path]:
    """Files of the library that `script` imports at any depth, also inside functions; sorted."""
    library = Path(script).parent / PACKAGE
    waiting, found = [Path(script)], set()
    while waiting:
        for module in _read(waiting.pop())[0]:
            path = library / f"{module}.py"
            if path not in found and path.is_file():
                found.add(path)
                waiting.append(path)
    return sorted(found)


@cache
def _read(path: Path) -> tuple[frozenset[str], bytes]:
    """Names of the library's modules that a file imports, and its code without docstrings.

    Parsed once for both: the parser takes most of the time of a dry run's start.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE + "."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith(PACKAGE + ".")}
        elif isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and ast.get_docstring(node, clean=False):
            node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
    return frozenset(names), f"{path.name}\n{ast.dump(tree)}\n".encode()
