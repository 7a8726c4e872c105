"""The plan of a run: the project's own configuration resolves, and a fault in it is named."""

import inspect

import pytest
import torch
import yaml
from configuration import add_arm, edit, told, with_row
from resolved_plans import resolved

from contrastdp.errors import InputError
from contrastdp.plan import experiments
from contrastdp.plan.yaml_files import read_yaml
from contrastdp.training.optimisation import rates_at


@pytest.mark.parametrize("scale", ["smoke", "demo"])
def test_every_scale_resolves(folder, scale):
    found = resolved(folder, scale=scale)
    assert found.scale == scale
    for arm, row in found.arms.items():
        assert found.trainer(arm)["loss"] in ("trades", "pgd")
        if row["generator"]:
            size = found.datasets[row["dataset"]]["sampling"]["shard"]
            assert len(found.sample_shards(arm)) * size >= found.candidates(arm) >= row["synthetic"]


def test_the_demo_has_the_arms_of_its_table(folder):
    found = resolved(folder, scale="demo")
    expected = ["no_synthetic", "ddim", "ddpm", "contrastive_hnm", "contrastive_infonce"]
    expected += ["random_direction", "random_direction_infonce"]
    assert found.table("robustness") == expected
    assert all(found.seeds(arm, "robustness") == [0, 1, 2] for arm in expected)


@pytest.mark.parametrize("scale", ["demo", "smoke", "reduced", "workstation", "paper"])
def test_every_guided_arm_has_a_twin_in_each_table_of_twins(folder, scale):
    found = resolved(folder, scale=scale)
    counted = 0
    tables = {table for row in found.arms.values() for table in row["tables"]}
    # a page's arms have twins; so have those of all tables of the demo, by setting or by rows
    for table in tables if scale == "demo" else found.pages:
        rows = [found.arms[arm] for arm in found.table(table)]
        settings = [
            found.guidance(row["dataset"], row["generator"]) if row["generator"] else None
            for row in rows
        ]
        for row, own in zip(rows, settings, strict=True):
            if own is None or own["direction"] == "random":
                continue
            counted += 1
            wanted = own | {"direction": "random"}
            same = ("dataset", "real", "synthetic", "selection", "trainer", "batch", "eps", "steps")
            assert any(
                other == wanted
                and all(twin[column] == row[column] for column in same)
                and found.seeds(twin["arm"], table) == found.seeds(row["arm"], table)
                for twin, other in zip(rows, settings, strict=True)
            ), row["arm"]
    assert counted


def test_twins_are_chosen_on_the_command_line_too(folder):
    assert resolved(folder, scale="demo", twins=[]).table("robustness")[-1] == "contrastive_infonce"
    found = resolved(folder, scale="demo", twins=["ablations"])
    assert "contrastive_hnm_500_random" in found.table("ablations")
    assert "'robustnes'" in told(folder, scale="demo", twins=["robustnes"])
    assert "twins" in told(folder, scale="demo", twins="robustness")


def test_a_table_may_have_its_own_seeds(folder):
    edit(folder / "arms.tsv", "robustness ablations", "robustness:3-5 ablations")
    found = resolved(folder, scale="demo")
    assert found.seeds("no_synthetic", "robustness") == [3, 4, 5]
    assert found.seeds("no_synthetic", "ablations") == [0, 1, 2]
    assert found.tables_of("no_synthetic", 4) >= {"robustness"}
    assert "ablations" not in found.tables_of("no_synthetic", 4)


@pytest.mark.parametrize("span", ["robustness:5-3", "robustness:3", "robustness:a-b"])
def test_seeds_of_a_table_that_are_none_are_told(folder, span):
    edit(folder / "arms.tsv", "robustness ablations", f"{span} ablations")
    with pytest.raises(InputError, match=f"line 2 .*tables has '{span}'; write robustness"):
        resolved(folder, scale="demo")


def test_a_table_is_named_once_in_a_row(folder):
    edit(folder / "arms.tsv", "robustness ablations", "robustness robustness:3-5 ablations")
    with pytest.raises(InputError, match="tables names 'robustness' twice"):
        resolved(folder, scale="demo")


