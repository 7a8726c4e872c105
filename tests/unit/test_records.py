"""Files are whole or not there, and what is wrong with one is told in one line."""

import hashlib
import json

import numpy as np
import pytest

from contrastdp import records
from contrastdp.records import InputError

IMAGE = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4, 1)
LABEL = np.array([0, 2, 1])


def told(call, *arguments, **settings):
    with pytest.raises(InputError) as error:
        call(*arguments, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "images.npz"


def save(path, **changes):
    """Any arrays, past the checks of write_images."""
    np.savez(path, **({"image": IMAGE, "label": LABEL} | changes))
    return path


# ---------------------------------------------------------------- images
def test_images_and_their_records_come_back(path):
    score = np.array([0.5, 1.0, 2.0], np.float32)
    records.write_images(path, image=IMAGE, label=LABEL, score=score)
    found = records.read_images(path, classes=3, image_shape=(4, 4, 1))
    assert np.array_equal(found["image"], IMAGE)
    assert found["label"].tolist() == [0, 2, 1]
    assert np.array_equal(found["score"], score)
    kept, shape = records.read_records(path, classes=3)
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
    ],
)
@pytest.mark.parametrize("read", [records.read_images, records.read_records])
def test_an_ill_formed_file_is_named(path, changes, words, read):
    line = told(read, save(path, **changes), classes=3)
    assert all(word in line for word in [str(path), *words]), line


def test_another_image_shape_is_refused(path):
    assert "(8, 8, 1)" in told(records.read_images, save(path), image_shape=(8, 8, 1))


@pytest.mark.parametrize("kept", [0, 10, 300, 400])
def test_a_truncated_file_is_refused(path, kept):
    save(path)
    path.write_bytes(path.read_bytes()[:kept])
    assert "damaged" in told(records.read_images, path)


def test_a_flipped_byte_of_a_picture_is_refused(path):
    save(path)
    content = bytearray(path.read_bytes())
    content[content.find(IMAGE.tobytes()) + 7] ^= 1
    path.write_bytes(content)
    assert "damaged" in told(records.read_images, path)


@pytest.mark.parametrize("missing", ["image", "label"])
def test_a_missing_array_is_named(path, missing):
    arrays = {"image": IMAGE, "label": LABEL}
    del arrays[missing]
    np.savez(path, **arrays)
    assert f"no array '{missing}'" in told(records.read_images, path)


def test_a_pickle_is_never_loaded(path):
    np.savez(path, image=IMAGE, label=LABEL, extra=np.array([print, 1, 2], dtype=object))
    assert "damaged" in told(records.read_images, path)


def test_a_missing_file_is_named(path):
    assert "no such file" in told(records.read_images, path)
    assert "no such file" in told(records.read_json, path)
    assert "no such file" in told(records.read_csv, path)


def test_bad_images_leave_no_file(path):
    told(records.write_images, path, image=IMAGE, label=LABEL[:1])
    assert not list(path.parent.iterdir())


# ---------------------------------------------------------------- whole or not at all
def test_a_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), records.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "model"
    with records.replacing_folder(folder) as temporary:
        (temporary / "a").write_text("1")
    with pytest.raises(RuntimeError), records.replacing_folder(folder) as temporary:
        (temporary / "b").write_text("2")
        raise RuntimeError
    assert [p.name for p in folder.iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


# ---------------------------------------------------------------- JSON and CSV
def test_json_refuses_numbers_that_are_not_finite(tmp_path):
    path = tmp_path / "m.json"
    assert "non-finite" in told(records.write_json, path, {"loss": float("nan")})
    assert not path.exists()
    records.write_json(path, {"n": np.int64(3), "x": np.float32(0.5), "v": np.arange(2)})
    assert records.read_json(path) == {"n": 3, "x": 0.5, "v": [0, 1]}


def test_a_damaged_json_is_named(tmp_path):
    path = tmp_path / "m.json"
    path.write_text('{"a": ')
    assert "is not JSON" in told(records.read_json, path)


def test_tables_come_back_and_ragged_rows_are_named(tmp_path):
    path = tmp_path / "t.csv"
    records.write_csv(path, [{"a": 1, "b": None}], ["a", "b"])
    assert records.read_csv(path) == [{"a": "1", "b": ""}]
    with pytest.raises(ValueError, match="c"):
        records.write_csv(path, [{"a": 1, "c": 2}], ["a", "b"])
    assert records.read_csv(path) == [{"a": "1", "b": ""}]
    path.write_text("a,b\n1,2\n3\n")
    assert "line 3" in told(records.read_csv, path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_stops(value):
    assert "loss" in told(records.finite, value, "loss", 7)
    assert records.finite(0.25, "loss", 7) == 0.25


def test_provenance_says_what_made_a_number():
    found = records.provenance(seed=3, settings={"beta": 6}, device="cpu")
    assert found["seed"] == 3
    assert found["settings"] == {"beta": 6}
    assert set(found["versions"]) == {"python", *records.PACKAGES}
    assert json.loads(json.dumps(found)) == found


def test_digests_of_a_file_and_of_a_folder(tmp_path):
    (tmp_path / "unet").mkdir()
    contents = {"config.json": b"{}", "unet/weights.safetensors": b"abc"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".timestamp").write_bytes(b"now")
    wanted = {str(tmp_path / n): hashlib.sha256(c).hexdigest() for n, c in contents.items()}
    assert records.digests(tmp_path) == wanted
    one = tmp_path / "unet" / "weights.safetensors"
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert records.digests(one) == {str(one): abc}
    with pytest.raises(InputError, match="no such file"):
        records.digests(tmp_path / "absent")
