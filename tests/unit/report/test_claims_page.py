"""The page of all claims: the paper's figures from its own numbers, and what was not run."""

import pytest

from contrastdp.errors import InputError
from contrastdp.evidence import claims, image_claims
from contrastdp.frames import as_rows, as_table
from contrastdp.report import claims_page
from contrastdp.report.paper_tables import RUN_COLUMNS
from contrastdp.theory import claims as theory_claims
from contrastdp.theory.tables import PRINTED

TESTS = image_claims.TESTS | theory_claims.TESTS
EVERYWHERE = {"generators": ["guided"], "rivals": ["baseline"], "measures": ["robust"]}
EVERYWHERE |= {"threshold": 0.0, "level": 0.95}


def make_claim(name, scope, test="gains_everywhere", **parameters):
    claim = {"id": name, "scope": scope, "statement": f"{name} holds", "source": "Table 9"}
    return claim | {"test": test, "evidence": [scope], "parameters": parameters or EVERYWHERE}


def make_arm(name, generator, reported, **changes):
    arm = {"arm": name, "dataset": "cifar10", "generator": generator, "real": "9", "eps": ""}
    arm |= {"synthetic": "50", "selection": "none", "trainer": "trades", "train_on": ""}
    return arm | {"baseline": "", "reported": reported} | changes


def make_reported(**rows):
    """id -> (table, size, clean, robust)"""
    return {
        name: {"id": name, "table": table, "dataset": "cifar10", "synthetic": size}
        | {"clean_pct": clean, "robust_pct": robust, "text_version": "v2"}
        for name, (table, size, clean, robust) in rows.items()
    }


ARMS = [
    make_arm("p50", "plain", "a b_old"),
    make_arm("g50", "guided", "c d", baseline="p50"),
    make_arm("p1m", "plain", "e", synthetic="100"),
    make_arm("g1m", "guided", "f", synthetic="100", baseline="p1m"),
    make_arm("none", "", "g", synthetic="0", selection=""),
]
REPORTED = make_reported(
    a=("2", "50K", 80.0, 50.0),
    b_old=("2", "50K", 10.0, 10.0),
    c=("2", "50K", 81.0, 50.5),
    d=("9", "50K", 1.0, 1.0),
    e=("2", "1M", 85.0, 55.0),
    f=("2", "1M", 84.0, 54.88),
    g=("2", "0", None, 40.0),
)
REPORTED["b_old"]["text_version"] = "v1"


def gathered(listed, judged, printed=None, **changes):
    given = {"runs": {}, "links": {}, "optional": ["digits"], "scale": "demo"} | changes
    given["runs"] = {name: as_table(runs, RUN_COLUMNS) for name, runs in given["runs"].items()}
    judged = as_table(judged, claims.COLUMNS)
    return claims_page.gather(listed, judged, printed or {}, **given)


def make_judged(claim, **changes):
    row = {key: claim[key] for key in ("id", "scope", "statement", "source", "test")}
    row |= {"effect": "1.5", "low": "-0.5", "high": "3.5", "unit": "points", "threshold": "0.0"}
    return row | {"verdict": "inconclusive", "evidence": "2 of 3; smallest"} | changes


# ---------------------------------------------------------------- printed values
def test_printed_values_become_runs_of_their_own_table_and_version():
    found = claims_page.printed_runs(ARMS, REPORTED, "cifar10_table2")
    kept = ("arm", "printed", "clean", "robust")
    assert [tuple(run[key] for key in kept) for run in as_rows(found)] == [
        *(("p50", "50K", 80.0, 50.0), ("g50", "50K", 81.0, 50.5)),
        *(("p1m", "1M", 85.0, 55.0), ("g1m", "1M", 84.0, 54.88), ("none", "0", None, 40.0)),
    ]
    assert list(claims_page.printed_runs(ARMS, REPORTED, "cifar10_table9")["arm"]) == ["g50"]
    assert claims_page.printed_runs(ARMS, REPORTED, "cifar10_fig3").empty
    with pytest.raises(InputError, match="no reported row has the id 'a'"):
        claims_page.printed_runs(ARMS, {}, "cifar10_table2")


def test_the_papers_figures_come_from_the_same_test():
    scope = "cifar10_table2"
    both = EVERYWHERE | {"rivals": [None], "measures": ["clean", "robust"]}
    listed = [
        make_claim("robust", scope),
        make_claim("both", scope, **both),
        make_claim("large", scope, **EVERYWHERE | {"where": {"printed": ["1M"]}}),
        make_claim("absent", scope, **EVERYWHERE | {"generators": ["other"]}),
        make_claim("elsewhere", "toy"),
    ]
    printed = {scope: claims_page.printed_runs(ARMS, REPORTED, scope)}
    found = claims_page.judge_printed(listed, printed, TESTS)
    assert set(found) == {"robust", "both", "large"}
    assert found["robust"]["effect"] == found["large"]["effect"] == -0.12
    assert found["robust"]["evidence"].startswith("1 of 2 differences are above 0, one pair each;")
    # Without synthetic images the paper gives no clean value here: robust ones alone, 50.5 - 40
    assert found["both"]["effect"] == 10.5


