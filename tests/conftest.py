"""What all tests share: the repository's folder, and a copy of the workflow to run."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forked_python import EXECUTABLE, forked_python

from contrastdp.registry import Registry

# One thread a process: several on shared cores are many times slower, and results stay the same.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "config", "envs", "profiles", "rules", "scripts")
# What most of a script's start is spent on; torch._dynamo: each optimiser imports it
PACKAGES = (
    *("torch", "torch._dynamo", "safetensors.torch", "pyautoattack", "scipy.stats", "pandas"),
    *("diffusers", "diffusers.models.modeling_utils", "diffusers.models.unets.unet_2d"),
    *("jinja2", "matplotlib.figure", "sklearn.datasets", "sklearn.manifold", "statsmodels.api"),
)


@dataclass(frozen=True)
class Workflow:
    """A copy of the workflow in `folder`, with a home of its own beside it.

    python: what runs Snakemake; scripts: what runs the scripts, where that is another.
    """

    folder: Path
    python: str = sys.executable
    scripts: str = sys.executable

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its runs: nothing of the user's, no network, one thread a process."""
        mine = ("CONDA_", "MAKE", "MFLAGS", "PYTHON", "SNAKEMAKE_", "XDG_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(mine)}
        home = self.folder.parent / f"{self.folder.name}-home"
        home.mkdir(exist_ok=True)
        nowhere = "http://127.0.0.1:9"
        return kept | {
            "HOME": str(home),
            "HF_HUB_OFFLINE": "1",
            "http_proxy": nowhere,
            "https_proxy": nowhere,
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }

    def run(
        self, *arguments: str, timeout: float = 1800, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `snakemake *arguments` in the copy; `stdout` holds both of its streams.

        environment: beside or in the place of its own.
        """
        return subprocess.run(
            [self.python, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env=self.environment | {EXECUTABLE: self.scripts} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the smoke run first, so that no other worker waits for it at the end."""
    items.sort(key=lambda item: "smoke" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="module", autouse=True)
def own_sigterm() -> Iterator[None]:
    """SIGTERM as it was, afterwards: job.run leaves it ignored, for the end of its process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def registries() -> dict[str, dict[str, Any]]:
    """What each registry of the modules that are imported holds."""
    found = {}
    for module in [name for name in sys.modules if name.startswith("contrastdp.")]:
        for name, value in vars(sys.modules[module]).items():
            if isinstance(value, Registry):
                found[f"{module}.{name}"] = dict(value)
    return found


@pytest.fixture(scope="module", autouse=True)
def own_entries() -> Iterator[None]:
    """No module of tests may leave an entry in a registry: the next one's outcome hung on it."""
    before = registries()
    yield
    after = registries()
    assert {name: after[name] for name in before} == before


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def planning_python() -> Iterator[str]:
    """A python that has imported Snakemake, and nothing that a plan must do without."""
    with forked_python("snakemake.cli", "snakemake.workflow", "snakemake.logging") as python:
        yield python


@pytest.fixture(scope="session")
def working_python() -> Iterator[str]:
    """A python that has imported what scripts import, but for the library."""
    with forked_python(*PACKAGES) as python:
        yield python


@pytest.fixture(scope="session")
def workflow_copy(planning_python: str) -> Callable[[Path], Workflow]:
    """A function that copies the workflow, without results, to `workflow` in another folder."""

    def copy(into: Path) -> Workflow:
        folder = into / "workflow"
        folder.mkdir(parents=True)
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(
                    ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy2(ROOT / part, folder / part)
        return Workflow(folder, python=planning_python)

    return copy
