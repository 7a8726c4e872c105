"""Archives built here, good, damaged and malicious: read as they are, or refused in one line."""

import gzip
import io
import stat
import struct
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from contrastdp.data import archives
from contrastdp.data.archives import read_cifar10, read_gtsrb_test, read_gtsrb_training, read_mnist
from contrastdp.errors import InputError

ROOT = "GTSRB/Final_Training/Images"


# ---------------------------------------------------------------- builders
def idx(values, magic=None, counts=None):
    shape = values.shape if counts is None else counts
    magic = 0x0800 + values.ndim if magic is None else magic
    return gzip.compress(struct.pack(f">{1 + len(shape)}I", magic, *shape) + values.tobytes())


def digits(count=7):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8)


def write_mnist(folder, images, labels):
    (folder / "i.gz").write_bytes(images)
    (folder / "l.gz").write_bytes(labels)
    return folder / "i.gz", folder / "l.gz"


def tar_gz(path, entries):
    """entries: (name or TarInfo, content) each."""
    with tarfile.open(path, "w:gz") as file:
        for name, content in entries:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def batches(count=2):
    """Entries of a CIFAR-10 archive, `count` records a batch, and the records (6, count, 3073)."""
    rng = np.random.default_rng(1)
    records = rng.integers(0, 256, (6, count, 3073), np.uint8)
    records[..., 0] = rng.integers(0, 10, (6, count))
    names = [f"data_batch_{n}.bin" for n in (1, 2, 3, 4, 5)] + ["test_batch.bin"]
    entries = [
        (f"cifar-10-batches-bin/{name}", record.tobytes())
        for name, record in zip(names, records, strict=True)
    ]
    # In another order than they are counted, as in the canonical archive.
    return [entries[i] for i in (3, 5, 0, 4, 1, 2)], records


def ppm(pixels):
    height, width, _ = pixels.shape
    return b"P6\n%d %d\n255\n" % (width, height) + pixels.tobytes()


def table(rows):
    lines = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    return "\r\n".join([*lines, *(f"{name};32;32;5;6;24;25;{c}" for name, c in rows), ""]).encode()


