"""Registries: what may be chosen by name, each entry one function or class that says what it takes.

An entry's arguments are its settings and inputs, and nothing else lists its name. The plan of a run
may not import torch, so it reads the same entries from the source (`declared`).
"""

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from contrastdp.errors import InputError

Entry = TypeVar("Entry", bound=Callable[..., Any])
LIBRARY = Path(__file__).parent


class Registry(dict[str, Callable[..., Any]]):
    """Entries by name. `about` holds what an entry says of itself beside its arguments."""

    def __init__(self, what: str):
        """what: a word for an entry, as messages have it."""
        super().__init__()
        self.what = what
        self.about: dict[str, dict[str, Any]] = {}

    def enter(self, name: str, **about: Any) -> Callable[[Entry], Entry]:
        """Decorator of a function or class: enter it under `name`. about: literals alone."""
        if name in self:
            raise ValueError(f"{self.what} '{name}' is entered twice")

        def entered(entry: Entry) -> Entry:
            self[name], self.about[name] = entry, about
            return entry

        return entered

    def find(self, name: str) -> Callable[..., Any]:
        """The entry of that name; InputError names the known ones."""
        if name not in self:
            raise InputError(f"{self.what} '{name}': unknown; known are {', '.join(self)}")
        return self[name]

    def make(self, name: str, **settings: Any) -> Any:
        """What the entry of that name gives for its settings.

        Raises InputError for an unknown name, and for a setting that it lacks or does not take.
        """
        entry = self.find(name)
        try:
            return entry(**settings)
        except TypeError as error:
            raise InputError(f"{self.what} '{name}': {error}; correct it") from None

    def takes(self, name: str) -> tuple[str, ...]:
        """Names of an entry's arguments, in order."""
        return tuple(inspect.signature(self.find(name)).parameters)


@dataclass(frozen=True)
class Declared:
    """An entry as its source has it: its arguments, those without a default, and its `about`."""

    takes: tuple[str, ...]
    required: tuple[str, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


@cache
def declared(wing: str, registry: str, library: Path = LIBRARY) -> dict[str, Declared]:
    """The entries of a registry, read from the modules of a wing without importing them.

    An entry is a function or a dataclass under the decorator `@<registry>.enter(<name>, ...)`.
    """
    found = {}
    for path in sorted((library / wing).glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and ast.unparse(call.func) == f"{registry}.enter":
                    about = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
                    found[ast.literal_eval(call.args[0])] = Declared(*_arguments(node), about)
    return found


def _arguments(node: ast.FunctionDef | ast.ClassDef) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Arguments of a function or a dataclass, and those of them without a default."""
    if isinstance(node, ast.ClassDef):
        fields = [
            (statement.target.id, statement.value)
            for statement in node.body
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        ]
    else:
        given = node.args
        either = [*given.posonlyargs, *given.args]
        defaults = [None] * (len(either) - len(given.defaults)) + given.defaults
        pairs = [*zip(either, defaults, strict=True)]
        pairs += zip(given.kwonlyargs, given.kw_defaults, strict=True)
        fields = [(argument.arg, default) for argument, default in pairs]
    return tuple(name for name, _ in fields), tuple(name for name, value in fields if value is None)
