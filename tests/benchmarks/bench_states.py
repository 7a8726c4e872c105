"""What keeping states costs the long jobs: every second, 600 times as often as the default."""

import shutil
import time
from statistics import median

import long_jobs
import pytest

from contrastdp.resume import Resume

PAIRS = 3
EVERY = 1 / 60  # minutes
# The jobs of the tests, made long enough for some states
LONGER = {
    "train_classifier": {"settings": long_jobs.LABELER | {"steps": 12000}},
    "train_diffusion": {"training": long_jobs.DIFFUSION | {"steps": 5000}},
    "train_robust": {"settings": long_jobs.ROBUST | {"steps": 2000, "validate_every": 500}},
    "sample_images": {"stop": 2403, "batch": 60},
    "attack_shard": {
        "attack": long_jobs.ATTACK | {"budget": long_jobs.BUDGET | {"apgd_steps": 500}}
    },
}


@pytest.mark.parametrize("name", long_jobs.JOBS)
def bench_states(name, tmp_path, monkeypatch):
    given, made, settings = long_jobs.JOBS[name]
    monkeypatch.setitem(long_jobs.JOBS, name, (given, made, settings | LONGER[name]))
    long_jobs.write_inputs(tmp_path / "in")
    states = []

    def counted(self, *arguments, save=Resume.save):
        states.append(arguments[0])
        return save(self, *arguments)

    monkeypatch.setattr(Resume, "save", counted)
    seconds = {None: [], EVERY: []}
    for _ in range(PAIRS + 1):  # the first is not counted
        for minutes, found in seconds.items():
            start = time.perf_counter()
            long_jobs.run_job(name, tmp_path / "in", tmp_path / "out", minutes)
            found.append(time.perf_counter() - start)
            shutil.rmtree(tmp_path / "out")
    ratios = [with_ / without for without, with_ in zip(*seconds.values(), strict=True)][1:]
    print(
        f"\n{name}: {median(seconds[None][1:]):.1f} s without states, with "
        f"{len(states) / (PAIRS + 1):.0f} of them {median(ratios):.3f} of that "
        f"({min(ratios):.3f} to {max(ratios):.3f})"
    )
