"""What the tests of the plan share."""

import shutil

import pytest


@pytest.fixture
def folder(tmp_path, root):
    shutil.copytree(root / "config", tmp_path / "config")
    return tmp_path / "config"
