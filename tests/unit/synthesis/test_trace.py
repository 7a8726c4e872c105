"""The parts of a trace, against slow loops and numbers worked out by hand."""

import math

import numpy as np
import pytest

from contrastdp.errors import InputError
from contrastdp.synthesis import trace
from contrastdp.synthesis.scoring import RULES
from contrastdp.synthesis.selection import top_per_class

RNG = np.random.default_rng(0)
REAL = RNG.integers(0, 256, (23, 4, 4, 3), dtype=np.uint8)


# ---------------------------------------------------------------- the nearest training image
def slow_distance(a, b):
    """Pixel by pixel, in [0, 1]."""
    total = 0.0
    for left, right in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True):
        total += (left / 255 - right / 255) ** 2
    return math.sqrt(total)


@pytest.mark.parametrize("block", [1, 5, 23, 100])
def test_nearest_is_that_of_a_slow_loop(block):
    image = RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    distances = [slow_distance(image, other) for other in REAL]
    index, distance = trace.nearest(image, REAL, block)
    assert index == min(range(23), key=distances.__getitem__)
    assert distance == pytest.approx(min(distances), rel=1e-12)


def test_the_farthest_pixels_do_not_overflow_and_a_tie_goes_to_the_earlier():
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((3, 4, 4, 3), 255, np.uint8)
    assert trace.nearest(black, white) == (0, pytest.approx(math.sqrt(48)))


def test_nearest_of_nothing_or_of_another_shape_is_refused():
    for training in (REAL[:0], REAL[:, :3]):
        with pytest.raises(InputError, match="same shape"):
            trace.nearest(REAL[0], training)


def test_the_nearest_used_is_among_those_used():
    real = {"image": REAL, "label": np.arange(23) % 5}
    found = trace.neighbours(REAL[7], real, np.array([2, 9, 20]))
    assert found["nearest"] == {"index": 7, "label": 2, "distance": 0.0, "used": False}
    used = {i: slow_distance(REAL[7], REAL[i]) for i in (2, 9, 20)}
    best = min(used, key=used.get)
    assert found["nearest_used"]["index"] == best
    assert found["nearest_used"]["distance"] == pytest.approx(used[best])
    assert found["nearest_used"]["label"] == best % 5
    assert found["nearest_used"]["used"] is True


# ---------------------------------------------------------------- rank
@pytest.mark.parametrize("rule", RULES)
def test_rank_among_the_chosen_is_that_among_all_candidates(rule):
    """Also where a class falls short and others make up for it, and where scores tie."""
    label = np.array([0] * 12 + [1] * 3 + [2] * 9)
    score = RNG.integers(0, 5, len(label)).astype(np.float32)
    largest = RULES.about[rule]["largest"]
    chosen, short = top_per_class(score, label, classes=3, count=15, largest=largest)
    assert short == {1: 2}
    images = {"label": label[chosen], "score": score[chosen]}
    sign = -1 if largest else 1
    for place, candidate in enumerate(chosen.tolist()):
        alike = [i for i in range(len(label)) if label[i] == label[candidate]]
        alike.sort(key=lambda i: (sign * score[i], i))
        found = trace.rank(images, place, rule)
        assert found["rank"] == alike.index(candidate) + 1
        assert found["of"] == np.count_nonzero(label[chosen] == label[candidate])


def test_the_first_images_have_no_rank():
    assert trace.rank({"label": np.zeros(2, int), "score": np.zeros(2)}, 0, "none") is None


# ---------------------------------------------------------------- records, files, pictures
def test_the_record_is_plain_and_a_place_that_is_not_there_is_told():
    images = {"image": REAL, "label": np.arange(23), "index": np.arange(23) + 100}
    images["confidence"] = np.linspace(0, 1, 23, dtype=np.float32)
    found = trace.recorded(images, 22, "images.npz")
    assert found == {"label": 22, "index": 122, "confidence": 1.0}
    assert {type(value) for value in found.values()} == {int, float}
    for place in (23, -1):
        with pytest.raises(InputError, match=r"images\.npz: image -?\d+ .*choose 0 to 22"):
            trace.recorded(images, place, "images.npz")
    with pytest.raises(InputError, match="'index'"):
        trace.recorded({"image": REAL, "label": np.arange(23)}, 0, "images.npz")


def test_origin_names_the_whole_guidance_batch():
    for index, ends in ((0, [0, 19]), (19, [0, 19]), (20, [20, 39]), (59, [40, 59])):
        assert trace.origin(index, 20, 7) == {"stream": [7, index], "guidance_batch": ends}


def test_compared_counts_and_does_not_wrap_around():
    image = np.zeros((2, 2, 1), np.uint8)
    assert trace.compared(image, image.copy())["identical"] is True
    other = image.copy()
    other[0, 1], other[1, 0] = 3, 255
    wanted = {"identical": False, "largest_difference": 255, "differing": 2, "values": 4}
    assert trace.compared(image, other) == trace.compared(other, image) == wanted
    with pytest.raises(InputError, match="run all again"):
        trace.compared(image, image[:1])


@pytest.mark.parametrize("channels", [1, 3])
def test_side_by_side_shows_both(channels):
    left, right = RNG.integers(0, 256, (2, 8, 8, channels), dtype=np.uint8)
    shown = trace.side_by_side(left, right, size=256)
    assert shown.dtype == np.uint8
    assert shown.shape == (256, 2 * 256 + 32, 3)
    assert (shown[:, 256:288] == 255).all()
    assert np.array_equal(shown[::32, :256:32], np.broadcast_to(left, (8, 8, 3)))
    assert np.array_equal(shown[::32, 288::32], np.broadcast_to(right, (8, 8, 3)))