def test_a_baseline_stands_in_the_arms_own_table(folder):
    found = resolved(folder, scale="demo")
    arm = found.arms["ddim_shifted_long"]
    assert arm["baseline"] == "ddim_long"
    assert found.seeds("ddim_long", "search") == found.seeds(arm["arm"], "search")
    edit(folder / "arms.tsv", "\t\tddim_long", "\t\tddim_500")
    with pytest.raises(InputError, match="baseline 'ddim_500' is not in table 'search'"):
        resolved(folder, scale="demo")


@pytest.mark.parametrize(("column", "least"), [("batch", 1), ("steps", 1), ("shift", 0)])
def test_an_arms_own_training_stands_over_the_data_sets(folder, column, least):
    header, first, *rest = (folder / "arms.tsv").read_text(encoding="utf-8").splitlines()
    cells = dict(zip(header.split("\t"), first.split("\t"), strict=True))
    assert cells["arm"] == "no_synthetic"
    edit(folder / "config.yaml", "validate_every: 100", "validate_every: 1")

    def write(value):
        line = "\t".join((cells | {column: str(value)}).values())
        (folder / "arms.tsv").write_text("\n".join([header, line, *rest]) + "\n", encoding="utf-8")

    write(least)
    assert resolved(folder, scale="demo").training("no_synthetic")[column] == least
    write(least - 1)
    with pytest.raises(InputError, match=f"{column} is {least - 1}; it must be at least {least}"):
        resolved(folder, scale="demo")


def test_layers_override_in_order(folder):
    edit(folder / "datasets" / "digits.yaml", "channels: 1", "channels: 1\ntraining: {steps: 111}")
    assert resolved(folder).datasets["digits"]["training"]["steps"] == 111
    edit(folder / "scales" / "demo.yaml", "digits: {}", "digits: {training: {steps: 222}}")
    assert resolved(folder).datasets["digits"]["training"]["steps"] == 222
    override = resolved(folder, training={"steps": 333}).datasets["digits"]["training"]
    assert override["steps"] == 333
    assert override["batch"] == 128


def test_a_generators_cells_stand_over_the_defaults(folder):
    found = resolved(folder)
    defaults = found.datasets["digits"]["guidances"]["hnm"]
    assert found.guidance("digits", "contrastive_hnm") == {"loss": "hnm", **defaults}
    headless = found.guidance("digits", "contrastive_hnm_headless")
    assert headless == {"loss": "hnm", **defaults, "head": 0}
    assert found.guidance("digits", "ddim") is None
    assert found.sampler("digits", "ddim") == found.datasets["digits"]["samplers"]["ddim"]
    assert found.sampler("digits", "ddpm")["eta"] == 1.0


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("config.yaml", "beta: 6.0", "betaa: 6.0", ["config.yaml", "betaa", "did you mean beta?"]),
        ("config.yaml", "eps: 1/10", "eps: 11/10", ["eps", "11/10", "(0, 1)"]),
        ("config.yaml", "eps: 1/10", "eps: 0.1", ["threat.eps"]),
        ("config.yaml", "shard: 2000", "shard: 2100", ["2100", "multiple", "250"]),
        ("config.yaml", "scale: demo", "scale: dmeo", ["dmeo", "did you mean demo?"]),
        ("scales/demo.yaml", "digits: {}", "digit: {}", ["demo.yaml", "did you mean digits?"]),
        ("scales/demo.yaml", "digits: {}", "digits: {stepz: 1}", ["demo.yaml", "digits", "stepz"]),
        ("datasets/digits.yaml", "classes: 10\n", "", ["digits.yaml", "classes", "missing"]),
        ("generators.tsv", "\tddpm\t", "\tddpn\t", ["generators.tsv", "line 3", "mean ddpm?"]),
        ("generators.tsv", "ddpm\tDDPM", "ddim\tDDPM", ["generators.tsv", "line 3", "repeats"]),
        ("generators.tsv", "\tlambda\t", "\tlamda\t", ["generators.tsv", "lamda", "lambda"]),
        ("arms.tsv", "\tddim\t200\t", "\tddin\t200\t", ["arms.tsv", "line 3", "ddim?"]),
        ("arms.tsv", "\tddim\t200\t", "\tddim\t2000\t", ["arms.tsv", "2000", "1097 images"]),
        ("arms.tsv", "\tddim\t200\t2000\t", "\tddim\t200\t0\t", ["arms.tsv", "synthetic"]),
        ("arms.tsv", "\tnone\t1\ttrades\t", "\tnome\t1\ttrades\t", ["arms.tsv", "none?"]),
        ("arms.tsv", "\tnone\t1\ttrades\t", "\tnone\t1\ttrade\t", ["arms.tsv", "trades?"]),
        ("arms.tsv", "\tnone\t1\ttrades\t3\t", "\tnone\t1\ttrades\t0\t", ["arms.tsv", "seeds"]),
        ("arms.tsv", "\tnone\t1\ttrades\t", "\tnone\t0.5\ttrades\t", ["arms.tsv", "candidates"]),
        ("arms.tsv", "demo\tddpm\t", "demo\tddim\t", ["arms.tsv", "line 4", "repeats"]),
        ("arms.tsv", "\ttrades\t3\t", "\ttrades\tthree\t", ["arms.tsv", "line 2", "three"]),
        ("config.yaml", "reference: ddim", "reference: dimm", ["report", "dimm", "ddim?"]),
        ("config.yaml", "guided: [contrastive_hnm,", "guided: [hnm,", ["report", "'hnm'"]),
    ],
)
def test_a_fault_is_named(folder, file, old, new, words):
    edit(folder / file, old, new)
    line = told(folder)
    assert all(word in line for word in words), line


