"""Selection: ranking on hand-made scores; each score against its definition or a slow loop."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from contrastdp.attack.pgd import PGD, cross_entropy_gradient
from contrastdp.data.images import read_images, write_image_blocks, write_images
from contrastdp.errors import InputError
from contrastdp.networks.build import build_network
from contrastdp.synthesis.scoring import (
    RULES,
    centroids,
    entropy,
    gradient_norm,
    robust_gradient_norm,
    scorer,
    separability,
)
from contrastdp.synthesis.selection import first, read_candidates, top_per_class

SCORE = np.array([0.9, 0.1, 0.5, 0.7, 0.3, 0.2, 0.8, 0.4])
LABEL = np.array([0, 0, 0, 1, 1, 1, 1, 2])


# ---------------------------------------------------------------- ranking
def test_largest_and_smallest_per_class():
    chosen, short = top_per_class(SCORE[:7], LABEL[:7], classes=2, count=4, largest=True)
    assert chosen.tolist() == [0, 2, 3, 6]
    assert short == {}
    chosen, _ = top_per_class(SCORE[:7], LABEL[:7], classes=2, count=4, largest=False)
    assert chosen.tolist() == [1, 2, 4, 5]


def test_remainder_goes_to_the_first_classes():
    chosen, _ = top_per_class(SCORE[:7], LABEL[:7], classes=2, count=5, largest=True)
    assert np.bincount(LABEL[chosen]).tolist() == [3, 2]


def test_short_class_is_filled_with_the_best_of_the_rest():
    chosen, short = top_per_class(SCORE, LABEL, classes=4, count=6, largest=True)
    # quotas 2, 2, 1, 1: class 3 has no image, so the best left over, image 4 (0.3), fills up
    assert chosen.tolist() == [0, 2, 3, 4, 6, 7]
    assert short == {3: 1}


def test_ties_go_to_the_earlier_image():
    chosen, _ = top_per_class(np.zeros(6), np.zeros(6, int), classes=1, count=2, largest=True)
    assert chosen.tolist() == [0, 1]


def test_too_many_and_not_finite():
    with pytest.raises(InputError, match="8 candidates"):
        top_per_class(SCORE, LABEL, classes=3, count=9, largest=True)
    with pytest.raises(InputError, match="8 candidates"):
        first(8, 9)
    with pytest.raises(InputError, match="not finite"):
        top_per_class(np.array([np.nan, 1]), np.zeros(2, int), classes=1, count=1, largest=True)


# ---------------------------------------------------------------- candidates in their shards
def shard(index, **change):
    index = np.array(index)
    image = np.broadcast_to(index[:, None, None, None], (len(index), 2, 2, 1)).astype(np.uint8)
    return {"image": image, "label": index % 3, "index": index, "confidence": index / 10} | change


def written(folder, *shards):
    paths = [str(folder / f"shard{number}.npz") for number in range(len(shards))]
    for path, arrays in zip(paths, shards, strict=True):
        np.savez(path, **arrays)
    return paths


def pixels(pool, chosen, **options):
    blocks = list(pool.images(np.array(chosen), **options))
    return [len(block) for block in blocks], np.concatenate(blocks)[:, 0, 0, 0].tolist()


def test_candidates_are_the_first_by_index(tmp_path):
    pool = read_candidates(written(tmp_path, shard([3, 4, 5]), shard([0, 1, 2])), 4)
    assert len(pool) == 4
    assert pool.index.tolist() == [0, 1, 2, 3]
    assert pool.label.tolist() == [0, 1, 2, 0]
    assert pool.confidence.tolist() == [0, 0.1, 0.2, 0.3]
    assert pool.image_shape == (2, 2, 1)
    assert pool.further == {}


def test_records_that_every_shard_has_go_along(tmp_path):
    sizes = [shard([3, 4], size=np.array([0.3, 0.4])), shard([0, 1], size=np.array([0.0, 0.1]))]
    pool = read_candidates(written(tmp_path, *sizes), 3)
    assert pool.further["size"].tolist() == [0.0, 0.1, 0.3]
    sizes[1].pop("size")
    assert read_candidates(written(tmp_path, *sizes), 3).further == {}


@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_pixels_come_in_order_and_in_blocks(tmp_path, block):
    # indices dealt over the shards, so that a block reads several of them
    shards = [shard([7, 1, 4]), shard([0, 6]), shard([2, 5, 3])]
    pool = read_candidates(written(tmp_path, *shards), 8)
    sizes, found = pixels(pool, [1, 2, 4, 5, 7], block=block)
    assert found == [1, 2, 4, 5, 7]
    assert max(sizes) == min(block, 5)


def test_a_shard_is_read_once_where_the_indices_run_through(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        "contrastdp.synthesis.selection.read_images",
        lambda path: read.append(path) or read_images(path),
    )
    paths = written(tmp_path, shard([4, 5, 6, 7]), shard([0, 1, 2, 3]), shard([8, 9]))
    pool = read_candidates(paths, 10)
    assert pixels(pool, range(10), block=3)[1] == list(range(10))
    assert read == [paths[1], paths[0], paths[2]]


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ([shard([0, 1])], "hold 2"),
        ([shard([0, 1]), shard([1, 2])], "image 1 occurs twice"),
        ([{k: v for k, v in shard([0, 1, 2]).items() if k != "confidence"}], "confidence"),
        ([shard([0, 1]), shard([2], image=np.zeros((1, 3, 3, 1), np.uint8))], "shape"),
        ([shard([0, 1, 2], label=np.array([0, -1, 1]))], "without a label"),
        ([shard([0, 1, 2], label=np.array([0, 3, 1]))], "labels span 0 to 3"),
        ([shard([0, 1, 2], image=np.zeros((3, 2, 2, 1)))], "float64"),
        ([shard([0, 1, 2], image=np.zeros((4, 2, 2, 1), np.uint8))], "3 entries for 4"),
        ([{k: v for k, v in shard([0, 1, 2]).items() if k != "image"}], "no array 'image'"),
    ],
)
def test_bad_shards(tmp_path, shards, message):
    with pytest.raises(InputError, match=message):
        read_candidates(written(tmp_path, *shards), 3, classes=3)


def test_blocks_make_the_file_that_numpy_makes(tmp_path):
    arrays = shard(range(7))
    image = arrays.pop("image")
    write_image_blocks(
        tmp_path / "blocks.npz", [image[:3], image[3:4], image[4:]], shape=image.shape, **arrays
    )
    write_images(tmp_path / "whole.npz", image=image, **arrays)
    label, rest = arrays.pop("label"), arrays
    with open(tmp_path / "numpy.npz", "wb") as handle:
        np.savez(handle, image=image, label=label, **rest)
    expected = (tmp_path / "numpy.npz").read_bytes()
    assert (tmp_path / "blocks.npz").read_bytes() == expected
    assert (tmp_path / "whole.npz").read_bytes() == expected


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([np.zeros((2, 2, 2, 1), np.uint8)], "2 images came for 3"),
        ([np.zeros((3, 2, 1, 1), np.uint8)], "block of images is uint8"),
        ([np.zeros((3, 2, 2, 1), np.float32)], "block of images is float32"),
    ],
)
def test_blocks_that_do_not_fit_leave_nothing(tmp_path, blocks, message):
    with pytest.raises(InputError, match=message):
        write_image_blocks(
            tmp_path / "images.npz", blocks, shape=(3, 2, 2, 1), label=np.zeros(3, int)
        )
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- scores
def test_separability_against_a_slow_loop():
    generator = torch.Generator().manual_seed(0)
    features, real = torch.rand(6, 4, generator=generator), torch.rand(9, 4, generator=generator)
    label = torch.tensor([0, 1, 2, 0, 1, 2, 2, 2, 1])
    centroid = centroids(real, label, 3)
    for c in range(3):
        torch.testing.assert_close(centroid[c], real[label == c].mean(dim=0))
    for i, score in enumerate(separability(features, centroid)):
        by_hand = sum(((features[i] - centroid[c]) ** 2).sum().sqrt() for c in range(3))
        torch.testing.assert_close(score, by_hand)


def test_class_without_a_centroid():
    with pytest.raises(InputError, match="class 1"):
        centroids(torch.rand(2, 3), torch.tensor([0, 2]), 3)


def test_entropy_of_known_predictions():
    p = torch.tensor([[0.5, 0.5, 1e-12], [1 / 3, 1 / 3, 1 / 3], [1.0, 1e-12, 1e-12]])
    torch.testing.assert_close(entropy(p.log()), torch.tensor([2.0, 3.0, 1.0]).log())


def slow_norms(network, x, y):
    norms = []
    for image, label in zip(x, y, strict=True):
        network.zero_grad()
        F.cross_entropy(network(image[None]), label[None]).backward()
        norms.append(torch.sqrt(sum(p.grad.square().sum() for p in network.parameters())))
    network.zero_grad()
    return torch.stack(norms)


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
        self.logits = nn.Linear(3 * 36, 4)

    def forward(self, x):
        return self.logits(self.body(x))


@pytest.fixture
def network():
    sizes = {"channels": 1, "classes": 4, "image_size": 8, "width": 3, "features": 6}
    return build_network("small_cnn", **sizes, seed=0).eval()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(7, 1, 8, 8, generator=generator), torch.tensor([0, 1, 2, 3, 0, 1, 2])


def test_gradient_norm_against_a_slow_loop(network, images, monkeypatch):
    expected = slow_norms(network, *images)
    torch.testing.assert_close(gradient_norm(network, *images), expected)
    monkeypatch.setattr(
        "contrastdp.synthesis.scoring.CHUNK", 3 * sum(p.numel() for p in network.parameters())
    )
    torch.testing.assert_close(gradient_norm(network, *images), expected)
    normed = Normed().train()
    normed(images[0])
    normed.eval()
    torch.testing.assert_close(gradient_norm(normed, *images), slow_norms(normed, *images))


def test_robust_gradient_norm_is_the_gradient_norm_under_attack(network, images):
    x, y = images

    def attack(eps):
        return PGD(eps=eps, step_size=0.02, steps=3, generator=torch.Generator().manual_seed(0))

    zero = robust_gradient_norm(network, x, y, attack(0.0))
    torch.testing.assert_close(zero, slow_norms(network, x, y))
    robust = robust_gradient_norm(network, x, y, attack(0.1))
    x_adv = attack(0.1)(network, x, cross_entropy_gradient(y))
    torch.testing.assert_close(robust, slow_norms(network, x_adv, y))
    assert not torch.allclose(robust, zero)


def test_each_rule_scores_what_it_says(network, images):
    x, y = images
    other = build_network(
        "small_cnn", channels=1, classes=4, image_size=8, width=2, features=5, seed=4
    ).eval()
    options = {
        "labeler": other,
        "encoder": network,
        "real": (x[:4], y[:4]),
        "attack": PGD(eps=0.1, step_size=0.05, steps=2, generator=torch.Generator().manual_seed(0)),
    }
    with torch.no_grad():
        centroid = network.features(x[:4])
        expected = {
            "entropy": entropy(other(x)),
            "confidence": torch.stack([other(x)[i].softmax(0)[c] for i, c in enumerate(y)]),
            "separability": separability(network.features(x), centroid),
        }
    expected["gradient_norm"] = slow_norms(network, x, y)
    for rule in RULES:
        score = scorer(rule, **options)(x, y).detach()
        assert score.shape == (7,)
        if rule in expected:
            torch.testing.assert_close(score, expected[rule])
    with pytest.raises(InputError, match="loss"):
        scorer("loss", **options)
