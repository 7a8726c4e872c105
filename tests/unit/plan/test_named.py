"""Classifiers of any name, and generators whose images come from elsewhere, in the plan."""

import shutil
from functools import partial

import pytest
import yaml

from contrastdp.errors import InputError
from contrastdp.files import read_csv
from contrastdp.plan import experiments
from contrastdp.plan.yaml_files import read_yaml

ENCODER = "  encoder: {network"


@pytest.fixture
def folder(tmp_path, root):
    shutil.copytree(root / "config", tmp_path / "config")
    return tmp_path / "config"


def plan(folder, **command_line):
    return experiments.plan(
        lambda path: yaml.safe_load(path.read_text(encoding="utf-8")) or {},
        partial(read_csv, delimiter="\t"),
        folder=folder,
        command_line={"scale": "smoke", **command_line},
    )


def add_row(folder, sheet, **cells):
    path = folder / f"{sheet}.tsv"
    header = path.read_text(encoding="utf-8").splitlines()[0].split("\t")
    with path.open("a", encoding="utf-8") as file:
        file.write("\t".join(cells.get(name, "") for name in header) + "\n")


def with_classifier(folder, name):
    path = folder / "config.yaml"
    text = path.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith(ENCODER))
    path.write_text(text.replace(line, f"{line}\n{line.replace('encoder', name, 1)}"))


def external_arm(folder, tables="robustness", **generator):
    add_row(folder, "generators", generator="theirs", title="x", images="theirs.npz", **generator)
    arm = {"scale": "smoke", "dataset": "digits", "real": "60", "synthetic": "40", "seeds": "1"}
    arm |= {"selection": "none", "candidates": "1.5", "trainer": "trades", "tables": tables}
    add_row(folder, "arms", arm="theirs", title="x", generator="theirs", **arm)


def test_each_use_names_the_classifier_that_it_reads(folder):
    before = plan(folder)
    assert before.classifiers(time_dependent=False) == ["labeler", "encoder"]
    listed = read_yaml(folder / "config.yaml")["classifiers"]
    timed = [n for n, c in listed.items() if c["network"]["architecture"] == "time_unet"]
    assert len(timed) == 16  # the robust one and its twin, and 14 threats of Table 4
    assert before.classifiers(time_dependent=True) == timed
    assert before.classifiers() == ["labeler", "encoder", *timed]
    assert before.labeler("digits") == "labeler"
    assert before.selection_networks("digits") == {"labeler": "labeler", "encoder": "encoder"}
    for name in ("contrastive_hnm", "classifier"):
        assert before.guidance_networks("digits", name) == {"encoder": "encoder"}
    with_classifier(folder, "third")
    guidances = {"hnm": {"encoder": "third"}, "classifier": {"classifier": "third"}}
    found = plan(
        folder,
        guidances=guidances,
        selection={"encoder": "third"},
        labelling={"classifier": "third"},
    )
    assert sorted(found.classifiers()) == sorted([*before.classifiers(), "third"])
    assert found.labeler("digits") == "third"
    assert found.selection_networks("digits") == {"labeler": "labeler", "encoder": "third"}
    for name in ("contrastive_hnm", "classifier"):
        assert found.guidance_networks("digits", name) == {"encoder": "third"}
    assert found.guidance_networks("digits", "contrastive_infonce") == {"encoder": "encoder"}
    classes = found.guidance_networks("digits", "hnm_class_conditional")
    assert classes == {"encoder": "third", "labeler": "labeler"}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"labelling": {"classifier": "labeller"}}, "did you mean labeler?"),
        ({"selection": {"encoder": "third"}}, "classifier 'third' does not exist"),
        ({"guidances": {"hnm": {"encoder": "third"}}}, "classifier 'third' does not exist"),
        ({"guidances": {"classifier": {"encoder": "encoder"}}}, "encoder is no setting"),
        ({"guidances": {"infonce": {"beta": 2}}}, "beta is no setting of guidance 'infonce'"),
        ({"guidances": {"hnm": {"loss": "hmn"}}}, "did you mean hnm?"),
    ],
)
def test_a_name_that_is_not_there_is_told_before_any_job(folder, setting, words):
    with pytest.raises(InputError) as error:
        plan(folder, **setting)
    assert words in str(error.value)


def test_images_from_elsewhere_are_a_generator(folder):
    external_arm(folder)
    found = plan(folder)
    assert found.external() == ["theirs"]
    assert found.guidance("digits", "theirs") is None
    assert found.guidance_files("digits", "theirs") == ()
    assert found.conditional("digits", "theirs") is True  # each image keeps its label
    assert found.most_candidates("digits", "theirs", 60) == 60


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"denoiser": "unconditional"}, "denoiser is set, and images are given"),
        ({"guidance": "hnm"}, "guidance is set"),
        ({"eta": "0.5"}, "eta is set"),
        ({"tables": "guidance"}, "take the arm out of it"),
    ],
)
def test_images_from_elsewhere_need_and_take_no_settings(folder, cells, words):
    external_arm(folder, **cells)
    with pytest.raises(InputError) as error:
        plan(folder)
    assert words in str(error.value)


def test_images_from_elsewhere_cannot_be_traced(folder):
    external_arm(folder)
    with pytest.raises(InputError, match="arm with synthetic images of our own 'theirs'"):
        plan(folder, trace={"arm": "theirs", "seed": 0, "image": 0})
