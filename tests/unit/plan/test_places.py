"""What stops the workflow where it lies, or where it runs, in one line."""

import os
from pathlib import Path

import pytest
from one_line import told

from contrastdp.plan.places import check_places, named_file, named_model, put_first


def test_an_empty_folder_will_do(tmp_path):
    check_places(Path("/somewhere"), tmp_path)


@pytest.mark.parametrize("name", ["{x}", "{", "}", "a{b}c"])
def test_a_brace_in_the_repositorys_path_is_refused(tmp_path, name):
    line = told(check_places, Path("/somewhere") / name / "copy", tmp_path)
    assert line.startswith(f"/somewhere/{name}/copy: Snakemake takes '")


@pytest.mark.parametrize("name", ["results", ".snakemake"])
@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("nowhere")])
def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path, name, make):
    make(tmp_path / name)
    assert told(check_places, tmp_path, tmp_path).startswith(f"{tmp_path / name}: is no folder")


@pytest.mark.parametrize("name", ["results", ".snakemake"])
@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch, name, there):
    """Root may write everywhere, so the answer of the system is given."""
    if there:
        (tmp_path / name).mkdir()
    forbidden = tmp_path / name if there else tmp_path
    monkeypatch.setattr(os, "access", lambda path, mode: path != forbidden)
    assert "cannot be written" in told(check_places, tmp_path, tmp_path)


@pytest.mark.parametrize(("before", "after"), [({}, "/a"), ({"PYTHONPATH": "/b"}, "/a:/b")])
def test_the_checkouts_modules_come_before_all_others(before, after):
    put_first("/a", before)
    assert before == {"PYTHONPATH": after}


@pytest.mark.parametrize("source", ["models/a", "./models/a/", "models/b/../a", "models"])
def test_a_folder_of_a_model_starts_where_snakemake_runs(tmp_path, monkeypatch, source):
    (tmp_path / "models" / "a").mkdir(parents=True)
    (tmp_path / "models" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    (found,) = named_model(source, "pretrained")
    assert found == str((tmp_path / source).resolve().relative_to(tmp_path))


@pytest.mark.parametrize("source", ["google/ddpm-cifar10-32", "model", "some_one/model.v1"])
def test_a_name_on_the_hub_is_no_folder(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    assert named_model(source, "pretrained") == []


@pytest.mark.parametrize(
    "source", ["models/b", "/no/a", "./a", "../a", "a/b/c", "~/a", "a b", "a/"]
)
def test_a_missing_folder_of_a_model_is_told(tmp_path, monkeypatch, source):
    (tmp_path / "models" / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    line = told(named_model, source, "denoisers.ddpm.pretrained")
    assert line.startswith(f"denoisers.ddpm.pretrained is '{source}': no such folder in {tmp_path}")


def test_a_missing_file_that_a_setting_names_is_told(tmp_path):
    assert named_file(tmp_path, "images") == str(tmp_path)
    assert told(named_file, tmp_path / "a.npz", "images").startswith("images is '")
