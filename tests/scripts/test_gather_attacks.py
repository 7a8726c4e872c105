"""gather_attacks on shards written by hand, against counts taken by eye."""

import copy
import csv

import pytest

from contrastdp.errors import InputError
from contrastdp.files import read_csv, read_json, write_json
from gather_attacks import gather_attacks

IDENTITY = {"arm": "ddim", "dataset": "digits", "seed": 3, "generator": "ddim", "real": 20}
IDENTITY |= {"synthetic": 50, "trainer": "trades", "selection": "none"}
ATTACK = {"version": "standard", "attacks": ["apgd-ce", "square"], "eps": "1/10", "shard_size": 4}
# Ten images: two misclassified, three broken by the first attack, one by the second, four robust.
BROKEN = ["", "clean", "apgd-ce", "", "square", "apgd-ce", "", "clean", "", "apgd-ce"]

TRAINING = {"best_step": 40, "parameters": 18224}
TRAINING |= {"provenance": {"settings": {"network": {"architecture": "mnist_cnn"}}}}
DATA = {"title": "MNIST", "subset": True, "train": 30, "test": 10}


def make_shards():
    shards = []
    for start, stop in ((0, 4), (4, 8), (8, 10)):
        broken = BROKEN[start:stop]
        label = [index % 3 for index in range(start, stop)]
        prediction = [c + (b == "clean") for c, b in zip(label, broken, strict=True)]
        images = {"index": list(range(start, stop)), "label": label}
        images |= {"clean_prediction": prediction, "broken_by": broken}
        shards.append(
            {"start": start, "stop": stop, "n_test": 10, "attack": dict(ATTACK), "images": images}
            | {"gate": [], "warnings": [], "seconds": {"apgd-ce": 1.5, "square": 2.0}}
            | {"provenance": {"seed": 0, "device": f"gpu{start}", "versions": {"torch": "2.13.0"}}}
        )
    return shards


def gather(folder, shards, identity=IDENTITY, last=()):
    paths = {"shards": [], "last": []}
    for name, given in (("shards", shards), ("last", last)):
        for number, shard in enumerate(given):
            paths[name].append(str(folder / f"{name}{number}.json"))
            write_json(paths[name][-1], shard)
    write_json(folder / "training.json", TRAINING)
    write_json(folder / "origin.json", DATA | {"archives": [], "validation": 5})
    gather_attacks(
        **paths,
        training=str(folder / "training.json"),
        origin=str(folder / "origin.json"),
        identity=identity,
        evaluation=str(folder / "evaluation.json"),
        outcomes=str(folder / "outcomes.csv"),
        outcomes_last=str(folder / "outcomes_last.csv"),
    )
    return read_json(folder / "evaluation.json")


def test_warnings_of_the_gate_are_joined(tmp_path):
    shards = make_shards()
    scaled = {"name": "scaled-logits", "says": "large", "images": 2, "of": 4}
    same = {"name": "constant-logits", "says": "the same", "images": None, "of": None}
    shards[0]["gate"] = [scaled, same]
    shards[1]["gate"] = [same]
    shards[2]["gate"] = [scaled | {"images": 1, "of": 2}]
    assert gather(tmp_path, shards)["gate"] == [scaled | {"images": 3, "of": 6}, same]
    assert gather(tmp_path, make_shards())["gate"] == []


def test_warnings_of_the_attack_are_joined_without_the_counts_of_its_batches(tmp_path):
    shards = make_shards()
    shards[0]["warnings"] = ["there are 3 points with zero gradient! See flags_doc.md for details."]
    shards[2]["warnings"] = [shards[0]["warnings"][0].replace("3", "1"), "logits look odd"]
    found = gather(tmp_path, shards)["warnings"]
    assert [warning for warning in found if warning["name"] == "autoattack"] == [
        {"name": "autoattack", "says": said, "images": None, "of": None}
        for said in ("there are some points with zero gradient!", "logits look odd")
    ]