def zipped(path, entries):
    """entries: (name or ZipInfo, content) each."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in entries:
            file.writestr(name, content)
    return path


def signs(classes=(0, 7), tracks=2, frames=2, side=32):
    """Entries of a GTSRB training archive, and its pictures by name."""
    rng = np.random.default_rng(2)
    entries, pictures = [], {}
    for c in classes:
        names = [f"{t:05d}_{f:05d}.ppm" for t in range(tracks) for f in range(frames)]
        for name in names:
            pictures[f"{ROOT}/{c:05d}/{name}"] = rng.integers(0, 256, (side, side, 3), np.uint8)
        entries.append(
            (f"{ROOT}/{c:05d}/GT-{c:05d}.csv", table([(name, c) for name in names[::-1]]))
        )
    entries += [(name, ppm(picture)) for name, picture in reversed(pictures.items())]
    return [("GTSRB/", b""), ("GTSRB/Readme-Images.txt", b"read me"), *entries], pictures


# ---------------------------------------------------------------- MNIST
def test_mnist_as_written(tmp_path):
    image, label = digits()
    found = read_mnist(*write_mnist(tmp_path, idx(image), idx(label)))
    assert found.image.dtype == np.uint8 and found.label.dtype == np.int64
    assert np.array_equal(found.image, image[..., None])
    assert np.array_equal(found.label, label)
    assert found.track is None


def test_mnist_byte_order(tmp_path):
    # Two pictures written out by hand: the second one's pixel (row 1, column 2) alone is set.
    content = b"\0\0\x08\x03" + b"\0\0\0\x02" + b"\0\0\0\x1c" * 2 + bytes(784 + 28 + 2) + b"\xff"
    images = gzip.compress(content + bytes(784 - 31))
    labels = gzip.compress(b"\0\0\x08\x01" + b"\0\0\0\x02" + b"\x03\x09")
    found = read_mnist(*write_mnist(tmp_path, images, labels))
    assert np.argwhere(found.image).tolist() == [[1, 1, 2, 0]]
    assert found.label.tolist() == [3, 9]


def broken_mnist():
    image, label = digits()
    good = idx(image)
    return {
        "HTML": (b"<!DOCTYPE html><html>not found</html>", idx(label), "damaged or not a gzip"),
        "empty": (b"", idx(label), "ends 16 bytes early|damaged"),
        "cut packed": (good[:-200], idx(label), "damaged"),
        "checksum": (good[:-6] + b"\1\2" + good[-4:], idx(label), "damaged"),
        "cut": (idx(image, counts=(8, 28, 28)), idx(label), "ends 784 bytes early"),
        "goes on": (idx(image, counts=(6, 28, 28)), idx(label), "goes on after its 6"),
        "bomb": (idx(image, counts=(2**32 - 1, 28, 28)), idx(label), "claims 4294967295"),
        "none": (idx(image[:0]), idx(label[:0]), "claims 0"),
        "sides": (idx(image[:, :27]), idx(label), "sides"),
        "kind": (idx(image, magic=0x0D03), idx(label), "not an IDX file"),
        "swapped": (idx(label), good, "not an IDX file|ends"),
        "counts": (good, idx(label[:5]), "5 labels for the 7 images"),
        "labels": (good, idx(label + np.uint8(3)), "labels reach 1[0-2], expected 0 to 9"),
    }


@pytest.mark.parametrize("fault", broken_mnist())
def test_mnist_refused(tmp_path, fault):
    images, labels, message = broken_mnist()[fault]
    with pytest.raises(InputError, match=message) as caught:
        read_mnist(*write_mnist(tmp_path, images, labels))
    assert "\n" not in str(caught.value) and ".gz" in str(caught.value)


def test_missing_archive(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_mnist(tmp_path / "i.gz", tmp_path / "l.gz")


# ---------------------------------------------------------------- CIFAR-10
def test_cifar10_as_written(tmp_path):
    entries, records = batches()
    about = ("cifar-10-batches-bin/batches.meta.txt", b"airplane\n")
    training, test = read_cifar10(tar_gz(tmp_path / "c.tar.gz", [about, *entries]))
    assert training.image.shape == (10, 32, 32, 3) and test.image.shape == (2, 32, 32, 3)
    assert np.array_equal(training.label, records[:5, :, 0].reshape(-1))
    assert np.array_equal(test.label, records[5, :, 0])
    # Byte 1 + 1024 c + 32 y + x of a record is channel c of the pixel in row y and column x.
    for n, y, x, c in [(0, 0, 0, 0), (3, 5, 31, 1), (9, 31, 7, 2)]:
        record = records[:5].reshape(10, 3073)[n]
        assert training.image[n, y, x, c] == record[1 + 1024 * c + 32 * y + x]


def broken_cifar10():
    entries, _ = batches()
    first, content = entries[0]
    link = tarfile.TarInfo("cifar-10-batches-bin/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device = tarfile.TarInfo("cifar-10-batches-bin/device")
    device.type = tarfile.CHRTYPE
    sparse = tarfile.TarInfo("cifar-10-batches-bin/sparse")
    sparse.type = tarfile.GNUTYPE_SPARSE
    return {
        "parent": ([("../evil", b"x"), *entries], "leads out"),
        "inner parent": ([("cifar-10-batches-bin/../../evil", b"x"), *entries], "leads out"),
        "absolute": ([("/etc/evil", b"x"), *entries], "leads out"),
        "windows": ([("C:\\evil", b"x"), *entries], "leads out"),
        "backslash": ([("..\\evil", b"x"), *entries], "leads out"),
        "link": ([(link, b""), *entries], "no plain file"),
        "device": ([(device, b""), *entries], "no plain file"),
        "sparse": ([(sparse, b""), *entries], "no plain file"),
        "missing": (entries[1:], f"has no entry '{first}'"),
        "twice": ([*entries, (first, content)], "there twice"),
        "part of a record": ([(first, content[:-1]), *entries[1:]], "6145 bytes"),
        "none": ([(first, b""), *entries[1:]], "0 bytes"),
        "too many": ([(first, bytes(3073 * 10_001)), *entries[1:]], "records of 3073"),
        "labels": ([(first, b"\x0a" + content[1:]), *entries[1:]], "labels reach 10"),
        "bomb": ([("cifar-10-batches-bin/zeros", bytes(60_000_000)), *entries], "unpacks to more"),
    }


@pytest.mark.parametrize("fault", broken_cifar10())
def test_cifar10_refused(tmp_path, monkeypatch, fault):
    monkeypatch.setattr(archives, "CIFAR10_UNPACKED", 50_000_000)
    entries, message = broken_cifar10()[fault]
    with pytest.raises(InputError, match=message) as caught:
        read_cifar10(tar_gz(tmp_path / "c.tar.gz", entries))
    assert "\n" not in str(caught.value)


def test_cifar10_refuses_a_wrong_checksum(tmp_path):
    path = tar_gz(tmp_path / "c.tar.gz", batches()[0])
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # of gzip: CRC, then length
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged.*CRC"):
        read_cifar10(path)


def test_cifar10_refuses_a_name_that_unpacks_without_end(tmp_path, monkeypatch):
    # The length of an extended header is claimed, too, and is read before any entry is seen.
    monkeypatch.setattr(archives, "CIFAR10_UNPACKED", 100_000)
    info = tarfile.TarInfo("name")
    info.type, info.size = tarfile.XHDTYPE, 8 * 10**9
    path = tmp_path / "c.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + bytes(200_000)))
    with pytest.raises(InputError, match="unpacks to more than 100000 bytes"):
        read_cifar10(path)


# ---------------------------------------------------------------- GTSRB
def test_gtsrb_training_as_written(tmp_path):
    entries, pictures = signs(tracks=3)
    found = read_gtsrb_training(zipped(tmp_path / "g.zip", entries))
    assert found.label.tolist() == [0] * 6 + [7] * 6
    assert found.track.tolist() == [0, 0, 1, 1, 2, 2, *(700_000 + t for t in (0, 0, 1, 1, 2, 2))]
    # 32 x 32 pixels already, so unchanged
    assert np.array_equal(found.image, np.stack([pictures[name] for name in sorted(pictures)]))


def test_gtsrb_resizes_over_all_pixels_covered(tmp_path):
    # 96 -> 32: each new pixel is a weighted mean with the triangle 1 - |d| / 3 over old pixels,
    # whose centres lie d away from its own. Plain bilinear would read four old pixels alone.
    entries, pictures = signs(classes=(0,), tracks=1, frames=1, side=96)
    found = read_gtsrb_training(zipped(tmp_path / "g.zip", entries))
    (old,) = pictures.values()
    weight = np.maximum(0, 1 - np.abs(np.arange(96) + 0.5 - 3 * (np.arange(32)[:, None] + 0.5)) / 3)
    weight /= weight.sum(1, keepdims=True)
    expected = np.einsum("iy,jx,yxc->ijc", weight, weight, old.astype(float))
    assert np.abs(found.image[0] - expected).max() <= 1.01  # rounded after either direction


def test_gtsrb_test_as_written(tmp_path):
    rng = np.random.default_rng(3)
    pictures = rng.integers(0, 256, (3, 32, 32, 3), np.uint8)
    images = [(f"GTSRB/Final_Test/Images/{n:05d}.ppm", ppm(p)) for n, p in enumerate(pictures)][
        ::-1
    ]
    images.append(("GTSRB/Final_Test/Images/GT-final_test.test.csv", b"no classes here"))
    rows = table([("00000.ppm", 16), ("00001.ppm", 42), ("00002.ppm", 0)])
    found = read_gtsrb_test(
        zipped(tmp_path / "i.zip", images),
        zipped(tmp_path / "t.zip", [("GT-final_test.csv", rows)]),
    )
    assert found.label.tolist() == [16, 42, 0]
    assert np.array_equal(found.image, pictures)
    assert found.track is None


def broken_gtsrb():
    entries, _ = signs()
    csv_place = 2
    name, rows = entries[csv_place]
    picture, content = entries[-1]
    rest = entries[:csv_place] + entries[csv_place + 1 :]
    link = zipfile.ZipInfo(f"{ROOT}/00000/00009_00000.ppm")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    nul = zipfile.ZipInfo("x")
    nul.filename = "GTSRB/\0x"
    bzip = zipfile.ZipInfo("GTSRB/odd")
    bzip.compress_type = zipfile.ZIP_BZIP2
    wide = b"P6\n100000 100000\n255\n" + bytes(100)
    grey = io.BytesIO()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(grey, "PPM")
    png = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(png, "PNG")

    def line(old, new):
        return [*rest, (name, rows.replace(old, new))]

    def instead(other):
        return [*entries[:-1], (picture, other)]

    return {
        "parent": ([("../evil.ppm", b"x"), *entries], "leads out"),
        "absolute": ([("/evil.ppm", b"x"), *entries], "leads out"),
        "backslash": ([("GTSRB\\..\\..\\evil", b"x"), *entries], "leads out"),
        "nul": ([(nul, b"x"), *entries], "leads out"),
        "link": ([(link, b"/etc/passwd"), *entries], "no plain file"),
        "twice": ([*entries, (picture, content)], "there twice"),
        "large": ([*entries, ("GTSRB/zeros", bytes(2**20 + 1))], "at most 1048576"),
        "packing": ([*entries, (bzip, b"x")], "unusual way"),
        "entries": ([*entries, *((f"{n}", b"") for n in range(40))], "entries"),
        "bomb": ([*entries, *((f"{n}", bytes(2**20)) for n in range(3))], "bytes unpacked"),
        "picture without a row": (line(b"00000_00000.ppm;32;32;5;6;24;25;0\r\n", b""), "1 images"),
        "row without a picture": (entries[:-1], "1 images and annotations"),
        "no annotations": (rest, "4 images and annotations"),
        "nothing": (entries[:2], "there are none"),
        "class of another folder": (line(b";0\r\n", b";1\r\n"), "class 1, its folder is 00000"),
        "class": (line(b";0\r\n", b";x\r\n"), "ill-formed"),
        "row twice": (line(b"00000_00001", b"00000_00000"), "ill-formed or double"),
        "columns": (line(b"ClassId", b"Class"), "ill-formed"),
        "letters": (line(b"Width", b"W\xefdth"), "damaged"),
        "cut picture": (instead(content[:-5]), "no PPM picture"),
        "empty picture": (instead(b""), "no PPM picture"),
        "other format": (instead(png.getvalue()), "no PPM picture"),
        "grey picture": (instead(grey.getvalue()), "L, 32 x 32"),
        "picture bomb": (instead(wide), "no PPM picture"),
        "wide picture": (instead(b"P6\n600 1\n255\n" + bytes(1800)), "600 x 1"),
    }


@pytest.mark.parametrize("fault", broken_gtsrb())
def test_gtsrb_refused(tmp_path, monkeypatch, fault):
    monkeypatch.setattr(archives, "GTSRB_ENTRIES", 40)
    monkeypatch.setattr(archives, "GTSRB_UNPACKED", 2**21)
    entries, message = broken_gtsrb()[fault]
    with pytest.raises(InputError, match=message) as caught:
        read_gtsrb_training(zipped(tmp_path / "g.zip", entries))
    assert "\n" not in str(caught.value) and "g.zip" in str(caught.value)


def test_gtsrb_refuses_a_class_too_many(tmp_path):
    entries, _ = signs(classes=(0, 43))
    with pytest.raises(InputError, match="labels reach 43, expected 0 to 42"):
        read_gtsrb_training(zipped(tmp_path / "g.zip", entries))


def test_gtsrb_needs_its_table(tmp_path):
    images = zipped(tmp_path / "i.zip", [("a", b"")])
    with pytest.raises(InputError, match=r"no entry 'GT-final_test.csv'"):
        read_gtsrb_test(images, zipped(tmp_path / "t.zip", [("other.csv", b"")]))


# ---------------------------------------------------------------- any damage
@pytest.mark.parametrize("kind", ["tar", "zip", "gz"])
def test_damage_anywhere_is_told_in_one_line(tmp_path, kind):
    """Bytes changed at random places: read, or refused by an InputError, but never otherwise."""
    if kind == "tar":
        path, read = tar_gz(tmp_path / "a", batches(1)[0]), read_cifar10
        # Changed inside, not outside, of gzip, whose checksum would tell at once.
        content, pack = gzip.decompress(path.read_bytes()), gzip.compress
    elif kind == "zip":
        path, read, pack = zipped(tmp_path / "a", signs()[0]), read_gtsrb_training, bytes
        content = path.read_bytes()
    else:
        image, label = digits(2)
        path, labels = write_mnist(tmp_path, idx(image), idx(label))
        content, pack = path.read_bytes(), bytes

        def read(images):
            return read_mnist(images, labels)

    rng = np.random.default_rng(4)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        where = rng.integers(0, len(content), 3)
        for place in where if kind == "gz" else [*where, *(-where % 3000)]:
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(pack(bytes(damaged[: rng.integers(len(content) // 2, len(content))])))
        try:
            read(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 100
