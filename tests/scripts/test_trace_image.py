"""trace_image: the image comes again, bit for bit, and what is told of it is so."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from generator_files import HNM, SAMPLER, write_generator
from PIL import Image

from contrastdp.data.images import read_images, write_images
from contrastdp.data.tensors import draw_subset
from contrastdp.errors import InputError
from contrastdp.networks.checkpoint import load_network
from contrastdp.streams import derive_seed
from label_images import label_images
from sample_images import sample_images
from select_images import select_images
from trace_image import trace_image

GENERATORS = {
    "plain": {},
    "ddpm": {"sampler": SAMPLER | {"eta": 1.0}},
    "hnm": {"guidance": HNM},
    "clean": {"guidance": HNM | {"at": "clean"}},
    "by_labeler": {"guidance": HNM | {"pairs": "class_conditional"}, "reads": ["labeler"]},
    "conditional": {
        "guidance": HNM | {"pairs": "class_conditional"},
        "denoiser": "conditional",
        "conditional": True,
    },
    "real": {"guidance": HNM | {"pairs": "real_positive"}, "reads": ["train"]},
    "classifier_free": {
        "sampler": SAMPLER | {"guidance_scale": 3.0},
        "denoiser": "conditional",
        "conditional": True,
    },
}
SHARD, BATCH, REAL = 12, 6, 20


class Made:
    """A generator's images, labelled and selected, and the arguments to trace one of them."""

    def __init__(self, files, folder, name, selection="none"):
        row = {"sampler": SAMPLER, "guidance": None, "denoiser": "unconditional"}
        row |= {"conditional": False, "reads": []} | GENERATORS[name]
        self.folder, self.selected = folder, str(folder / "selected.npz")
        self.reads = [*row["reads"], *(["encoder"] if row["guidance"] else [])]
        self.paths = {name: str(files / f"{name}.safetensors") for name in ("encoder", "labeler")}
        self.paths |= {"train": str(files / "train.npz"), "denoiser": str(files / row["denoiser"])}
        read = ("denoiser", *self.reads)
        self.settings = {"sampler": row["sampler"], "guidance": row["guidance"], "classes": 3}
        self.settings |= {"shape": [1, 8, 8], "real": REAL, "batch": BATCH, "execution": {}}
        self.identity = {"scale": "tiny", "dataset": "d", "arm": "a", "generator": name, "seed": 0}
        self.identity |= {"selection": selection, "conditional": row["conditional"], "image": 0}
        shards = []
        for start in (0, SHARD):
            sampled, labelled = str(folder / f"sampled{start}"), str(folder / f"labelled{start}")
            sample_images(
                images=sampled,
                start=start,
                stop=start + SHARD,
                seed=0,
                device="cpu",
                **{"encoder": None} | {name: self.paths[name] for name in read},
                **self.settings,
            )
            label_images(
                images=sampled,
                labeler=self.paths["labeler"],
                conditional=row["conditional"],
                labelled=labelled,
                device="cpu",
            )
            shards.append(labelled)
        select_images(
            shards=shards,
            rule=selection,
            synthetic=10 if selection != "none" else 20,
            candidates=20,
            classes=3,
            real=REAL,
            seed=0,
            eps="1/10",
            step_size="1/40",
            attack_steps=2,
            images=self.selected,
            device="cpu",
            **{name: self.paths[name] for name in ("labeler", "encoder", "train")},
        )
        self.images = read_images(self.selected, classes=3)

    def trace(self, image=0, **changed):
        """The JSON of a trace."""
        given = {"selected": self.selected, "reads": self.reads, "settings": self.settings}
        given |= self.paths | {"identity": self.identity | {"image": image}}
        out = {kind: str(self.folder / f"trace.{kind}") for kind in ("json", "png")}
        trace_image(**given | out | {"device": "cpu"} | changed)
        return json.loads((self.folder / "trace.json").read_text())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def hnm(files, tmp_path_factory):
    return Made(files, tmp_path_factory.mktemp("hnm"), "hnm", selection="separability")


# ---------------------------------------------------------------- made again
@pytest.mark.parametrize("name", GENERATORS)
def test_an_image_of_any_generator_comes_again(files, tmp_path, capsys, name):
    made = Made(files, tmp_path, name)
    for place in (0, 17):
        found = made.trace(place)
        assert found["regenerated"]["identical"], found["regenerated"]
        assert "made again    identical" in capsys.readouterr().out
    assert found["record"]["label"] == made.images["label"][17]


def test_a_guidance_may_have_networks_of_its_own(files, tmp_path):
    """The labeler of the labels is then another, whose word on the label is shown."""
    made = Made(files, tmp_path, "by_labeler")
    mine, other = made.paths["labeler"], made.paths["encoder"]
    before = made.trace(5)
    found = made.trace(5, labeler=other, guidance_labeler=mine)
    assert found["regenerated"]["identical"]
    assert list(found["files"]["guidance_labeler"]) == [mine]
    assert list(found["files"]["labeler"]) == [other]
    assert found["labeler"] != before["labeler"]


