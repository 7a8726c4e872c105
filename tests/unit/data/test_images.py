"""Image files come back as they were, and what is wrong with one is named in one line."""

import zipfile

import numpy as np
import pytest
from one_line import told

from contrastdp.data import images

IMAGE = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4, 1)


LABEL = np.array([0, 2, 1])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "images.npz"


def save(path, **changes):
    """Any arrays, past the checks of write_images."""
    np.savez(path, **({"image": IMAGE, "label": LABEL} | changes))
    return path


def test_images_and_their_records_come_back(path):
    score = np.array([0.5, 1.0, 2.0], np.float32)
    images.write_images(path, image=IMAGE, label=LABEL, score=score)
    found = images.read_images(path, classes=3, image_shape=(4, 4, 1))
    assert np.array_equal(found["image"], IMAGE)
    assert found["label"].tolist() == [0, 2, 1]
    assert np.array_equal(found["score"], score)
    kept, shape = images.read_records(path, classes=3)
    assert shape == IMAGE.shape
    assert set(kept) == {"label", "score"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": IMAGE.astype(np.float32)}, ["image is float32", "uint8"]),
        ({"image": IMAGE[..., 0]}, ["(3, 4, 4)", "(N, H, W, C)"]),
        ({"label": LABEL.astype(np.int32)}, ["label is int32", "int64"]),
        ({"label": LABEL[:2]}, ["label has 2 entries for 3 images"]),
        ({"label": LABEL[:, None]}, ["label is int64 (3, 1)"]),
        ({"label": np.array([0, 3, 1])}, ["0 to 3", "0 to 2"]),
        ({"label": np.array([0, -1, 1])}, ["without a label"]),
        ({"score": np.ones(5)}, ["score has 5 entries"]),
        ({"score": np.array([1.0, np.nan, 1.0])}, ["score of image 1 is not finite"]),
        ({"seed": np.array(3)}, ["seed is a single number"]),
        ({"label": np.array(3)}, ["label is int64 ()"]),
        ({"image": np.array(3, np.uint8)}, ["image is uint8 ()"]),
    ],
)
@pytest.mark.parametrize("read", [images.read_images, images.read_records])
def test_an_ill_formed_file_is_named(path, changes, words, read):
    line = told(read, save(path, **changes), classes=3)
    assert all(word in line for word in [str(path), *words]), line


def test_another_image_shape_is_refused(path):
    assert "(8, 8, 1)" in told(images.read_images, save(path), image_shape=(8, 8, 1))


@pytest.mark.parametrize("kept", [0, 10, 300, 400])
def test_a_truncated_file_is_refused(path, kept):
    save(path)
    path.write_bytes(path.read_bytes()[:kept])
    assert "damaged" in told(images.read_images, path)


@pytest.mark.parametrize("read", [images.read_images, images.read_records])
def test_a_single_array_is_told(tmp_path, read):
    path = tmp_path / "images.npy"
    np.save(path, IMAGE)
    assert "it is a single array" in told(read, path)


@pytest.mark.parametrize("read", [images.read_images, images.read_records])
@pytest.mark.parametrize("name", ["image", "label"])
@pytest.mark.parametrize("count", [0, 2, 4, 10**9, 10**12, 10**18])
def test_a_header_that_claims_another_size_is_refused(path, name, count, read):
    array = {"image": IMAGE, "label": LABEL}
    with zipfile.ZipFile(path, "w") as archive:
        for key, values in array.items():
            header = np.lib.format.header_data_from_array_1_0(values)
            if key == name:
                header["shape"] = (count, *values.shape[1:])
            with archive.open(f"{key}.npy", "w") as member:
                np.lib.format.write_array_header_1_0(member, header)
                member.write(values.tobytes())
    assert f"{name} claims to be" in told(read, path)


def test_a_text_among_the_arrays_is_told(path):
    with zipfile.ZipFile(save(path), "a") as archive:
        archive.writestr("README.txt", "digits")
    assert "README.txt" in told(images.read_images, path)


def test_a_flipped_byte_of_a_picture_is_refused(path):
    save(path)
    content = bytearray(path.read_bytes())
    content[content.find(IMAGE.tobytes()) + 7] ^= 1
    path.write_bytes(content)
    assert "damaged" in told(images.read_images, path)


@pytest.mark.parametrize("missing", ["image", "label"])
def test_a_missing_array_is_named(path, missing):
    arrays = {"image": IMAGE, "label": LABEL}
    del arrays[missing]
    np.savez(path, **arrays)
    assert f"no array '{missing}'" in told(images.read_images, path)


def test_a_pickle_is_never_loaded(path):
    np.savez(path, image=IMAGE, label=LABEL, extra=np.array([print, 1, 2], dtype=object))
    assert "damaged" in told(images.read_images, path)


def test_bad_images_leave_no_file(path):
    told(images.write_images, path, image=IMAGE, label=LABEL[:1])
    assert not list(path.parent.iterdir())
