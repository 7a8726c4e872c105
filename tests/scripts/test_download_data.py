"""download_data fetches each archive of the settings, and needs no torch."""

import gzip
import hashlib
import subprocess
import sys

import pytest
import yaml
from code_graph import ROOT

from contrastdp.data.datasets import READERS
from contrastdp.errors import InputError
from contrastdp.files import read_json
from download_data import download_data

SETTINGS = {
    name: yaml.safe_load((ROOT / "config" / "datasets" / f"{name}.yaml").read_text())
    for name in READERS
    if READERS.takes(name)
}


@pytest.mark.parametrize("dataset", SETTINGS)
def test_settings_name_the_archives_that_the_loader_reads(dataset):
    archives = SETTINGS[dataset]["archives"]
    assert archives.keys() == {*READERS.takes(dataset)}
    for archive in archives.values():
        assert len(set(archive["addresses"])) >= 2
        assert all(address.endswith(f"/{archive['file']}") for address in archive["addresses"])
        assert archive.keys() == {"file", "addresses", "md5", "sha256", "bytes"}
    digests = [archive["sha256"] for archive in archives.values()]
    assert len(set(digests)) == len(digests)


def fetch(folder, own):
    """Fetch CIFAR-10 from a mirror that holds another file under that name."""
    content = gzip.compress(b"not CIFAR-10")
    archive = SETTINGS["cifar10"]["archives"]["binary"]
    (folder / archive["file"]).write_bytes(content)
    checksums = {archive["file"]: hashlib.sha256(content).hexdigest()} if own else {}
    file, origin = folder / "got" / archive["file"], folder / "got" / "origin.json"
    download_data(
        dataset="cifar10",
        archive=archive,
        mirror={"address": str(folder), "checksums": checksums},
        file=str(file),
        origin=str(origin),
    )
    return file, origin


def test_fetches_from_a_mirror(tmp_path):
    file, origin = fetch(tmp_path, own=True)
    assert gzip.decompress(file.read_bytes()) == b"not CIFAR-10"
    assert read_json(origin)["canonical"] is False


def test_a_subset_needs_the_mirror_s_checksum(tmp_path):
    with pytest.raises(InputError, match=SETTINGS["cifar10"]["archives"]["binary"]["md5"]):
        fetch(tmp_path, own=False)


def test_needs_no_torch():
    code = "import sys, download_data; sys.exit('torch' in sys.modules)"
    folder = download_data.__globals__["__file__"].rsplit("/", 1)[0]
    assert subprocess.run([sys.executable, "-c", code], cwd=folder).returncode == 0
