"""A SLURM cluster for the tests of this folder, or the reason why there is none."""

import signal
import sys
from collections.abc import Iterator

import pytest
from slurm_cluster import Cluster, NoCluster


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--whole", action="store_true", help="the whole smoke scale on SLURM, not one arm of it"
    )


@pytest.fixture(scope="session")
def whole(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--whole", default=False)


@pytest.fixture(scope="session")
def planning_python() -> str:
    """A real one: what these tests kill is found by its process."""
    return sys.executable


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A running SLURM, as the module's CLUSTER says where there is one.

    The tests are skipped, with the reason, where it cannot be had.
    """
    # Told to stop, pytest would else end without taking it down.
    before = signal.signal(
        signal.SIGTERM, lambda *_: pytest.exit("told to stop (SIGTERM)", returncode=143)
    )
    try:
        found = Cluster(**getattr(request.module, "CLUSTER", {}))
        found.start()
    except NoCluster as reason:
        signal.signal(signal.SIGTERM, before)
        pytest.skip(str(reason))
    try:
        yield found
    finally:
        found.stop()
        signal.signal(signal.SIGTERM, before)
