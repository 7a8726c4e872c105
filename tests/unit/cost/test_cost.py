"""Estimates, sums and bounds by arithmetic done by hand."""

import pytest

from contrastdp.cost.cost import (
    check_throughput,
    cost_of_jobs,
    in_words,
    seconds_per_image,
    shares,
    table,
    wall_time,
    with_assumed,
)
from contrastdp.cost.workload import Stored, Work
from contrastdp.errors import InputError

NET, OTHER = '{"size": 1}', '{"size": 2}'
ENTRIES = [
    {"kind": "forward", "model": {"size": 1}, "options": {}, "flops": 100, "seconds": 2.0},
    {"kind": "apgd", "model": {"size": 1}, "options": {}, "flops": 200, "seconds": 1.0},
]
ENTRIES = [entry | {"batch": 8} for entry in ENTRIES]
MEASURED = {"device": "one core", "start": 10.0, "entries": ENTRIES}
ASSUMED = {"device": "a GPU", "start": 0.0, "peak": {"float32": 1000.0, "bfloat16": 4000.0}}
ASSUMED["utilisation"] = [0.1, 0.5, 1.0]


def flops(kind, model, options):
    return {NET: 100, OTHER: 300}[model] * {"forward": 1, "apgd": 2, "fab": 3}[kind]


def costs(jobs, throughput=MEASURED, earlier=None, share=(0.0, 0.5, 1.0)):
    options = {"flops_of": flops, "parameters_of": lambda model: 1000}
    return cost_of_jobs(jobs, throughput, earlier=earlier or {}, robust_share=share, **options)


def test_the_same_work_takes_what_was_measured():
    (low, likely, high), basis = seconds_per_image(
        Work("forward", NET, 8, "{}", 1), MEASURED, flops
    )
    assert (low, likely, high) == pytest.approx((1.6, 2.0, 2.5))
    assert basis == "measured"


@pytest.mark.parametrize(("batch", "seconds"), [(1, 2.0), (20, 2.0), (25, 1.5), (9999, 0.5)])
def test_of_several_batches_the_nearest_in_ratio_tells(batch, seconds):
    others = [{"batch": 64, "seconds": 1.5}, {"batch": 512, "seconds": 0.5}]
    throughput = MEASURED | {"entries": [*(ENTRIES[0] | other for other in others), *ENTRIES]}
    (_, likely, _), basis = seconds_per_image(
        Work("forward", NET, batch, "{}", 1), throughput, flops
    )
    assert (likely, basis) == (seconds, "measured")


def test_other_work_is_scaled_by_flops_from_its_kind():
    (low, likely, high), basis = seconds_per_image(Work("apgd", OTHER, 8, "{}", 1), MEASURED, flops)
    # 600 FLOPs: at apgd's 200 a second; forward's 50 a second is the slowest of all
    assert (low, likely, high) == pytest.approx((3.0, 3.0, 12.0))
    assert basis == "scaled"


def test_work_of_no_measured_kind_is_scaled_from_the_nearest_in_flops():
    (_, likely, _), _ = seconds_per_image(Work("fab", NET, 8, "{}", 1), MEASURED, flops)
    assert likely == pytest.approx(300 / 200)


@pytest.mark.parametrize(("options", "likely"), [("{}", 0.2), ('{"precision": "bfloat16"}', 0.05)])
def test_an_assumed_device_takes_flops_over_peak_times_utilisation(options, likely):
    found, basis = seconds_per_image(Work("forward", NET, 8, options, 1), ASSUMED, flops)
    assert found == pytest.approx((likely / 2, likely, 5 * likely))
    assert basis == "assumed"


def test_a_rule_sums_its_jobs_and_their_starts():
    work = Work("forward", NET, 8, "{}", 10)
    (cost,) = costs([("label", [work], Stored(7)), ("label", [work, work], Stored(0, ((NET, 2),)))])
    assert cost.jobs == 2
    assert cost.seconds[1] == 3 * 20 + 2 * 10
    assert cost.longest == 50
    assert cost.flops == 3 * 1000
    assert cost.bytes == 7 + 2 * 4 * 1000
    assert cost.basis == "measured"


def test_attacks_see_the_share_of_images_that_is_still_robust():
    work = Work("apgd", NET, 8, "{}", 10, robust=True)
    (cost,) = costs([("attack", [work], Stored())])
    assert cost.seconds == pytest.approx((0.8 * 10, 0.5 * 10 + 10, 1.25 * 10 + 12.5))
    assert cost.flops == 0.5 * 10 * 200


def test_jobs_without_a_network_take_what_a_run_recorded():
    known, unknown = costs([("plot", [], Stored()), ("new", [], Stored())], earlier={"plot": 3.0})
    assert (known.seconds[1], known.basis) == (3.0, "recorded")
    assert unknown.basis == "assumed"


