"""Trainings that are killed and go on: the same result to the bit, and files that are no state."""

import os
import random
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch
from bright_rows import bright_rows
from flat_training import train_flat

from contrastdp.attack.early_stopped import EarlyStopped
from contrastdp.diffusion.denoisers import build_denoiser
from contrastdp.diffusion.training import train_denoiser
from contrastdp.errors import InputError
from contrastdp.jobs import resume as resume_module
from contrastdp.jobs.resume import Resume, Stopped, resuming
from contrastdp.training.classifier import train_classifier_network
from contrastdp.training.time_classifier import train_time_classifier_network

KEY = {"settings": "a", "train": "b"}
STEPS = 9
# What the processes that the tests start import from: the project, these tests and their helpers.
PATHS = [str(Path(resume_module.__file__).parents[2]), *map(str, Path(__file__).parents[:3:2])]
SMALL = {"architecture": "small_cnn", "width": 2, "features": 4}
NORMED = {"architecture": "wide_resnet", "depth": 10, "width": 1, "mean": [0.2], "std": [0.3]}


class Killed(BaseException):
    """Stands for kill -9: no code of the training runs after it."""


images = partial(bright_rows, side=8)


# ---------------------------------------------------------------- the three trainings
def classifier(**given):
    options = {"network": SMALL, "classes": 3, "steps": STEPS, "batch": 8, "learning_rate": 1e-2}
    options |= {"weight_decay": 0.01, "shift": 1, "flip": True, "seed": 3}
    network, loss = train_classifier_network(*images(20), **options, **given)
    return [network.state_dict(), loss]


class Noisy(torch.nn.Module):
    """A denoiser with dropout, which draws from torch's own stream."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        sizes = {"image_size": 8, "channels": 1, "width": 8, "inner": 8, "depth": 1}
        self.inner = build_denoiser("small_denoiser", classes=3, **sizes)

    def forward(self, x, *given, **named):
        x = torch.nn.functional.dropout(x, 0.2, self.training)
        return self.inner(x, *given, **named)


def diffusion(**given):
    model = Noisy()
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 100), 0)
    options = {"steps": STEPS, "batch": 8, "learning_rate": 2e-3, "warmup": 3, "clip_norm": 1.0}
    options |= {"averaging": 0.9, "shift": 1, "flip": True, "micro_batch": 5, "abar": abar}
    stream = torch.Generator().manual_seed(1)
    rows = list(train_denoiser(model, *images(20), generator=stream, **options, **given))
    return [model.state_dict(), rows]


def robust(**given):
    options = {"real": images(11), "synthetic": images(30, seed=1), "validation": images(9, seed=2)}
    options |= {"loss": "trades", "classes": 3, "eps": 0.1, "step_size": 0.05, "attack_steps": 1}
    options |= {"beta": 6.0, "label_smoothing": 0.0, "steps": STEPS, "batch": 6, "seed": 4}
    options |= {"synthetic_share": 0.5, "learning_rate": 0.1, "momentum": 0.9, "warmup": 0.2}
    options |= {"weight_decay": 5e-4, "averaging": 0.9, "shift": 1, "flip": True, "cutmix": 1.0}
    options |= {"validate_every": 4, "validation_steps": 2, "averaged_statistics": "averaged"}
    network = given.pop("network", SMALL)
    result = train_flat(network, **options | given)
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]
    best = {k: v for k, v in result.best_row.items() if k != "seconds"}
    return [result.best.state_dict(), result.last.state_dict(), rows, best]


def normed(**given):
    return robust(**{"network": NORMED, "averaged_statistics": "recomputed"} | given)


def pooled(**given):
    cycle = {"schedule": "one_cycle", "epoch_steps": 3, "cycle_momentum": True}
    return robust(**{"synthetic_share": "pooled", "cutmix": 0.0, "loss": "pgd"} | cycle | given)


def synthetic_alone(**given):
    return robust(**{"real": None, "averaged_statistics": "live", "network": NORMED} | given)


def timed(**given):
    network = {"architecture": "time_unet", "width": 4, "depth": 1, "multipliers": [1, 2]}
    network |= {"attention": [], "head_size": 4, "groups": 2}
    options = {"network": network, "classes": 3, "steps": STEPS, "batch": 8, "learning_rate": 1e-2}
    options |= {"weight_decay": 0.01, "shift": 1, "flip": True, "seed": 3, "micro_batch": 5}
    attack = EarlyStopped(norm="L2", eps=0.5, steps=2, step_size="2.5 eps/steps")
    options |= {"attack": attack, "abar": torch.linspace(0.99, 0.01, 20)}
    result = train_time_classifier_network(*images(20), **options, **given)
    return [result.network.state_dict(), result.history, result.passes]


TRAININGS = [classifier, timed, diffusion, robust, normed, pooled, synthetic_alone]


def killed_in(step):
    """A progress that ends the process, so to speak, before step `step` is taken."""

    def progress(span):
        for number in span:
            if number == step:
                raise Killed
            yield number

    return progress


def every_step(path, key=KEY, seconds=0.0):
    return Resume(path, key=key, seconds=seconds, share=float("inf"))


@pytest.fixture(scope="module")
def whole():
    """Results of the trainings without interruption."""
    return {training: training() for training in TRAININGS}


def same(a, b):
    """Whether two results are equal, tensors to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


