"""Bad input, told in one line; and the check that a number is finite."""

import math


class InputError(ValueError):
    """Bad input, told in one line: what is wrong, where, and what to do."""


def finite(value: float, what: str, step: int) -> float:
    """Return `value`, or stop in one line where a loss or metric is not finite."""
    if not math.isfinite(value):
        raise InputError(
            f"{what} is {value} at step {step}; lower the learning rate or check the input images"
        )
    return value