def test_wall_time_of_jobs_that_may_run_side_by_side():
    work = Work("forward", NET, 8, "{}", 45)
    side = costs([(rule, [work], Stored()) for rule in ("train_classifier", "train_diffusion")])
    assert wall_time(side, 2) == (100, 100 + 50)  # whether or not they wait for each other
    after = costs([(rule, [work], Stored()) for rule in ("train_diffusion", "train_robust")])
    assert wall_time(after, 2) == (100, 100 + 100)
    assert wall_time(costs([("attack_last", [work], Stored())]), 8) == (100, 12.5 + 87.5)
    assert wall_time(costs([("my_table", [work], Stored())]), 8) == (100, 12.5 + 87.5)


def test_wall_time_lies_between_grahams_bounds():
    work = Work("forward", NET, 8, "{}", 45)
    found = costs([("label_images", [work], Stored())] * 4)  # 100 s each
    assert wall_time(found, 1) == (400, 400)
    assert wall_time(found, 2) == (200, 200 + 50)
    assert wall_time(found, 100) == (100, 4 + 99)
    with pytest.raises(InputError, match="0 workers"):
        wall_time(found, 0)


def test_the_table_has_a_line_a_rule_and_a_sum():
    text = table(
        costs([("plot", [], Stored()), ("plot", [], Stored())], earlier={"plot": 1800}), "core"
    )
    lines = text.splitlines()
    assert lines[0].split()[:4] == ["rule", "jobs", "FLOPs", "core-minutes"]
    assert lines[1].split() == ["plot", "2", "-", "60.0", "48.0", "75.0", "-", "recorded", "100%"]
    assert lines[2].split()[:2] == ["sum", "2"]
    lines = table(costs([("plot", [], Stored())], earlier={"plot": 72000}), "GPU").splitlines()
    assert lines[0].split()[3] == "GPU-hours"
    assert lines[1].split()[3:6] == ["20.0", "16.0", "25.0"]


def test_elapsed_time_is_told_in_minutes_or_hours():
    assert in_words(90, 600) == "1.5 to 10.0 minutes"
    assert in_words(9000, 18000) == "2.5 to 5.0 hours"


@pytest.mark.parametrize(
    ("throughput", "told"),
    [
        ({"device": "x"}, "no measured or assumed throughput"),
        ([], "no measured or assumed throughput"),
        (ASSUMED | {"peak": {}}, "no measured or assumed throughput"),
        (ASSUMED | {"peak": 1e12}, "no measured or assumed throughput"),
        (ASSUMED | {"utilisation": [1.0]}, "no measured or assumed throughput"),
        (ASSUMED | {"utilisation": 0.3}, "no measured or assumed throughput"),
        (MEASURED | {"entries": [{}]}, "an entry lacks one of kind, model"),
        (MEASURED | {"entries": [3]}, "an entry lacks one of kind, model"),
        (MEASURED | {"entries": [ENTRIES[0] | {"seconds": 0}]}, "entry of 'forward'"),
    ],
)
def test_a_bad_throughput_is_told(throughput, told):
    with pytest.raises(InputError, match=told):
        check_throughput(throughput, "file")
    check_throughput(MEASURED, "file")
    check_throughput(ASSUMED, "file")


def test_a_throughput_without_entries_is_told():
    with pytest.raises(InputError, match="holds no entry"):
        seconds_per_image(Work("fab", NET, 8, "{}", 1), MEASURED | {"entries": []}, flops)


# ---------------------------------------------------------------- what a user gives
def test_a_given_peak_takes_the_place_of_what_was_measured():
    throughput = {"device": "one core", "start": 1.0, "entries": []}
    found = with_assumed(throughput, flops=1e12, utilisation=0.8)
    assert found["peak"] == {"float32": 1e12, "bfloat16": 1e12}
    assert found["utilisation"] == [0.4, 0.8, 1.0]
    assert found["device"] != "one core"
    assert with_assumed(throughput, flops=None, utilisation=None) == throughput


@pytest.mark.parametrize(
    ("flops", "utilisation", "words"),
    [
        (-1.0, None, "--flops -1"),
        (float("nan"), None, "--flops nan"),
        (1e12, 1.5, "--utilisation 1.5"),
        (None, 0.5, "give --flops, too"),
    ],
)
def test_impossible_rates_are_told(flops, utilisation, words):
    with pytest.raises(InputError, match=words):
        with_assumed({"device": "x"}, flops=flops, utilisation=utilisation)


def test_shares_rise_from_0_to_1():
    assert shares("0.4,0.7,1") == (0.4, 0.7, 1.0)
    for text in ("0.7,0.4,1", "1", "a,b,c", "0,1,2", "nan,nan,nan", "0.1,0.2,0.3,0.4"):
        with pytest.raises(InputError, match="three rising shares"):
            shares(text)