# ---------------------------------------------------------------- generators' guidance
@pytest.mark.parametrize(
    ("pairs", "files"),
    [
        ("", ("encoder",)),
        ("previous", ("encoder",)),
        ("real_positive", ("encoder", "train")),
        ("real_negative", ("encoder", "train")),
        ("class_conditional", ("encoder", "labeler")),
        ("both_states", ("encoder",)),
        ("both_states_class_conditional", ("encoder", "labeler")),
    ],
)
def test_a_guidance_reads_what_its_pairs_need(folder, pairs, files):
    with_row(folder, pairs=pairs)
    found = resolved(folder)
    assert found.guidance("digits", "contrastive_hnm")["pairs"] == (pairs or "both_states")
    assert found.guidance_files("digits", "contrastive_hnm") == files
    assert found.guidance_files("digits", "ddim") == ()


def test_a_conditional_generator_needs_no_labeler_for_its_classes(folder):
    with_row(folder, pairs="class_conditional", denoiser="conditional")
    assert resolved(folder).guidance_files("digits", "contrastive_hnm") == ("encoder",)


def test_every_cell_of_a_guidance_reaches_it(folder):
    cells = {"at": "clean", "encoder_input": "raw", "clip": "0.5", "clamp": "yes", "head": "0"}
    with_row(folder, **cells)
    found = resolved(folder).guidance("digits", "contrastive_hnm")
    assert {name: found[name] for name in cells} == {
        "at": "clean",
        "encoder_input": "raw",
        "clip": 0.5,
        "clamp": True,
        "head": 0,
    }


def test_a_classifiers_guidance_has_no_contrastive_settings(folder):
    with_row(folder, guidance="classifier", **{"lambda": "2"})
    found = resolved(folder)
    assert found.guidance("digits", "contrastive_hnm")["loss"] == "classifier"
    assert found.guidance("digits", "contrastive_hnm")["lambda"] == 2.0
    assert found.guidance_files("digits", "contrastive_hnm") == ("encoder",)


