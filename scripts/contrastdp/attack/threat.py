"""The threat: how far an attack may move a pixel."""

from fractions import Fraction

from contrastdp.errors import InputError


def parse_fraction(text: str | float, name: str = "eps") -> float:
    """'8/255' or '0.1' as a float inside (0, 1); InputError in one line otherwise."""
    try:
        value = float(Fraction(str(text)))
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{name} is '{text}'; write a fraction such as 8/255") from None
    if not 0 < value < 1:
        raise InputError(f"{name} is {text}; it must lie inside (0, 1), pixels span [0, 1]")
    return value