# ---------------------------------------------------------------- killed and gone on with
@pytest.mark.parametrize("training", TRAININGS)
def test_killed_at_random_steps_it_ends_with_the_same_bits(training, whole, tmp_path):
    """Four kills in one training, so 24 in all; the state may be older than the kill."""
    path = tmp_path / ".resume.pt"
    for step in sorted(random.Random(training.__name__).sample(range(1, STEPS), 4)):
        resume = every_step(path)
        with pytest.raises(Killed), resume:
            training(resume=resume, progress=killed_in(step))
        assert path.is_file()
    with every_step(path) as resume:
        assert same(training(resume=resume), whole[training])
    assert list(tmp_path.iterdir()) == []


def test_a_state_older_than_the_kill_does_as_well(whole, tmp_path, monkeypatch):
    path = tmp_path / ".resume.pt"
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr(resume_module.time, "monotonic", lambda: float(next(clock)))
    resume, done = every_step(path, seconds=10.0), []

    def progress(span):
        for number in span:
            done.append(number)
            if number == 8:
                raise Killed
            yield number

    with pytest.raises(Killed), resume:
        classifier(resume=resume, progress=progress)
    kept = torch.load(path, weights_only=True)["step"]
    assert 0 < kept < 8
    with every_step(path) as resume:
        assert same(classifier(resume=resume), whole[classifier])


def test_without_a_kill_nothing_differs_and_nothing_is_left(whole, tmp_path):
    for training in TRAININGS:
        with every_step(tmp_path / ".resume.pt") as resume:
            assert same(training(resume=resume), whole[training])
        assert list(tmp_path.iterdir()) == []


def test_states_are_as_far_apart_as_told_and_never_cost_more_than_their_share(
    tmp_path, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(resume_module.time, "monotonic", lambda: now[0])
    resume = Resume(tmp_path / "state.pt", key=KEY, seconds=10.0)
    with resume:
        assert not resume.due()
        now[0] = 10.0
        assert resume.due()

        def slow(content, file):
            now[0] += 3.0

        monkeypatch.setattr(resume_module.torch, "save", slow)
        resume.save(1, {}, {})
        now[0] = 13.0 + 149.0  # 3 s are 2% of 150 s
        assert not resume.due()
        now[0] = 13.0 + 150.0
        assert resume.due()


def test_sigterm_while_the_state_is_removed_does_not_end_the_work(tmp_path, monkeypatch):
    path, unlink, heard = tmp_path / ".resume.pt", Path.unlink, []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("it would have ended"))

    def told(self, **options):
        unlink(self, **options)
        os.kill(os.getpid(), signal.SIGTERM)

    with Resume(path, key=KEY, seconds=3600.0) as resume:
        resume.save(1, {}, {})
        monkeypatch.setattr(Path, "unlink", told)
    signal.signal(signal.SIGTERM, before)
    assert not path.exists()
    assert heard == []