def test_a_guidance_of_another_name_says_its_loss(folder):
    line = "guidances:\n"
    own = "  clamped: {loss: hnm, clamp: true, lambda: 9, tau: 10, head: 0, pairs: previous,"
    own += " at: state, window_low: 0, window_high: 1000, encoder_input: unit,"
    own += " direction: gradient}\n"
    edit(folder / "config.yaml", line, line + own)
    with_row(folder, guidance="clamped")
    found = resolved(folder).guidance("digits", "contrastive_hnm")
    assert (found["loss"], found["clamp"], found["lambda"]) == ("hnm", True, 9)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"pairs": "previus"}, ["pairs", "did you mean previous?"]),
        ({"at": "x0"}, ["at", "x0"]),
        ({"clip": "0"}, ["clip", "above 1e-12"]),
        ({"clamp": "true"}, ["clamp", "yes or no"]),
        ({"encoder_input": "pixels"}, ["encoder_input", "pixels"]),
        ({"tau": "-1"}, ["tau", "above 1e-12"]),
        ({"guidance": "classifier", "head": "3"}, ["head", "clear the cell"]),
        ({"guidance": "", "pairs": "previous"}, ["pairs", "without guidance"]),
    ],
)
def test_a_fault_in_a_guidance_is_named(folder, cells, words):
    with_row(folder, **cells)
    line = told(folder)
    assert all(word in line for word in ["generators.tsv", "line 4", *words]), line


def test_the_command_line_is_checked_too(folder):
    assert "did you mean training?" in told(folder, trainin={"steps": 3})
    assert "did you mean smoke?" in told(folder, scale="smokey")


def theory(folder):
    return experiments.theory(read_yaml, folder=folder)


def test_section_3_is_set_and_checked(folder):
    assert theory(folder)["simulate_gaussian"]["trials"] == 50
    edit(folder / "theory.yaml", "trials: 50", "trails: 50")
    with pytest.raises(InputError, match=r"theory.yaml: .*trails'; did you mean trials\?"):
        theory(folder)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("test_points: 10000", "test_points: 0", "test_points"),
        ("  plot_toy:", "  plot_toi:", "did you mean plot_toy?"),
        ("    level: 0.01 ", "    level: 2 ", "level"),
    ],
)
def test_a_fault_in_section_3_is_named(folder, old, new, word):
    edit(folder / "theory.yaml", old, new)
    with pytest.raises(InputError) as error:
        theory(folder)
    assert word in str(error.value)
    assert "theory.yaml" in str(error.value)


# ---------------------------------------------------------------- what an arm has of its own
def test_an_arms_own_eps_keeps_the_ratio_of_the_step(folder):
    add_arm(folder, arm="other", eps="3/10")
    found = resolved(folder)
    assert found.attack("no_synthetic")["eps"] == "1/10"
    assert found.threat("other") == {"norm": "Linf", "eps": "3/10", "step_size": "3/40"}
    assert found.attack("other")["eps"] == "3/10"
    assert found.attack("other")["version"] == "standard"


def test_one_may_train_at_one_eps_and_attack_at_another(folder):
    add_arm(folder, arm="other", eps="3/10")
    found = resolved(
        folder, threat={"eps": "8/255", "step_size": "2/255"}, attack={"eps": "10/255"}
    )
    for arm, eps in (("no_synthetic", "8/255"), ("other", "3/10")):
        assert found.threat(arm)["eps"] == eps
        assert found.attack(arm)["eps"] == "10/255"
    assert found.step_size("no_synthetic", "10/255") == "1/102"
    assert "attack.eps" in told(folder, attack={"eps": "3/2"})


def test_arms_of_ablation_tables_are_attacked_by_the_ablations_version(folder):
    add_arm(folder, arm="both", tables="cifar10_table2 cifar10_table9")
    budget = {"mt_steps": 3}
    found = resolved(folder, attack={"ablations": "worst", "budget": budget})
    assert found.attack("both")["version"] == "worst"
    assert found.attack("both")["budget"] == budget
    assert found.attack("no_synthetic")["version"] == "standard"
    assert not {"budget", "ablations", "last"} & set(found.attack("no_synthetic"))
    assert found.version("cifar10_table9") == "worst"
    assert found.version("cifar10_table2") == "standard"


