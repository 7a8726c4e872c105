"""Synthetic images from elsewhere: any part of a source is that part, and a fault is one line."""

import tracemalloc

import numpy as np
import pytest

from contrastdp.errors import InputError
from contrastdp.synthesis.external import external_images

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (23, 4, 5, 3), dtype=np.uint8)
LABEL = RNG.integers(0, 7, 23)
WANTED = {"start": 4, "stop": 15, "needed": 20, "shape": (4, 5, 3), "classes": 7}


def write(folder, kind, **arrays):
    """A source of that kind that holds the arrays."""
    if kind == "folder":
        (folder / "source").mkdir()
        for name, values in arrays.items():
            np.save(folder / "source" / f"{name}.npy", values)
        return folder / "source"
    save = np.savez_compressed if kind == "compressed" else np.savez
    save(folder / "source.npz", **arrays)
    return folder / "source.npz"


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("kind", ["folder", "npz", "compressed"])
def test_a_part_is_that_part_of_the_whole(tmp_path, kind, dtype):
    source = write(tmp_path, kind, label=LABEL.astype(dtype), image=IMAGE, further=np.ones(3))
    found = external_images(source, **WANTED)
    assert np.array_equal(found["image"], IMAGE[4:15])
    assert found["image"].dtype == np.uint8
    assert np.array_equal(found["label"], LABEL[4:15])
    assert found["label"].dtype == np.int64
    assert found["index"].tolist() == list(range(4, 15))
    last = external_images(source, **WANTED | {"start": 15, "stop": 30})
    assert np.array_equal(last["image"], IMAGE[15:])
    assert np.array_equal(last["label"], LABEL[15:])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"label": None}, "has no array 'label'"),
        ({"image": None}, "has no array 'image'"),
        ({"image": IMAGE / 255}, "image is float64 .* expected uint8"),
        ({"image": IMAGE.transpose(0, 3, 1, 2)}, "move the channels to the end"),
        ({"image": IMAGE.transpose(0, 3, 1, 2).copy()}, "move the channels to the end"),
        ({"image": np.asfortranarray(IMAGE)}, "Fortran order"),
        ({"image": IMAGE[:, :3]}, "expected .4, 5, 3.; resize"),
        ({"image": IMAGE[:, :, :, 0]}, r"expected uint8 \(N, H, W, C\)"),
        ({"image": IMAGE[:19], "label": LABEL[:19]}, "has 19 images, its arms need 20"),
        ({"label": LABEL[:19]}, "label has 19 entries for 23 images"),
        ({"label": LABEL + 1}, "labels span .* to 7, expected 0 to 6"),
        ({"label": np.where(LABEL == 2, -1, LABEL)}, "without a label"),
        ({"label": LABEL.astype(float)}, "label is float64"),
        ({"label": np.array([str(c) for c in LABEL], dtype=object)}, "pickle"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_a_fault_is_one_line(tmp_path, kind, changed, words):
    given = {"image": IMAGE, "label": LABEL} | changed
    source = write(tmp_path, kind, **{k: v for k, v in given.items() if v is not None})
    with pytest.raises(InputError, match=words) as error:
        external_images(source, **WANTED)
    assert str(error.value).startswith(f"{source}: ")
    assert ("no npz file" in str(error.value)) == (words == "pickle")
    assert "\n" not in str(error.value)


def test_what_is_no_source_is_told(tmp_path):
    (tmp_path / "text.npz").write_text("no images")
    for name in ("text.npz", "absent.npz"):
        with pytest.raises(InputError, match=name):
            external_images(tmp_path / name, **WANTED)


def test_a_truncated_source_is_told(tmp_path):
    source = write(tmp_path, "folder", image=IMAGE, label=LABEL)
    whole = (source / "image.npy").read_bytes()
    (source / "image.npy").write_bytes(whole[:-700])
    with pytest.raises(InputError, match="source"):
        external_images(source, **WANTED | {"stop": 23})


@pytest.mark.parametrize("kind", ["folder", "npz", "compressed"])
def test_a_large_source_is_never_whole_in_memory(tmp_path, kind):
    source = write(
        tmp_path, kind, image=np.zeros((100_000, 32, 32, 1), np.uint8), label=[0] * 100_000
    )
    wanted = {
        "start": 99_000,
        "stop": 99_100,
        "needed": 100_000,
        "shape": (32, 32, 1),
        "classes": 7,
    }
    tracemalloc.start()
    external_images(source, **wanted)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000 * 32 * 32 / 2