# ---------------------------------------------------------------- told to stop
def test_sigterm_keeps_the_state_and_says_so(whole, tmp_path):
    path = tmp_path / ".resume.pt"
    before = signal.getsignal(signal.SIGTERM)

    def progress(span):
        for number in span:
            if number == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            yield number

    with (
        pytest.raises(Stopped, match=r"step 6 \(SIGTERM\); .*resume.pt holds step 6") as told,
        Resume(path, key=KEY, seconds=3600.0) as resume,
    ):
        robust(resume=resume, progress=progress)
    assert "\n" not in str(told.value)
    assert signal.getsignal(signal.SIGTERM) is before
    with Resume(path, key=KEY, seconds=3600.0) as resume:
        assert same(robust(resume=resume), whole[robust])


def test_sigterm_in_the_last_step_lets_it_finish(whole, tmp_path):
    def progress(span):
        for number in span:
            if number == STEPS - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield number

    with Resume(tmp_path / ".resume.pt", key=KEY, seconds=3600.0) as resume:
        assert same(classifier(resume=resume, progress=progress), whole[classifier])


PROGRAM = """
import os, signal, sys
sys.path[:0] = {paths}
import test_resume
from contrastdp.errors import InputError
def progress(span):
    for number in span:
        if number == {step}:
            os.kill(os.getpid(), signal.{name})
        yield number
try:
    with test_resume.every_step({path!r}, seconds={seconds}) as resume:
        test_resume.normed(resume=resume, progress=progress)
except InputError as error:
    sys.exit(f"one line: {{error}}")
"""


@pytest.fixture
def ended_process(working_python, tmp_path_factory):
    """A function that runs a program, with these values in its braces, to its end."""
    path = tmp_path_factory.mktemp("program") / "program.py"

    def run(program, **values):
        path.write_text(program.format(paths=PATHS, **values), encoding="utf-8")
        command = [working_python, path]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(
    ("name", "step", "seconds", "status"), [("SIGKILL", 6, 0.0, -9), ("SIGTERM", 3, 3600.0, 1)]
)
def test_a_process_that_is_killed_leaves_what_another_goes_on_from(
    name, step, seconds, status, whole, ended_process, tmp_path
):
    path = tmp_path / ".resume.pt"
    ended = ended_process(PROGRAM, step=step, name=name, seconds=seconds, path=str(path))
    assert ended.returncode == status, ended.stderr
    if name == "SIGTERM":
        assert ended.stderr.startswith("one line: told to stop after step 4")
        assert ended.stderr.count("\n") == 1
    (tmp_path / "..resume.pt.half.pt").write_bytes(b"what a kill left of a file")
    with every_step(path) as resume:
        assert same(normed(resume=resume), whole[normed])
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- files that are no state
@pytest.fixture
def state(tmp_path):
    path = tmp_path / ".resume.pt"
    resume = every_step(path)
    with pytest.raises(Killed), resume:
        classifier(resume=resume, progress=killed_in(4))
    return path


def refused(path, key=KEY):
    before = path.read_bytes()
    with pytest.raises(InputError) as told, every_step(path, key) as resume:
        classifier(resume=resume)
    assert path.read_bytes() == before
    assert "\n" not in str(told.value)
    assert str(path) in str(told.value)
    assert "delete it to start anew" in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_state_is_refused_and_stays(state, share):
    content = state.read_bytes()
    state.write_bytes(content[: int(share * len(content))])
    assert "damaged or no state" in refused(state)


def test_another_file_is_refused_and_stays(state):
    state.write_text("not of torch")
    assert "damaged or no state" in refused(state)
    torch.save({"weight": torch.zeros(2)}, state)
    assert "is no state" in refused(state)


def test_a_state_that_could_run_code_is_refused(state):
    torch.save({"step": Path("x"), "run": random.Random}, state)
    assert "damaged or no state" in refused(state)