def test_a_budget_that_no_attack_spends_is_refused(folder):
    line = told(folder, attack={"budget": {"mt_steps": 3}})
    assert "attack.budget: neither version nor ablations spends it" in line


def test_an_arms_own_steps_stand_over_epochs_too(folder):
    add_arm(folder, arm="other", steps="40", batch="300")
    found = resolved(folder, training={"epochs": 150, "epoch_images": 5000, "validate_every": 40})
    assert (found.training("other")["steps"], found.training("other")["epoch_steps"]) == (40, 17)
    assert found.training("ddim")["steps"] == 150 * 40  # of 128 images


def test_the_ablations_version_begins_with_the_version(folder):
    with pytest.raises(
        InputError, match=r"attack\.ablations: aa\+mt does not begin with .*use worst"
    ):
        resolved(folder, attack={"ablations": "aa+mt"})


def test_epochs_are_counted_out_in_steps_of_the_arms_batch(folder):
    add_arm(folder, arm="other", batch="300")
    settings = {"epochs": 150, "epoch_images": 5000, "batch": 1024}
    found = resolved(folder, training=settings)
    # ceil(5000 / 1024) = 5 and ceil(5000 / 300) = 17
    assert (found.training("ddim")["steps"], found.training("ddim")["epoch_steps"]) == (750, 5)
    assert (found.training("other")["steps"], found.training("other")["batch"]) == (2550, 300)
    assert not {"epochs", "epoch_images"} & found.training("ddim").keys()
    assert "epoch_steps" not in resolved(folder).training("ddim")


def test_an_arm_may_be_trained_on_its_synthetic_images_alone(folder):
    add_arm(
        folder,
        arm="other",
        generator="ddim",
        synthetic="60",
        train_on="synthetic",
        selection="none",
        candidates="1",
    )
    found = resolved(folder)
    assert (found.trained_on("other"), found.trained_on("ddim")) == (0, 200)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"eps": "8"}, ["eps is '8'"]),
        ({"batch": "0"}, ["batch is 0"]),
        ({"train_on": "real"}, ["train_on is 'real'", "synthetic"]),
        ({"train_on": "synthetic"}, ["train_on is set without synthetic"]),
        ({"baseline": "ddin"}, ["did you mean ddim?"]),
        ({"baseline": "ddim", "eps": "1/5"}, ["of this data set and eps 'ddim'"]),
        ({"baseline": "other"}, ["'other' does not exist"]),
        ({"tables": "cifar10_table3"}, ["did you mean"]),
    ],
)
def test_a_fault_in_an_arms_own_cells_is_named(folder, cells, words):
    add_arm(folder, arm="other", **cells)
    line = told(folder)
    assert "(other)" in line
    assert all(word in line for word in words)


def test_epochs_without_their_length_are_refused(folder):
    assert "epoch_images" in told(folder, training={"epochs": 3})


def test_the_papers_rows_say_what_they_are_held_against(folder):
    add_arm(folder, arm="a", tables="gtsrb_table3", baseline="ddim", reported="t3_none t3_ddpm_50k")
    add_arm(folder, arm="b", tables="gtsrb_table3")
    first, second = resolved(folder).paper_rows("gtsrb_table3")
    assert (first["arm"], first["baseline"]) == ("a", "ddim")
    assert first["reported"] == ["t3_none", "t3_ddpm_50k"]
    assert (second["baseline"], second["reported"]) == (None, [])
    assert first["seeds"] == [0, 1, 2]


def test_a_mirror_is_no_setting_of_a_data_set(folder):
    mirror = {"address": "/data", "checksums": {"a.zip": "0" * 64}}
    found = resolved(folder, mirror=mirror)
    assert found.mirror == mirror
    assert "mirror" not in found.datasets["digits"]
    assert "mirror" in told(folder, mirror={"checksums": {}})


