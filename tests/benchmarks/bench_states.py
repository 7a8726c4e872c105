"""What the states that long jobs keep cost them."""

import time

import long_jobs
import pytest
import torch

from contrastdp.jobs import resume
from contrastdp.networks.build import build_network

EVERY = 1 / 60  # minutes: 600 times as often as the default
DEFAULT = 600  # seconds
# The jobs of the tests, made long enough for some states
LONGER = {
    "train_classifier": {"settings": long_jobs.LABELER | {"steps": 4000}},
    "train_time_classifier": {"settings": long_jobs.TIMED | {"steps": 300}},
    "train_diffusion": {"training": long_jobs.DIFFUSION | {"steps": 1500}},
    "train_robust": {"settings": long_jobs.ROBUST | {"steps": 500, "validate_every": 250}},
    "sample_images": {"stop": 1803, "batch": 60},
    "attack_shard": {
        "attack": long_jobs.ATTACK | {"budget": long_jobs.BUDGET | {"apgd_steps": 200}}
    },
}
# All that a job does for its states: writing, whether one is due, what a batch was and gave, whose
# state it is
PARTS = {
    resume.Resume: ("save", "due"),
    resume: ("_fingerprint", "_owned", "digests", "code_digest"),
}


@pytest.mark.parametrize("name", long_jobs.JOBS)
def bench_states(name, tmp_path, monkeypatch):
    given, made, settings = long_jobs.JOBS[name]
    monkeypatch.setitem(long_jobs.JOBS, name, (given, made, settings | LONGER[name]))
    long_jobs.write_inputs(tmp_path)
    spent = {part: [] for parts in PARTS.values() for part in parts}

    def clocked(part, function):
        def call(*arguments, **options):
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent[part].append(time.perf_counter() - start)

        return call

    for place, parts in PARTS.items():
        for part in parts:
            monkeypatch.setattr(place, part, clocked(part, getattr(place, part)))
    start = time.perf_counter()
    long_jobs.run_job(name, tmp_path, tmp_path, EVERY)
    whole = time.perf_counter() - start
    states, writing = len(spent["save"]), sum(spent["save"])
    other = sum(map(sum, spent.values())) - writing
    print(
        f"\n{name}: {whole:.1f} s, of them {100 * writing / whole:.2f}% for {states} states of "
        f"{1000 * writing / states:.0f} ms, one every {DEFAULT} s would be "
        f"{100 * writing / states / DEFAULT:.4f}%; {1000 * other:.0f} ms for all else"
    )


def bench_large_state(tmp_path):
    """Of the robust training of a WideResNet-28-10, on this disk."""
    sizes = {"depth": 28, "width": 10, "mean": [0.5] * 3, "std": [0.25] * 3}
    network, averaged, best = (
        build_network("wide_resnet", channels=3, classes=10, image_size=32, **sizes)
        for _ in range(3)
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    parts = {"network": network, "optimizer": optimizer, "averaged": averaged}
    seconds = []
    with resume.Resume(tmp_path / ".state.resume.pt", key={}, seconds=DEFAULT) as state:
        for step in range(4):
            start = time.perf_counter()
            state.save(step, parts, {"best": best.state_dict()})
            seconds.append(time.perf_counter() - start)
        size = state.path.stat().st_size
    print(
        f"\nwide_resnet 28-10: a state of {size / 1e6:.0f} MB took {min(seconds):.2f} to "
        f"{max(seconds):.2f} s, one every {DEFAULT} s {100 * max(seconds) / DEFAULT:.2f}%"
    )