@pytest.mark.parametrize(("n_test", "broken", "warned"), [(500, 1, 0), (500, 2, 1), (499, 1, 1)])
def test_what_square_breaks_last_is_counted_over_the_whole_split(tmp_path, n_test, broken, warned):
    """AutoAttack warns where Square lowers accuracy by more than 0.2% of all images."""
    parts = []
    for start, stop in ((0, 4), (4, n_test)):
        size = stop - start
        images = {"index": list(range(start, stop)), "label": [1] * size}
        images |= {"clean_prediction": [1] * size, "broken_by": [""] * size}
        parts.append(make_shards()[0] | {"start": start, "stop": stop, "n_test": n_test})
        parts[-1] |= {"images": images, "attack": ATTACK | {"attacks": ["fab-t", "square"]}}
    parts[0]["images"]["broken_by"][:broken] = ["square"] * broken
    found = gather(tmp_path, parts)["warnings"]
    assert [(warning["images"], warning["of"]) for warning in found] == [(broken, n_test)] * warned
    assert all(warning["name"] == "square-lowers" for warning in found)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_counts_are_those_taken_by_eye(tmp_path, order):
    shards = make_shards()
    found = gather(tmp_path, [shards[i] for i in order])
    assert {key: found[key] for key in IDENTITY} == IDENTITY
    assert (found["n_test"], found["clean_accuracy"], found["robust_accuracy"]) == (10, 0.8, 0.4)
    assert found["accuracy_after"] == {"apgd-ce": 0.5, "square": 0.4}
    assert found["seconds"] == {"apgd-ce": 4.5, "square": 6.0}
    assert found["training"] == TRAINING
    assert found["data"] == DATA
    assert found["network"] == {"architecture": "mnist_cnn", "parameters": 18224}
    assert found["attack"] == ATTACK
    assert found["provenance"]["device"] == "gpu0, gpu4, gpu8"
    assert found["provenance"]["versions"] == {"torch": "2.13.0"}
    assert found["provenance"]["seed"] == 3
    with open(tmp_path / "outcomes.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["broken_by"] for row in rows] == BROKEN
    assert [int(row["index"]) for row in rows] == list(range(10))


def spoil(shards, what):
    second = shards[1]
    if what == "gap":
        del shards[1]
    elif what == "no end":
        del shards[2]
    elif what == "no start":
        del shards[0]
    elif what == "none":
        shards.clear()
    elif what == "twice":
        shards.append(copy.deepcopy(second))
    elif what == "attack":
        second["attack"]["eps"] = "2/10"
    elif what == "version":
        second["attack"] |= {"version": "aa+mt", "attacks": ["mt"]}
        second["images"]["broken_by"] = ["mt", "", "", "clean"]
    elif what == "budget":
        for shard in shards:
            shard["attack"]["budget"] = {"mt_steps": 200}
        second["attack"]["budget"] = {"mt_steps": 20}
    elif what == "n_test":
        second["n_test"] = 11
    elif what == "short":
        second["images"]["label"].pop()
    elif what == "index":
        second["images"]["index"][0] = 9
    elif what == "unknown":
        second["images"]["broken_by"][0] = "magic"
    elif what == "misclassified":
        second["images"]["clean_prediction"][0] += 1
    elif what == "right, clean":
        second["images"]["broken_by"][2] = "clean"
    elif what == "no gate":
        del second["gate"]
    elif what == "no warnings":
        del second["warnings"]
    elif what == "lacks":
        del second["seconds"]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("gap", "leaves out images 4 to 7"),
        ("no end", "end at image 8 of 10"),
        ("no start", "leaves out images 0 to 3"),
        ("none", "no attack shards"),
        ("twice", "repeats images 4 to 7"),
        ("attack", "attack eps is '2/10' but '1/10'"),
        ("version", "attack version is 'aa+mt' but 'standard'"),
        ("budget", "attack budget is {'mt_steps': 20} but {'mt_steps': 200}"),
        ("n_test", "n_test is 11 but 10"),
        ("short", "images.label has 3 entries for the 4 images"),
        ("index", "images.index is not 4 to 7"),
        ("unknown", "image 4 is broken by 'magic'"),
        ("misclassified", "image 4 of class 1, predicted 2 unattacked"),
        ("right, clean", "cannot be broken by 'clean'"),
        ("no gate", "lacks 'gate'"),
        ("no warnings", "lacks 'warnings'"),
        ("lacks", "lacks 'seconds'"),
    ],
)
def test_shards_that_do_not_fit_are_refused_and_leave_nothing(tmp_path, what, said):
    shards = make_shards()
    spoil(shards, what)
    with pytest.raises(InputError) as error:
        gather(tmp_path, shards)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "evaluation.json").exists()
    assert not (tmp_path / "outcomes.csv").exists()


# ---------------------------------------------------------------- the last checkpoint
def make_last():
    """The shards of a network that has one image fewer broken and one more misclassified."""
    shards = make_shards()
    shards[0]["images"] |= {"broken_by": ["", "clean", "clean", ""]}
    shards[0]["images"]["clean_prediction"] = [0, 2, 0, 0]
    shards[2]["images"]["broken_by"] = ["", ""]
    shards[1]["gate"] = [{"name": "scaled-logits", "says": "large", "images": 2, "of": 4}]
    return shards


def test_the_last_checkpoint_stands_beside_the_best(tmp_path):
    found = gather(tmp_path, make_shards(), last=make_last()[::-1])
    last = found.pop("last")
    assert (last["clean_accuracy"], last["robust_accuracy"]) == (0.7, 0.5)
    assert last["accuracy_after"] == {"apgd-ce": 0.6, "square": 0.5}
    assert last["gate"] == [{"name": "scaled-logits", "says": "large", "images": 2, "of": 4}]
    assert last["seconds"] == {"apgd-ce": 4.5, "square": 6.0}
    rows = read_csv(tmp_path / "outcomes_last.csv")
    assert [row["broken_by"] for row in rows] == [
        *("", "clean", "clean", "", "square", "apgd-ce", "", "clean", "", "")
    ]
    best = read_csv(tmp_path / "outcomes.csv")
    assert [row["broken_by"] for row in best] == BROKEN
    alone = gather(tmp_path, make_shards())
    assert found == alone
    assert read_csv(tmp_path / "outcomes_last.csv") == []


def of_other_labels(shards):
    shards[0]["images"]["label"][0] += 1
    shards[0]["images"]["clean_prediction"][0] += 1


def of_other_eps(shards):
    for shard in shards:
        shard["attack"]["eps"] = "2/10"


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (of_other_eps, "attack eps is '2/10' but '1/10' in .*shards0.json; best and last"),
        (of_other_labels, "other test images"),
        (lambda shards: shards.pop(), "shards end at image 8 of 10"),
    ],
)
def test_best_and_last_need_one_attack_on_one_split(tmp_path, spoilt, said):
    last = make_last()
    spoilt(last)
    with pytest.raises(InputError, match=said) as error:
        gather(tmp_path, make_shards(), last=last)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("outcomes*.csv"))


def test_identity_must_be_whole(tmp_path):
    with pytest.raises(InputError, match="'seed' is missing"):
        gather(tmp_path, make_shards(), {k: v for k, v in IDENTITY.items() if k != "seed"})