@pytest.mark.parametrize("line", ["resume: {minutes: 1}", "mirror: {address: /data}"])
def test_what_is_of_the_whole_run_does_not_stand_in_a_data_set(folder, line):
    """Of two data sets the last would silently win."""
    key = line.partition(":")[0]
    path = folder / "datasets" / "digits.yaml"
    edit(path, "channels: 1", f"channels: 1\n{line}")
    assert f"config/datasets/digits.yaml: unknown key '{key}'" in told(folder)
    edit(path, f"\n{line}", "")
    edit(folder / "scales" / "demo.yaml", "\ndatasets:", f"\n{line}\ndatasets:")
    assert getattr(resolved(folder), key) == yaml.safe_load(line)[key]


# ---------------------------------------------------------------- the image to trace
TRACE = {"arm": "contrastive_hnm", "seed": 0, "image": 59}


def test_the_image_to_trace_is_no_setting_of_a_data_set(folder):
    found = resolved(folder, scale="smoke", trace=TRACE)
    assert found.trace == TRACE
    assert found.datasets == resolved(folder, scale="smoke").datasets
    assert resolved(folder, scale="smoke").trace is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"arm": "ddin"}, "did you mean ddim?"),
        ({"arm": "no_synthetic"}, "known: "),
        ({"seed": 1}, "seed is 1; arm 'contrastive_hnm' has seeds 0"),
        ({"image": 60}, "image is 60; arm 'contrastive_hnm' has images 0 to 59"),
        ({"image": -1}, "trace.image is -1; it must be at least 0"),
        ({"imag": 3}, "did you mean image?"),
    ],
)
def test_an_image_that_is_not_there_to_trace_is_named(folder, changed, words):
    assert words in told(folder, scale="smoke", trace=TRACE | changed)


@pytest.mark.parametrize("name", TRACE)
def test_a_trace_needs_arm_seed_and_image(folder, name):
    rest = {key: value for key, value in TRACE.items() if key != name}
    assert f"{name} is missing" in told(folder, scale="smoke", trace=rest)


def test_how_often_a_state_is_kept_is_no_setting_of_a_data_set(folder):
    assert resolved(folder).resume == {"minutes": 10}
    found = resolved(folder, resume={"minutes": 0.5})
    assert found.resume == {"minutes": 0.5}
    assert all("resume" not in settings for settings in found.datasets.values())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"minutes": -1}, "resume.minutes"),
        ({"minutes": "often"}, "resume.minutes"),
        ({"minutes": None}, "resume.minutes"),
        ({"hours": 1}, "hours"),
        (5, "resume"),
    ],
)
def test_a_bad_interval_between_states_is_named(folder, given, words):
    assert words in told(folder, resume=given)


@pytest.mark.parametrize(("dataset", "epochs"), [("mnist", 150), ("gtsrb", 50), ("cifar10", 400)])
def test_the_paper_scale_has_the_rates_and_momenta_of_the_official_code(dataset, epochs):
    """Against torch's OneCycleLR with its defaults, which that code steps once an epoch."""
    plan = resolved(scale="paper")
    arm = next(arm for arm, row in plan.arms.items() if row["dataset"] == dataset)
    training = {"cycle_momentum": False} | plan.training(arm)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    official = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=training["learning_rate"], total_steps=epochs, pct_start=0.025
    )
    names = set(inspect.signature(rates_at).parameters)
    settings = {name: value for name, value in training.items() if name in names}
    seen = []
    for epoch in range(epochs):
        (group,) = optimizer.param_groups
        rates = rates_at(epoch * training["epoch_steps"], **settings)
        assert rates == pytest.approx((group["lr"], group["momentum"]), rel=1e-9)
        seen.append(rates[1])
        optimizer.step()
        if epoch + 1 < epochs:
            official.step()
    assert (max(seen), seen[-1]) == pytest.approx((0.95, 0.95))


@pytest.mark.parametrize("scale", ["smoke", "demo", "reduced", "workstation"])
def test_momentum_stands_still_at_the_other_scales(scale):
    for settings in resolved(scale=scale).datasets.values():
        assert not settings["training"].get("cycle_momentum")
