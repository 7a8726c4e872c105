"""What all figures share."""

import os
import subprocess

import code_graph
import pytest

from contrastdp.errors import InputError
from contrastdp.report.figures import COLOURS, MARKERS, told_apart


@pytest.mark.parametrize("among", [COLOURS, MARKERS])
def test_every_line_has_a_look_of_its_own(among):
    names = [f"line {n}" for n in range(len(among))]
    found = told_apart(names, among)
    assert list(found) == names
    assert len(set(found.values())) == len(names)
    with pytest.raises(InputError, match=f"{len(among) + 1} lines .* draw fewer"):
        told_apart([*names, "one more"], among)


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "none_such"])
def test_a_backend_of_the_callers_stops_no_figure(planning_python, tmp_path, backend):
    """Whichever module of figures is imported first."""
    modules = [
        ".".join(path.relative_to(code_graph.ROOT / "scripts").with_suffix("").parts)
        for path in code_graph.library_files()
        if "matplotlib" in code_graph.packages(code_graph.imports(code_graph.parse(path)))
    ]
    assert len(modules) > 2
    program = tmp_path / "program.py"
    for module in modules:
        program.write_text(f"import {module}\n")
        subprocess.run(
            [planning_python, program],
            env=os.environ
            | {"MPLBACKEND": backend, "PYTHONPATH": str(code_graph.ROOT / "scripts")},
            check=True,
        )