def test_an_image_of_a_sum_of_guidances_comes_again(files, tmp_path):
    """Of a sum the guidance's networks are lists; of one part it is that part, bit for bit."""
    made = Made(files, tmp_path, "by_labeler")
    part = made.settings["guidance"]
    made.settings["guidance"] = {"loss": "sum", "parts": {"part": part}}
    encoder, labeler = made.paths["encoder"], made.paths["labeler"]
    found = made.trace(5, encoder=[encoder], guidance_labeler=[labeler])
    assert found["regenerated"]["identical"]
    assert list(found["files"]["encoder"]) == [encoder]
    assert list(found["files"]["guidance_labeler"]) == [labeler]


def test_a_selected_image_comes_again_wherever_it_was_among_the_candidates(hnm):
    index = hnm.images["index"].tolist()
    assert index != list(range(len(index)))
    for place in range(len(index)):
        found = hnm.trace(place)
        assert found["regenerated"]["identical"]
        assert found["record"]["index"] == index[place]


def test_a_changed_pixel_is_told(hnm, tmp_path, capsys):
    tampered = {name: values.copy() for name, values in hnm.images.items()}
    value = int(tampered["image"][3, 5, 2, 0])
    tampered["image"][3, 5, 2, 0] = value + 7 if value < 100 else value - 7
    write_images(tmp_path / "tampered.npz", **tampered)
    found = hnm.trace(3, selected=str(tmp_path / "tampered.npz"))
    wanted = {"identical": False, "largest_difference": 7, "differing": 1, "values": 64}
    assert found["regenerated"] == wanted
    assert "differs by up to 7 of 255, in 1 of 64 values" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changed",
    [{"guidance": None}, {"sampler": SAMPLER | {"steps": 3}}, {"batch": 3}],
    ids=str,
)
def test_other_settings_give_another_image(hnm, changed):
    assert not hnm.trace(0, settings=hnm.settings | changed)["regenerated"]["identical"]


# ---------------------------------------------------------------- what is told
def test_confidence_is_the_softmax_of_the_labeler(hnm):
    found = hnm.trace(4)
    pixels = torch.from_numpy(hnm.images["image"][4].astype(np.float32) / 255)
    with torch.no_grad():
        logits = load_network(hnm.paths["labeler"])(pixels.permute(2, 0, 1)[None])[0].double()
    weight = np.exp(logits.numpy() - logits.max().item())
    probability = weight / weight.sum()
    label = found["record"]["label"]
    assert label == found["labeler"]["label"] == probability.argmax()
    for confidence in (found["record"]["confidence"], found["labeler"]["confidence"]):
        assert confidence == pytest.approx(probability[label], abs=1e-5)


def test_a_label_of_the_generator_s_own_keeps_its_confidence(files, tmp_path, capsys):
    made = Made(files, tmp_path, "conditional")
    says = [made.trace(place) for place in range(12)]
    assert [found["record"]["label"] for found in says] == [place % 3 for place in range(12)]
    assert any(found["labeler"]["label"] != found["record"]["label"] for found in says)
    for found in says:
        own = found["record"]["confidence"]
        assert found["labeler"]["confidence"] == pytest.approx(own, abs=1e-5)
    assert "own label" in capsys.readouterr().out


def test_score_neighbours_files_and_settings(hnm):
    found = hnm.trace(2)
    assert found["record"]["score"] == pytest.approx(float(hnm.images["score"][2]))
    assert found["rank"]["rank"] >= 1
    real = read_images(hnm.paths["train"])
    used = draw_subset(real["label"], REAL, derive_seed(0, "subset")).tolist()
    image = hnm.images["image"][2] / 255
    distance = [np.linalg.norm(image - other / 255) for other in real["image"]]
    assert found["nearest"]["index"] == int(np.argmin(distance))
    assert found["nearest"]["distance"] == pytest.approx(min(distance))
    assert found["nearest"]["used"] == (int(np.argmin(distance)) in used)
    best = min(used, key=distance.__getitem__)
    assert found["nearest_used"]["index"] == best
    digest = hashlib.sha256(Path(hnm.paths["labeler"]).read_bytes()).hexdigest()
    assert found["files"]["labeler"] == {hnm.paths["labeler"]: digest}
    weights = [path for path in found["files"]["denoiser"] if path.endswith(".safetensors")]
    assert len(weights) == 1
    assert found["provenance"]["settings"] == hnm.settings
    assert found["image"] == 2
    with Image.open(hnm.folder / "trace.png") as picture:
        assert picture.size == (2 * 256 + 32, 256)


def test_a_place_that_is_not_there_stops_in_one_line(hnm):
    with pytest.raises(InputError, match="image 10 does not exist; choose 0 to 9"):
        hnm.trace(10)
