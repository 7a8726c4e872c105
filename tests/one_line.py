"""Bad input as a user meets it: an InputError in one line."""

import pytest

from contrastdp.errors import InputError


def told(call, *arguments, **settings):
    """The line of the InputError that a call raises."""
    with pytest.raises(InputError) as error:
        call(*arguments, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)
