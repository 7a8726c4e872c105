"""The threat: an eps as it is written, and as a number."""

import pytest

from contrastdp.attack.threat import parse_fraction
from contrastdp.errors import InputError


@pytest.mark.parametrize(
    "text", ["0", "1", "-1/255", "8/0", "eight", "nan", "0/1", "1/1", "9/8", ""]
)
def test_bad_eps_is_one_line(text):
    with pytest.raises(InputError, match="eps") as error:
        parse_fraction(text)
    assert "\n" not in str(error.value)


def test_eps_of_a_fraction():
    assert parse_fraction("8/255") == 8 / 255
    assert parse_fraction("1/10") == 0.1
    assert parse_fraction("3/10") == 0.3
    assert parse_fraction(0.25) == 0.25
