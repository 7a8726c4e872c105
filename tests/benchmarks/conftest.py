"""`make bench`: times of the costly steps on this machine. It prints and asserts nothing."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest


@pytest.fixture
def measure() -> Callable[..., Any]:
    """measure(what, function, images=1): print the median of five runs, after one unmeasured."""

    def run(what: str, function: Callable[[], Any], images: int = 1) -> None:
        function()
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
        each = f", {1000 * median(seconds) / images:.3f} ms an image" if images > 1 else ""
        print(f"\n{what}: {median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f}){each}")

    return run
