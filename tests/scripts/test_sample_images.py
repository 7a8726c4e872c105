"""sample_images and what follows: shards, guidance of every kind, and each image's record."""

import numpy as np
import pytest
from generator_files import HNM, SAMPLER, write_generator

from contrastdp.data.images import read_images
from contrastdp.errors import InputError
from label_images import label_images
from sample_images import sample_images

GUIDANCES = {
    "plain": None,
    "hnm": HNM,
    "infonce": HNM | {"loss": "infonce", "lambda": 5.0},
    "class_conditional": HNM | {"pairs": "class_conditional"},
    "real_positive": HNM | {"pairs": "real_positive"},
    "real_negative": HNM | {"pairs": "real_negative", "at": "clean"},
    "clipped": HNM | {"clip": 0.01},
    "classifier": {"loss": "classifier", "lambda": 9.0, "at": "state", "encoder_input": "unit"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("files"))


def sample(files, images, guidance=None, *, denoiser="unconditional", sampler=SAMPLER, **changed):
    known = {"start": 0, "stop": 12, "batch": 6, "shape": [1, 8, 8], "classes": 3, "real": 20}
    networks = {name: str(files / f"{name}.safetensors") for name in ("encoder", "labeler")}
    sample_images(
        denoiser=str(files / denoiser),
        train=str(files / "train.npz"),
        sampler=sampler,
        guidance=guidance,
        images=str(images),
        device="cpu",
        **(known | networks | {"seed": 0} | changed),
    )
    return read_images(images, labelled=False)


@pytest.mark.parametrize("name", GUIDANCES)
def test_every_guidance_gives_finite_images_and_their_record(files, tmp_path, name):
    found = sample(files, tmp_path / "shard0.npz", GUIDANCES[name])
    assert found["image"].shape == (12, 8, 8, 1)
    assert found["index"].tolist() == list(range(12))
    assert found["guidance_size"].dtype == np.float32
    assert bool(found["guidance_size"].all()) == (GUIDANCES[name] is not None)
    if name == "clipped":
        assert found["guidance_size"].max() <= 0.01 + 1e-6


def test_a_sum_of_guidances_and_its_record(files, tmp_path):
    """Two networks; of one part alone a sum is that part, bit for bit."""
    parts = {"classes": GUIDANCES["class_conditional"] | {"encoder": "labeler"}}
    alone = {"encoder": [str(files / "labeler.safetensors")]}
    alone["labeler"] = [str(files / "labeler.safetensors")]
    images = {}
    for name, given, more in (
        ("part", parts["classes"], {"encoder": alone["encoder"][0]}),
        ("one", {"loss": "sum", "parts": parts}, alone),
        (
            "two",
            {"loss": "sum", "parts": parts | {"logits": GUIDANCES["classifier"]}},
            alone | {"encoder": [*alone["encoder"], str(files / "encoder.safetensors")]},
        ),
    ):
        images[name] = sample(files, tmp_path / f"{name}.npz", given, resume_minutes=5, **more)
    assert np.array_equal(images["one"]["image"], images["part"]["image"])
    assert np.array_equal(images["one"]["guidance_size"], images["part"]["guidance_size"])
    assert not np.array_equal(images["two"]["image"], images["one"]["image"])


def test_a_shard_alone_is_its_part_of_the_whole_and_every_guidance_its_own(files, tmp_path):
    images = {}
    for name, guidance in GUIDANCES.items():
        whole = sample(files, tmp_path / "whole.npz", guidance)
        part = sample(files, tmp_path / "part.npz", guidance, start=5, stop=8)
        for key, values in part.items():
            assert np.array_equal(values, whole[key][5:8]), (name, key)
        images[name] = whole["image"].tobytes()
    assert len(set(images.values())) == len(GUIDANCES)


def test_the_labelled_shard_keeps_the_record(files, tmp_path):
    sampled = sample(files, tmp_path / "shard0.npz", HNM)
    label_images(
        images=str(tmp_path / "shard0.npz"),
        labeler=str(files / "labeler.safetensors"),
        conditional=False,
        labelled=str(tmp_path / "labelled.npz"),
        device="cpu",
    )
    labelled = read_images(tmp_path / "labelled.npz", classes=3)
    assert set(labelled) == {"image", "label", "index", "confidence", "guidance_size"}
    for name in ("image", "index", "guidance_size"):
        assert np.array_equal(labelled[name], sampled[name])


def test_a_conditional_generator_with_classifier_free_guidance(files, tmp_path):
    found = [
        sample(
            files,
            tmp_path / "shard0.npz",
            denoiser="conditional",
            sampler=SAMPLER | {"guidance_scale": scale},
        )
        for scale in (1.0, 3.0)
    ]
    assert found[0]["label"].tolist() == [i % 3 for i in range(12)]
    assert not np.array_equal(found[0]["image"], found[1]["image"])
    with pytest.raises(InputError, match="'no class'"):
        sample(files, tmp_path / "x.npz", sampler=SAMPLER | {"guidance_scale": 3.0})


def test_the_variance_counts_with_noise_alone(files, tmp_path):
    def image(**settings):
        sampler = SAMPLER | settings
        return sample(files, tmp_path / "shard0.npz", sampler=sampler)["image"]

    large = {"variance_type": "fixed_large"}
    assert np.array_equal(image(), image(**large))
    assert not np.array_equal(image(eta=1.0), image(eta=1.0, **large))


def test_micro_batches_change_rounding_alone(files, tmp_path):
    found = [
        sample(files, tmp_path / "shard0.npz", HNM, execution=execution)["image"].astype(int)
        for execution in ({}, {"micro_batch": 4}, {"precision": "float32", "channels_last": True})
    ]
    for other in found[1:]:
        assert np.abs(other - found[0]).max() <= 1
