"""Cells of tables in Markdown and LaTeX."""

import pytest

from contrastdp.report import markup


@pytest.mark.parametrize(
    ("value", "text"), [(1.234, "+1.23"), (-1.234, "−1.23"), (0.001, "0.00"), (-0.001, "0.00")]
)
def test_zero_has_no_sign(value, text):
    assert markup.signed(value) == text
