"""The tests that decide claims, on evidence whose answer is known."""

import pytest
from theorem_rows import theorem_rows

from contrastdp.errors import InputError
from contrastdp.evidence import claims
from contrastdp.report.claims_page import judged_markdown
from contrastdp.theory.claims import TESTS


# ---------------------------------------------------------------- judging
def _claim(**changes):
    claim = {
        "id": "one",
        "scope": "theory",
        "statement": "a | b",
        "source": "section 3",
        "test": "fewer_needed_with_c",
        "evidence": ["theorem"],
        "parameters": {"threshold": 0.0},
    }
    return claim | changes


EVIDENCE = theorem_rows((300, 100, 20), (-2.0, -2.2, -1.8))


def test_claims_of_other_scopes_wait():
    judged = claims.judge(
        [_claim(), _claim(id="two", scope="toy", evidence=["absent"])],
        EVIDENCE,
        scopes=["theory"],
        tests=TESTS,
    )
    assert list(judged["id"]) == ["one"]
    assert list(judged) == list(claims.COLUMNS)
    text = judged_markdown(judged)
    assert text.startswith("Of 1 claims: 1 reproduced") and "a \\| b" in text


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ([_claim(test="other")], "unknown test"),
        ([_claim(), _claim()], "stands twice"),
        ([_claim(evidence=["tables"])], "needs the evidence 'tables'"),
        ([_claim(parameters={"treshold": 0})], "parameters of fewer_needed_with_c"),
        ([_claim(note="x")], "unknown keys"),
        ([_claim(scope="toy")], "no claim has scope 'theory'"),
    ],
)
def test_bad_claims_are_told_in_one_line(listed, words):
    with pytest.raises(InputError, match=words) as caught:
        claims.judge(listed, EVIDENCE, scopes=["theory"], tests=TESTS)
    assert "\n" not in str(caught.value)


def test_a_later_section_can_add_a_test():
    def always(evidence, *, threshold):
        return claims.Verdict(1, 1, 1, "", threshold, "reproduced", str(sorted(evidence)))

    judged = claims.judge(
        [_claim(test="always")], EVIDENCE, scopes=["theory"], tests={"always": always}
    )
    assert list(judged["verdict"]) == ["reproduced"]
    assert list(judged["evidence"]) == ["['theorem']"]
    with pytest.raises(ValueError, match="two claim tests"):
        claims.claim_test(TESTS["falls_with_c"])
