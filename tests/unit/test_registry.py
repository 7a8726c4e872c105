"""Registries: what an entry says of itself, in memory and as the plan reads it from the source."""

import inspect

import pytest
import torch

from contrastdp.errors import InputError
from contrastdp.guidance import build, contrast, protocol
from contrastdp.registry import Registry, declared
from contrastdp.synthesis import scoring

REGISTRIES = {
    ("guidance", "LOSSES"): contrast.LOSSES,
    ("guidance", "PAIRS"): contrast.PAIRS,
    ("guidance", "GUIDANCES"): protocol.GUIDANCES,
    ("synthesis", "RULES"): scoring.RULES,
}


@pytest.mark.parametrize("place", REGISTRIES)
def test_the_source_says_what_python_says(place):
    registry, read = REGISTRIES[place], declared(*place)
    assert read.keys() == registry.keys()
    for name, entry in read.items():
        arguments = inspect.signature(registry[name]).parameters
        assert entry.takes == registry.takes(name) == tuple(arguments)
        required = [k for k, given in arguments.items() if given.default is inspect.Parameter.empty]
        assert list(entry.required) == required
        assert entry.about == registry.about[name]


def test_a_toy_loss_is_built_by_its_name(monkeypatch):
    seen = []

    def toy(pairs, *, tau, strength=2.0):
        seen.append((tau, strength))
        return pairs.similarity.sum()

    monkeypatch.setitem(contrast.LOSSES, "toy", toy)
    guidance = build.build_guidance(lambda x: x, loss="toy", lambda_=1.0, tau=0.3, strength=5.0)
    guidance.loss(contrast.Pairs(*[torch.eye(2)] * 3))
    assert seen == [(0.3, 5.0)]
    with pytest.raises(InputError, match="'toy': missing a required argument: 'tau'"):
        build.build_guidance(lambda x: x, loss="toy", lambda_=1.0)


def test_an_entry_is_found_by_its_name_and_entered_once(tmp_path):
    registry = Registry("colour")

    @registry.enter("red", warm=True)
    def red(*, depth, tone=1):
        return depth + tone

    assert registry.find("red") is red
    assert (registry.takes("red"), registry.about["red"]) == (("depth", "tone"), {"warm": True})
    with pytest.raises(InputError, match="colour 'blue': unknown; known are red"):
        registry.find("blue")
    with pytest.raises(ValueError, match="'red' is entered twice"):
        registry.enter("red")


def test_functions_and_dataclasses_are_read_without_importing_them(tmp_path):
    (tmp_path / "wing").mkdir()
    (tmp_path / "wing" / "module.py").write_text(
        "import nothing_of_that_name\n"
        "@COLOURS.enter('red', warm=True)\ndef red(a, b=1, *, c, d=None): ...\n"
        "@COLOURS.enter('blue')\n@dataclass\nclass Blue:\n    x: int\n    y: int = 0\n    z = 1\n"
        "@OTHERS.enter('green')\ndef green(): ...\n"
        "def helper(): ...\n"
    )
    found = declared("wing", "COLOURS", tmp_path)
    assert list(found) == ["red", "blue"]
    assert (found["red"].takes, found["red"].required) == (("a", "b", "c", "d"), ("a", "c"))
    assert found["red"].about == {"warm": True}
    assert (found["blue"].takes, found["blue"].required) == (("x", "y"), ("x",))