def test_printed_gaussian_tables_are_judged_as_one_simulation():
    rows = [
        {"table": "4", "angle": "0", "source": source, "n": n, "clean": 0.9, "rob": rob}
        for n, pair in ((10, (0.5, 0.6)), (20, (0.7, 0.6)), (50, (0.1, 0.2)))
        for source, rob in zip(("1", "1.5"), pair, strict=True)
    ]
    claim = make_claim("larger", "theory", "larger_in_most_cells", variant="fitted")
    claim["evidence"] = ["cells", "reported"]
    claim["parameters"] |= {"measure": "robust", "pairs": [["1.5", "1"]], "blocks": ["4/0"]}
    claim["parameters"] |= {"threshold": 0.5, "level": 0.95, "resamples": 10, "seed": 0}
    table = as_table(rows, PRINTED)
    printed = {"cells": claims_page.printed_cells(table, ["fitted"]), "reported": table}
    found = claims_page.judge_printed([claim], printed, TESTS)
    assert found["larger"]["effect"] == pytest.approx(2 / 3, abs=1e-3)


# ---------------------------------------------------------------- gathering
RUN = {"arm": "g50", "data": "CIFAR-10", "subset": "yes", "n_test": "100"}


def test_every_claim_has_its_row_whether_run_or_not():
    ran, other, small = (make_claim(name, name) for name in ("ran", "other", "digits"))
    runs = [RUN, RUN, RUN | {"arm": "p50"}]
    found = as_rows(gathered([other, ran, small], [make_judged(ran)], runs={"ran": runs}))
    assert [(row["id"], row["verdict"]) for row in found] == [
        ("other", "not run"),
        ("ran", "inconclusive"),  # digits is optional: left out
    ]
    ours = found[1]
    assert (ours["effect"], ours["low"], ours["high"]) == (1.5, -0.5, 3.5)
    assert (ours["data"], ours["subset"], ours["n_test"]) == ("CIFAR-10", "yes", "100")
    assert ours["seeds"] == "1 or 2"
    assert "rivals: baseline; measures: robust; threshold: 0.0" in ours["parameters"]
    assert [set(row) for row in found] == [set(claims_page.COLUMNS)] * 2
    own = gathered([small], [make_judged(small)], runs={"digits": runs})
    assert list(own["verdict"]) == ["inconclusive"]


def test_a_scope_that_was_judged_by_another_list_is_refused():
    one, two = make_claim("one", "t"), make_claim("two", "t")
    with pytest.raises(InputError, match=r"claim two: .*judge its scope again"):
        gathered([one, two], [make_judged(one)])
    with pytest.raises(InputError, match="claim two"):
        gathered([one], [make_judged(one), make_judged(two)])
    with pytest.raises(InputError, match="no column 'data'"):
        gathered([one], [make_judged(one)], runs={"t": [{"arm": "a", "n_test": "1"}]})


def test_the_page_tells_what_where_and_on_what():
    ran, simulated, other = (make_claim(name, name) for name in ("ran", "theory", "other"))
    ran["parameters"] = EVERYWHERE | {"rivals": [None], "where": {"printed": ["50K", "1M"]}}
    printed = {"ran": {"effect": -0.12, "unit": "points", "evidence": "5 of 6; smallest: x"}}
    rows = gathered(
        [ran, simulated, other],
        [make_judged(ran), make_judged(simulated, verdict="reproduced")],
        printed,
        runs={"ran": [RUN, RUN]},
        links={"ran": ["results/demo/tables/t.md"], "theory": ["results/theory/claims.md"]},
    )
    text = claims_page.markdown(rows, "results/demo", TESTS)
    assert "Of 3 claims: 1 reproduced, 0 not reproduced, 1 inconclusive, 1 not run." in text
    lines = {line.split(" holds")[0][2:]: line for line in text.splitlines() if " holds" in line}
    assert "| −0.12 points (5 of 6) | 1.5 [−0.5, 3.5] points | 0 | **inconclusive**" in lines["ran"]
    assert "rivals: no synthetic images" in lines["ran"]
    assert "where: printed 50K, 1M" in lines["ran"]
    assert "| CIFAR-10 (subset), 100 test images, 2 seeds | [t.md](tables/t.md) |" in lines["ran"]
    assert "[claims.md](../theory/claims.md)" in lines["theory"]
    assert "| simulated data |" in lines["theory"]
    assert "| not given | – | 0 | **not run** | other is not part of the scale" in lines["other"]
    assert "- `gains_everywhere`: Whether some generators' arms" in text
    assert "nan" not in text


def test_one_seed_shows_no_interval():
    ran = make_claim("ran", "ran")
    rows = gathered([ran], [make_judged(ran)], runs={"ran": [RUN]})
    text = claims_page.markdown(rows, ".", TESTS)
    assert "1.5 [no interval: one seed] points" in text
    assert "100 test images, 1 seed |" in text
