"""What all figures share."""

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
