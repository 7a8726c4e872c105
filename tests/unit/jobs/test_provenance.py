"""Provenance says what made a number."""

import json

from contrastdp.jobs import provenance


def test_provenance_says_what_made_a_number():
    found = provenance.provenance(seed=3, settings={"beta": 6}, device="cpu", precision="bfloat16")
    assert found["seed"] == 3
    assert found["settings"] == {"beta": 6}
    assert found["precision"] == "bfloat16"
    assert set(found["versions"]) == {"python", *provenance.PACKAGES}
    assert json.loads(json.dumps(found)) == found
