"""A number that is not finite stops the work."""

import pytest
from one_line import told

from contrastdp import errors


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_stops(value):
    assert "loss" in told(errors.finite, value, "loss", 7)
    assert errors.finite(0.25, "loss", 7) == 0.25
