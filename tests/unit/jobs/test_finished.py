"""Sampling and attacks that are killed and go on: finished batches come back to the bit."""

import logging
import os
import random
import signal

import pyautoattack
import pytest
import torch
from pyautoattack import autopgd_base, fab_base, square

from contrastdp.attack import autoattack, multi_targeted
from contrastdp.diffusion import sampling
from contrastdp.diffusion.denoisers import build_denoiser
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.errors import InputError
from contrastdp.guidance.build import build_guidance
from contrastdp.jobs import resume as resume_module
from contrastdp.jobs.resume import Finished, Resume, Stopped
from contrastdp.networks.build import build_network

KEY = {"settings": "a", "model": "b"}


class Killed(BaseException):
    """Stands for kill -9: no code of the work runs after it."""


def every_batch(path, key=KEY, seconds=0.0):
    return Resume(path, key=key, seconds=seconds, share=float("inf"))


class Countdown:
    """Counts the batches that are computed, and ends the process, so to speak, in a later one."""

    def __init__(self, function, left=None):
        self.function, self.left, self.done = function, left, 0

    def __call__(self, *given, **named):
        if self.done == self.left:
            raise Killed
        self.done += 1
        return self.function(*given, **named)


# ---------------------------------------------------------------- sampling
def test_a_killed_shard_of_coupled_images_has_the_same_bits(tmp_path, monkeypatch):
    torch.manual_seed(0)
    denoiser = build_denoiser("small_denoiser", image_size=8, channels=1, classes=None, width=8)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    network = build_network("small_cnn", channels=1, classes=3, image_size=8, width=2, features=4)
    scheduler = SubsequenceScheduler(clip_sample=False)
    scheduler.set_timesteps(4)
    sample = sampling.sample_batch

    def shard(left=None, resume=None):
        counted = Countdown(sample, left)
        monkeypatch.setattr(sampling, "sample_batch", counted)
        options = {"loss": "hnm", "lambda": 50.0, "tau": 1.0, "head": 4, "seed": 5}
        guidance, sizes = build_guidance(network.features, **options), []
        made = sampling.sample_shard(
            denoiser, scheduler, start=2, stop=17, batch=4, shape=(1, 8, 8), seed=1, eta=1.0,
            guidance=guidance, sizes=sizes, resume=resume,
        )  # fmt: skip
        return [*made, torch.cat(sizes)], counted.done

    whole, batches = shard()
    assert batches == 5
    path = tmp_path / ".shard0.resume.pt"
    for left in (2, 1):  # two batches, then one more
        with pytest.raises(Killed), every_batch(path) as resume:
            shard(left, resume)
    with every_batch(path) as resume:
        found, computed = shard(resume=resume)
    assert computed == 2
    assert all(map(torch.equal, found, whole))
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- attacks
class Short(pyautoattack.AutoAttack):
    """Few steps and queries."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.square.n_queries = 40
        for part in (self.apgd, self.apgd_targeted, self.fab):
            part.n_iter = 4


@pytest.fixture
def cascade(monkeypatch):
    """Attacks images; kills the attack before the batch after `left` more."""
    network = build_network("small_cnn", channels=1, classes=5, image_size=8, width=4, features=8)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(2))
    x = torch.rand(22, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network.eval().logits.bias.data -= network(x).mean(0).detach()  # several classes
    y = network(x).argmax(1)
    y[:3] += 1  # misclassified
    y %= 5
    monkeypatch.setattr(pyautoattack, "AutoAttack", Short)
    classes = (autopgd_base.APGDAttack, autopgd_base.APGDAttack_targeted)
    classes += (fab_base.FABAttack, square.SquareAttack)
    parts, ascend = {part: part.perturb for part in classes}, multi_targeted.ascend

    def run(left=None, resume=None):
        counted = Countdown(lambda function, *given, **named: function(*given, **named), left)

        def count(function):
            return lambda *given, **named: counted(function, *given, **named)

        def warned(perturb):
            def noted(part, x, y):
                logging.getLogger("auto-attack").warning("%s, %r", type(part), x.sum())
                return perturb(part, x, y)

            return count(noted)

        for part, perturb in parts.items():
            monkeypatch.setattr(part, "perturb", warned(perturb))
        monkeypatch.setattr(multi_targeted, "ascend", count(ascend))
        budget = {"apgd_restarts": 2, "apgd_steps": 4, "mt_restarts": 2, "mt_steps": 3}
        options = {"eps": 0.03, "seed": 3, "batch": 8, "version": "worst", "budget": budget}
        outcome = autoattack.autoattack(network, x, y, resume=resume, **options)
        return outcome, counted.done

    return run


def told(outcome):
    return outcome.clean_prediction, outcome.broken_by, outcome.warnings, list(outcome.seconds)


def test_a_killed_cascade_computes_no_batch_twice_and_finds_the_same_bits(cascade, tmp_path):
    whole, batches = cascade()
    assert len(set(whole.broken_by)) >= 4
    assert len(whole.warnings) >= 7
    path, done = tmp_path / ".shard0.resume.pt", 0
    for stop in sorted(random.Random(0).sample(range(1, batches), 5)):
        with pytest.raises(Killed), every_batch(path) as resume:
            cascade(stop - done, resume)
        done = stop
    with every_batch(path) as resume:
        found, computed = cascade(resume=resume)
    assert computed == batches - done
    assert torch.equal(found.x_adv, whole.x_adv)
    assert told(found) == told(whole)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- batches of any work
def squares(resume, upto=6, stop=None, computed=None):
    """Squares of numbers as a work in batches; `stop` is called in a batch."""
    finished = Finished(resume)

    def square(number):
        if computed is not None:
            computed.append(int(number))
        if stop:
            stop(int(number))
        return number * number, "said"

    return [finished("square", square, torch.tensor(number)) for number in range(upto)], finished


def kill(number):
    if number == 3:
        raise Killed


def test_sigterm_stops_amid_a_batch_and_keeps_those_before(tmp_path):
    path, after = tmp_path / ".a.resume.pt", []

    def stop(number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            after.append(number)

    with (
        pytest.raises(Stopped, match=r"after batch 3 \(SIGTERM\); .*a.resume.pt holds batch 3"),
        every_batch(path, seconds=3600.0) as resume,
    ):
        squares(resume, stop=stop)
    assert not after
    computed = []
    with every_batch(path) as resume:
        made, _ = squares(resume, computed=computed)
    assert computed == [3, 4, 5]
    assert made == [(torch.tensor(n * n), "said") for n in range(6)]


def test_sigterm_between_batches_stops_before_the_next(tmp_path):
    computed = []
    with (
        pytest.raises(Stopped, match="no state is kept"),
        every_batch(tmp_path / ".a.resume.pt", seconds=3600.0) as resume,
    ):
        os.kill(os.getpid(), signal.SIGTERM)
        squares(resume, computed=computed)
    assert computed == []


def test_another_batch_than_before_is_computed_again_with_all_after_it(tmp_path, caplog):
    path, computed = tmp_path / ".a.resume.pt", []
    with pytest.raises(Killed), every_batch(path) as resume:
        squares(resume, stop=kill)
    with every_batch(path) as resume:
        finished = Finished(resume)
        for number in (0, 7, 2):
            finished("square", computed.append, torch.tensor(number))
    assert computed == [7, 2]
    assert "another batch than before" in caplog.text


def test_a_batch_of_another_name_is_another(tmp_path):
    with every_batch(tmp_path / ".a.resume.pt") as resume:
        finished, computed = Finished(resume), []
        finished("a", computed.append, 1)
        resume.save(1, {}, {"results": finished._results})
        finished = Finished(resume)
        finished("b", computed.append, 1)
    assert computed == [1, 1]


def test_its_clock_counts_what_was_before_the_kill(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(resume_module.time, "monotonic", lambda: now[0])
    path = tmp_path / ".a.resume.pt"

    def slow(number):
        kill(number)
        now[0] += 10.0

    with pytest.raises(Killed), every_batch(path) as resume:
        squares(resume, stop=slow)
    now[0] = 1000.0
    with every_batch(path) as resume:
        _, finished = squares(resume, upto=3)
        assert finished.clock() == 1030.0


def test_a_view_is_kept_without_what_it_is_a_view_of(tmp_path):
    path = tmp_path / ".a.resume.pt"
    with pytest.raises(Killed), every_batch(path) as resume:
        finished = Finished(resume)
        finished("view", lambda: torch.zeros(100_000)[:2])
        raise Killed
    assert path.stat().st_size < 20_000


# ---------------------------------------------------------------- files that are no state
@pytest.mark.parametrize("damage", ["truncated", "foreign", "other file"])
def test_a_file_that_is_no_state_is_refused_in_one_line_and_stays(damage, tmp_path):
    path, key = tmp_path / ".a.resume.pt", KEY
    with pytest.raises(Killed), every_batch(path) as resume:
        squares(resume, stop=kill)
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "foreign":
        key = KEY | {"model": "c"}
    else:
        torch.save({"results": []}, path)
    before = path.read_bytes()
    with (
        pytest.raises(InputError, match="delete it to start") as found,
        every_batch(path, key) as r,
    ):
        squares(r)
    assert "\n" not in str(found.value)
    assert damage != "foreign" or "(other model)" in str(found.value)
    assert path.read_bytes() == before


def test_a_full_disk_keeps_the_last_good_state_and_the_work_goes_on(tmp_path, caplog):
    path = tmp_path / ".a.resume.pt"
    with pytest.raises(Killed), every_batch(path) as resume:
        squares(resume, stop=kill)
    good = path.read_bytes()

    def full(number):
        if number == 5:
            raise Killed

    def cannot(path):
        raise OSError(28, "No space left on device", str(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume_module, "replacing", cannot)
        with pytest.raises(Killed), every_batch(path) as resume:
            squares(resume, stop=full)
    assert path.read_bytes() == good
    lines = [line for line in caplog.messages if "cannot be written" in line]
    assert len(lines) == 2
    assert "after batch 4" in lines[0]
    assert "No space left" in lines[0]
    assert "holds batch 3" in lines[0]
    with every_batch(path) as resume:
        assert len(squares(resume)[0]) == 6
    assert not path.exists()
