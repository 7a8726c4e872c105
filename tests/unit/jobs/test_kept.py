"""Outputs under a second name: what puts them back, and whose a file is."""

import errno
import logging
import os
import shutil
from pathlib import Path

import pytest
from one_line import told

from contrastdp.files import replacing_folder, write_text
from contrastdp.jobs import kept as kept_module
from contrastdp.jobs.kept import Kept, check_owners

# A job by the folder of its outputs, and what it writes: of two arms, seeds or generators.
PLACES = {
    "network": ("classifier/labeler/n60/seed0", "model.safetensors"),
    "denoiser": ("diffusion/plain/n60/seed0", "model"),
    "samples": ("samples/plain/n60/seed0", "shard0.npz"),
    "selected images": ("selected/a/seed0", "images.npz"),
    "robust network": ("robust/a/seed0", "last.safetensors"),
    "attacks": ("attacks/a/seed0", "shard0.json"),
}


def job(folder, name, text, **settings):
    """The Kept of a job, once it has written `text` to two files, or a folder and a file."""
    outputs = [f"{folder}/{name}", f"{folder}/beside.csv"]
    kept = Kept(rule="make", code="0", settings=settings, inputs={}, outputs=outputs)
    if "." in name:
        write_text(outputs[0], text)
    else:
        with replacing_folder(outputs[0]) as model:
            write_text(model / "unet" / "weights", text)
    write_text(outputs[1], text)
    return kept


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path("results/smoke/digits")


def lost(kept):
    for path in kept.outputs:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def text_of(path):
    return (path / "unet/weights" if path.is_dir() else path).read_text()


# ---------------------------------------------------------------- put back
@pytest.mark.parametrize(("place", "name"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("links", [True, False], ids=["links", "copies"])
def test_lost_outputs_come_back_for_the_same_settings(folder, place, name, links, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    kept = job(folder / place, name, "good", value=1)
    kept.keep()
    lost(kept)
    assert not job(folder / place, name, "slip", value=2).put_back()
    lost(kept)
    again = Kept(rule="make", code="0", settings={"value": 1}, inputs={}, outputs=kept.outputs)
    assert again.put_back()
    assert [text_of(path) for path in again.outputs] == ["good", "good"]
    check_owners([str(path) for path in again.outputs])


def test_what_is_kept_takes_no_room(folder):
    kept = job(folder, "best.safetensors", "good")
    kept.keep()
    assert (kept.folder / "best.safetensors").samefile(kept.outputs[0])


@pytest.mark.parametrize("inputs", [{"train": "other"}, {"synthetic": "same"}])
def test_other_inputs_bring_nothing_back(folder, inputs):
    for name in ("same", "other"):
        write_text(name, name)
    outputs = [str(folder / "best.safetensors")]
    common = {"rule": "make", "code": "0", "settings": {}, "outputs": outputs}
    kept = Kept(inputs={"train": ["same"]}, **common)
    write_text(outputs[0], "good")
    kept.keep()
    given = {name: [path] for name, path in inputs.items()}
    assert not Kept(inputs=given, **common).put_back()
    assert Kept(inputs={"train": ["same"]}, **common).put_back()


def test_a_damaged_copy_is_not_put_back(folder, caplog):
    kept = job(folder, "best.safetensors", "good")
    kept.keep()
    (kept.folder / "beside.csv").write_text("damaged")
    with caplog.at_level(logging.INFO, "contrastdp.jobs.kept"):
        assert not kept.put_back()
    assert "beside.csv: missing or damaged" in caplog.text


def test_what_cannot_be_kept_leaves_no_receipt_of_other_files(folder, caplog, monkeypatch):
    job(folder, "best.safetensors", "good").keep()
    kept = job(folder, "best.safetensors", "better")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(kept_module, "write_json", full)
    kept.keep()
    assert "cannot be kept" in caplog.text
    assert not kept.folder.exists()
    check_owners([str(path) for path in kept.outputs])


# ---------------------------------------------------------------- whose a file is
@pytest.mark.parametrize(("place", "name"), PLACES.values(), ids=PLACES)
def test_the_file_of_other_work_is_refused_in_a_line_that_names_both(folder, place, name):
    other = place.replace("seed0", "seed1")
    for where, text in ((place, "mine"), (other, "theirs")):
        job(folder / where, name, text).keep()
    mine, theirs = folder / place / name, folder / other / name
    check_owners([str(mine), str(theirs)])
    mine.unlink() if mine.is_file() else shutil.rmtree(mine)
    (shutil.copytree if theirs.is_dir() else shutil.copy)(theirs, mine)
    line = told(check_owners, [str(mine)])
    assert line.startswith(f"{mine}: is the file of {theirs}, not what make wrote there (sha256 ")
    assert "; move it away and run again, or delete" in line  # it may be the user's own
    assert line.endswith(f"delete {mine.parent}/.{mine.stem}.kept to have it taken as it is")


def test_a_network_of_other_sizes_from_elsewhere_is_refused(folder):
    kept = job(folder, "model.safetensors", "width 16")
    kept.keep()
    write_text(kept.outputs[0], "width 8")
    assert "model.safetensors: is another file, not what make wrote" in told(
        check_owners, [str(kept.outputs[0])]
    )


def test_a_whole_folder_of_another_arm_is_refused(folder):
    kept = job(folder / "selected/b/seed0", "images.npz", "b")
    kept.keep()
    shutil.copytree(folder / "selected/b", folder / "selected/a")
    path = folder / "selected/a/seed0/images.npz"
    assert f"{path}: is the file of {kept.outputs[0]};" in told(check_owners, [str(path)])
    moved = Kept(rule="make", code="0", settings={}, inputs={}, outputs=[str(path)])
    assert not moved.put_back()


def test_files_without_a_receipt_are_taken(folder):
    kept = job(folder, "images.npz", "theirs")
    check_owners([str(path) for path in kept.outputs])
