"""A disk that is full: each writer tells it in one line, and what was there stays."""

import errno
import gzip
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from code_graph import ROOT
from one_line import told

from contrastdp import files, frames
from contrastdp.attack.adversarial_images import write_adversarial_images
from contrastdp.data.download import fetch_archive
from contrastdp.data.images import write_images
from contrastdp.diffusion.denoisers import build_denoiser, save_denoiser
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.networks.build import build_network
from contrastdp.networks.checkpoint import save_network
from contrastdp.report import figures
from contrastdp.theory.toy_measures import write_points

MUCH = "much text\n" * 1000
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
SIZES = {"image_size": 8, "channels": 1, "classes": 3}


def network(path):
    settings = {"architecture": "small_cnn", "width": 4, "features": 8, **SIZES}
    save_network(path, build_network(**settings))


def denoiser(path):
    sizes = {**SIZES, "width": 8, "inner": 8, "depth": 1}
    save_denoiser(path, build_denoiser("small_denoiser", **sizes), SubsequenceScheduler())


def figure(path):
    drawn, _ = plt.subplots()
    try:
        figures.save(drawn, png=path, pdf=path.with_suffix(".pdf"))
    finally:
        plt.close(drawn)


def adversarial(path):
    model = path.with_name("model")
    images = {"index": [*range(40)], "label": [0] * 40, "broken_by": ["apgd-ce"] * 40}
    identity = {"norm": "Linf", "eps": "8/255"}
    write_adversarial_images(path, images, torch.rand(40, 1, 8, 8), model, identity, 40)


def points(path):
    panel = np.ones((1, 999, 2)), np.zeros((1, 999), int)
    write_points(path, [({"reading": "a", "panel": "b", "start": 0.5, "size": 9}, *panel)])


# Each writer of the house with what it writes to; names of files decide formats.
WRITERS = {
    "m.json": lambda path: files.write_json(path, {"text": MUCH}),
    "t.md": lambda path: files.write_text(path, MUCH),
    "t.csv": lambda path: frames.write_table(path, pd.DataFrame({"a": [MUCH]})),
    "images.npz": lambda path: write_images(path, image=IMAGES, label=np.zeros(40, np.int64)),
    "adversarial.npz": adversarial,
    "points.npz": points,
    "network.safetensors": network,
    "denoiser": denoiser,
    "figure.png": figure,
}


@contextmanager
def room(size):
    """No file may grow beyond `size` bytes: the system's own refusal, as of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, 1500])
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path, name, size):
    path = tmp_path / name
    (tmp_path / "model").write_text("attacked")
    if "." in name:
        path.write_text("old")
    else:
        path.mkdir()
        (path / "old").write_text("old")
    before = sorted(tmp_path.rglob("*"))
    with room(size):
        line = told(WRITERS[name], path)
    assert line.startswith(f"{path}: cannot be written ({os.strerror(errno.EFBIG)}); free some")
    assert sorted(tmp_path.rglob("*")) == before
    assert (path if path.is_file() else path / "old").read_text() == "old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("replacing", [files.replacing, files.replacing_folder])
def test_each_way_of_being_full_is_told(tmp_path, replacing, number):
    def write():
        with replacing(tmp_path / "a"):
            raise OSError(number, os.strerror(number))

    assert os.strerror(number) in told(write)
    assert list(tmp_path.iterdir()) == []


def test_another_error_of_the_system_stays_itself(tmp_path):
    with pytest.raises(FileNotFoundError), files.replacing(tmp_path / "a"):
        (tmp_path / "absent").read_text()


def test_a_download_that_finds_no_room_is_tried_no_more(tmp_path):
    source, path = tmp_path / "mirror" / "a.gz", tmp_path / "archives" / "a.gz"
    files.write_text(source, "")
    source.write_bytes(gzip.compress(os.urandom(9999)))
    archive = {"file": "a.gz", "addresses": [str(source)], "sha256": files.digest(source)}
    with room(1500):
        line = told(fetch_archive, path, tmp_path / "o.json", dataset="a", archive=archive, wait=99)
    assert "part: cannot be written (File too large); free some space" in line
    assert not path.exists()


# ---------------------------------------------------------------- as a job
JOB = """
import resource, signal, sys
from pathlib import Path
from contrastdp.jobs.run import execute, logger

def work(*, how):
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    if how == "log":
        logger.info("a line that finds no room")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        Path(sys.argv[1], "out").write_text("much")

execute(work, log=sys.argv[1] + "/a.log", threads=1, how=sys.argv[2])
"""


def job(folder, how):
    command = [sys.executable, "-c", JOB, str(folder), how]
    environment = os.environ | {"PYTHONPATH": str(Path(ROOT) / "scripts")}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_job_whose_log_finds_no_room_goes_on(tmp_path):
    done = job(tmp_path, "log")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert "a.log: cannot be written (File too large)" in done.stderr


def test_a_job_that_finds_no_room_elsewhere_ends_in_one_line(tmp_path):
    done = job(tmp_path, "file")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error in work: " in done.stderr
    assert "free some space" in done.stderr