def test_a_foreign_state_is_refused_by_what_differs_and_stays(state):
    assert "(other train)" in refused(state, KEY | {"train": "c"})
    assert "(other code, settings)" in refused(state, KEY | {"settings": "c", "code": "d"})


# ---------------------------------------------------------------- where it cannot be written
FULL = """
import resource, sys
sys.path[:0] = {paths}
import logging, test_resume
logging.basicConfig(format="%(message)s")
calls = []
def progress(span):
    for number in span:
        if number == 6:  # from here on, no file may grow beyond 4 kB
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        yield number
    raise test_resume.Killed
try:
    with test_resume.every_step({path!r}) as resume:
        test_resume.classifier(resume=resume, progress=progress)
except test_resume.Killed:
    print("ran to its end")
"""


def test_a_full_disk_leaves_the_last_good_state_and_the_training_running(
    whole, ended_process, tmp_path
):
    path = tmp_path / ".resume.pt"
    ended = ended_process(FULL, path=str(path))
    assert ended.stdout == "ran to its end\n", ended.stderr
    told = ended.stderr.splitlines()
    assert len(told) == 2, ended.stderr
    assert "the state after step 7 cannot be written" in told[0]
    assert f"{path} holds step 6" in told[0]
    assert [file.name for file in tmp_path.iterdir()] == [".resume.pt"]
    with every_step(path) as resume:
        assert same(classifier(resume=resume), whole[classifier])


def test_a_folder_that_takes_no_file_leaves_the_training_running(
    whole, tmp_path, monkeypatch, caplog
):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(resume_module, "replacing", denied)
    with every_step(tmp_path / ".resume.pt") as resume:
        assert same(classifier(resume=resume), whole[classifier])
    lines = [line for line in caplog.messages if "cannot be written" in line]
    assert len(lines) == STEPS - 1
    assert "Permission denied" in lines[0]
    assert "no state is kept" in lines[0]


# ---------------------------------------------------------------- the key
def test_the_key_is_all_that_decides_the_result(tmp_path):
    train, script = tmp_path / "train.npz", tmp_path / "script.py"
    train.write_bytes(b"images")
    script.write_text("a = 1\n")

    def key(minutes=10.0, settings=(1, 2), **files):
        given = {"script": script, "settings": settings, "train": train, "synthetic": None}
        with resuming(tmp_path / "model", minutes, **given | files) as resume:
            assert resume.path == tmp_path / ".model.resume.pt"
            return resume.key

    first = key()
    assert set(first) == {"settings", "code", "package versions", "train"}
    assert key(minutes=3.0) == first
    assert key(settings=(1, 3))["settings"] != first["settings"]
    assert key(synthetic=train)["synthetic"] == first["train"]
    train.write_bytes(b"others")
    assert key()["train"] != first["train"]
    other = tmp_path / "other.py"
    other.write_text("a = 2\n")
    assert key(script=other)["code"] != first["code"]


def test_a_process_that_does_not_write_takes_the_state_up_and_leaves_the_file(tmp_path):
    path, network = tmp_path / ".resume.pt", torch.nn.Linear(2, 1)
    with pytest.raises(Stopped), Resume(path, key=KEY, seconds=0.0) as resume:
        signal.raise_signal(signal.SIGTERM)
        resume.save(4, {"network": network}, {"rows": [1]})
    left = tmp_path / "..resume.pt.abc"  # another may be writing it just now
    left.touch()
    other, before = torch.nn.Linear(2, 1), signal.getsignal(signal.SIGTERM)
    with Resume(path, key=KEY, seconds=0.0, writes=False) as resume:
        assert signal.getsignal(signal.SIGTERM) == before
        assert resume.restore({"network": other}) == (4, {"rows": [1]})
        assert not resume.due()
    assert torch.equal(other.weight, network.weight)
    assert path.exists()
    assert left.exists()


def test_without_minutes_nothing_is_kept(tmp_path):
    with resuming(tmp_path / "model", None, script=__file__, settings=None) as resume:
        assert resume is None
