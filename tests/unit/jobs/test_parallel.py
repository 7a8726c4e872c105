"""Training in two processes equals training in one, within rounding; real processes, over gloo."""

import logging
import os
import signal
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from contrastdp.attack.early_stopped import EarlyStopped
from contrastdp.data.images import write_images
from contrastdp.diffusion.terms import TERMS, TermOfMean
from contrastdp.diffusion.training import train_denoiser
from contrastdp.errors import InputError
from contrastdp.jobs import run as job
from contrastdp.jobs.parallel import ALONE, Group
from contrastdp.networks.batch_norm import GroupBatchNorm, share_batch_norm
from contrastdp.training.recipe import recipe_of
from contrastdp.training.robust import train_robust_network
from contrastdp.training.time_classifier import train_time_classifier_network

PLAIN = {"architecture": "small_cnn", "width": 4, "features": 8}
NORMED = {"architecture": "wide_resnet", "depth": 10, "width": 1, "mean": [0.2], "std": [0.3]}
DEEP = NORMED | {"depth": 16}
ROBUST = {
    "classes": 3,
    "eps": 0.1,
    "step_size": 0.05,
    "attack_steps": 2,
    "beta": 6.0,
    "label_smoothing": 0.1,
    "steps": 4,
    "batch": 11,
    "synthetic_share": 0.5,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "warmup": 0.25,
    "averaging": 0.9,
    "shift": 1,
    "flip": True,
    "validate_every": 2,
    "validation_steps": 1,
    "statistics_batches": 2,
    "seed": 0,
}
NORMS = {"default": {}, "cumulative": {"momentum": None}, "plain": {"affine": False}}


# Not tests/bright_rows.py: the processes import this file, and find nothing else of the tests.
def images(n, seed=0):
    y = torch.arange(n) % 3
    x = 0.1 * torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    x[torch.arange(n), 0, y * 2] += 0.8
    return x, y


def robust(network, group, **change):
    """Weights of the averaged networks, and the history but for its times."""
    given = {"real": images(12), "synthetic": images(30, seed=1), "validation": images(12, seed=2)}
    own = ("classes", "seed")
    given |= {name: ROBUST[name] for name in own}
    recipe = recipe_of({k: v for k, v in (ROBUST | change).items() if k not in own})
    result = train_robust_network(network, recipe, **given, group=group)
    found = {f"last.{name}": value for name, value in result.last.state_dict().items()}
    columns = ("loss", "validation_clean", "validation_robust")
    rows = [[row[name] for name in columns] for row in result.history]
    found["history"] = torch.tensor(rows).view(-1, 3)
    found["normalised_over"] = torch.tensor(result.passes["normalised_over"] or 0)
    assert result.passes["processes"] == group.size
    return found


@contextmanager
def refused():
    """What torch.compile did not compile, since it has compiled it for too many sizes."""
    messages, logger = [], logging.getLogger("torch._dynamo")
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    handler.addFilter(lambda record: "recompile_limit" in record.getMessage())
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


class Predictor(nn.Module):
    """A small noise predictor; those of the library take longer to import than to train."""

    def __init__(self):
        super().__init__()
        self.into, self.back = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)
        self.times, self.classes = nn.Embedding(10, 8), nn.Embedding(3, 8)

    def forward(self, x, timestep, class_labels):
        added = self.times(timestep) + self.classes(class_labels)
        return SimpleNamespace(sample=self.back((self.into(x) + added[:, :, None, None]).sin()))


class SquaredMean(TermOfMean):
    """factor ||mean over the batch of (predicted - noise)||^2, which no part knows alone."""

    def __init__(self, *, factor):
        self.factor = factor

    def statistic(self, part):
        return (part.predicted - part.noise).sum(0)

    def __call__(self, part, mean=None):
        own = (part.predicted - part.noise).mean(0)
        return self.factor * (2 * mean * own - mean * mean).sum()


def diffusion(group, **more):
    torch.manual_seed(0)
    denoiser = Predictor()
    options = {"steps": 4, "batch": 11, "learning_rate": 1e-2, "warmup": 1, "clip_norm": 0.1}
    options |= {"averaging": 0.9, "shift": 1, "flip": True, "micro_batch": 6, "group": group}
    options |= {"generator": torch.Generator().manual_seed(1), "weighting": "velocity"}
    options |= {"abar": torch.linspace(0.9, 0.1, 10)} | more
    rows = list(train_denoiser(denoiser, *images(12), **options))
    return {**denoiser.state_dict(), "loss": torch.tensor([row["loss"] for row in rows])}


def timed(group):
    network = {"architecture": "time_unet", "width": 4, "depth": 1, "multipliers": [1, 2]}
    network |= {"attention": [], "head_size": 4, "groups": 2}
    options = {"steps": 3, "batch": 11, "learning_rate": 1e-2, "weight_decay": 0.01, "shift": 1}
    options |= {"micro_batch": 6, "abar": torch.linspace(0.9, 0.1, 10), "classes": 3, "seed": 0}
    attack = EarlyStopped(norm="L2", eps=0.5, steps=2, step_size="2.5 eps/steps")
    result = train_time_classifier_network(
        *images(12), network=network, attack=attack, group=group, **options
    )
    # keys' biases change no attention, and AdamW makes steps of their gradient's rounding
    state = {k: v for k, v in result.network.state_dict().items() if k != "pool.qkv.bias"}
    state = {k: v for k, v in state.items() if not k.endswith("to_k.bias")}
    found = dict(state, passes=torch.tensor(result.passes))
    rows = [[row["loss"], row["attacked"]] for row in result.history]
    return found | {"history": torch.tensor(rows)}


def normalised(group, options):
    """What BatchNorm makes of this process's part of eleven images, and its gradients."""
    draw = torch.Generator().manual_seed(0)
    norm = nn.Sequential(nn.BatchNorm2d(3, **options))
    share_batch_norm(norm, group)
    assert isinstance(norm[0], GroupBatchNorm) == (group.size > 1)
    found = {}
    for turn in range(2):
        x = (torch.randn(11, 3, 4, 4, generator=draw) * 2 + 3).requires_grad_()
        weight = torch.randn(11, 3, 4, 4, generator=draw)
        own = group.part(slice(0, 11))
        y = norm(x[own])
        (y * weight[own]).square().sum().backward()
        found |= {f"y{turn}": y.detach(), f"dx{turn}": x.grad[own]}
    sums = {name: p.grad for name, p in norm.named_parameters()}
    if sums:
        group.add_up(list(sums.values()))
    return found | sums | dict(norm.named_buffers())


def work(*, out, group=ALONE):
    """All that is compared; each process writes its own file."""
    found = {
        "plain": robust(PLAIN, group, loss="trades"),
        "normed": robust(NORMED, group, loss="trades", micro_batch=6),
        "madry": robust(NORMED, group, loss="pgd", averaged_statistics="recomputed"),
        "diffusion": diffusion(group),
        "timed": timed(group),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TERMS, "squared_mean", SquaredMean)
        found["diffusion_mean"] = diffusion(group, terms={"squared_mean": {"factor": 1.0}})
    with refused() as messages:
        found["compiled"] = robust(DEEP, group, loss="trades", compiled="aot_eager")
    found["compiled"]["refused"] = torch.tensor(len(messages))
    found |= {f"norm_{name}": normalised(group, options) for name, options in NORMS.items()}
    flat = {f"{a}/{b}": v.contiguous() for a, part in found.items() for b, v in part.items()}
    save_file(flat, f"{out}/process{group.rank}.safetensors")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What one process finds, and what each of two does."""
    folders = {size: tmp_path_factory.mktemp(f"size{size}") for size in (1, 2)}
    for size, folder in folders.items():
        gpus = {"count": size, "names": [], "allocation": "", "locks": str(folder)}
        job.execute(work, log=str(folder / "a.log"), threads=1, gpus=gpus, out=str(folder))
    return load_file(folders[1] / "process0.safetensors"), [
        load_file(folders[2] / f"process{rank}.safetensors") for rank in range(2)
    ]


def compared(found, what):
    """The part of a file's tensors that bears a name."""
    parts = {name: value for name, value in found.items() if name.startswith(f"{what}/")}
    assert parts
    return parts


def close(found, expected, atol):
    """Equal within rounding."""
    return torch.allclose(found.double(), expected.double(), rtol=1e-4, atol=atol)


# ---------------------------------------------------------------- training
@pytest.mark.parametrize(
    "what", ["plain", "normed", "madry", "compiled", "diffusion", "diffusion_mean", "timed"]
)
def test_two_processes_train_as_one_does(both, what):
    alone, (first, _) = both
    for name, expected in compared(alone, what).items():
        assert close(first[name], expected, 1e-5), name


def test_training_moves_the_weights_far_beyond_rounding(both):
    """Else the comparison would hold for whatever the processes did."""
    alone, _ = both
    for what in ("plain", "normed", "madry", "timed"):
        history = alone[f"{what}/history"]
        assert (history[0, 0] - history[-1, 0]).abs() > 1e-2
    for what in ("diffusion", "diffusion_mean"):
        assert alone[f"{what}/loss"].diff().abs().max() > 1e-2
    assert (alone["diffusion_mean/loss"] - alone["diffusion/loss"]).abs().max() > 1e-2


def test_every_process_has_the_same_weights_to_the_bit(both):
    _, (first, second) = both
    for what in ("diffusion", "timed"):
        for name, value in compared(first, what).items():
            assert torch.equal(second[name], value), name


def test_only_the_first_validates(both):
    _, (first, second) = both
    assert len(first["plain/history"]) == 2
    assert len(second["plain/history"]) == 0


def test_batch_norm_is_over_the_images_of_all(both):
    _, (first, _) = both
    assert first["normed/normalised_over"] == 6
    assert first["madry/normalised_over"] == 11
    assert first["plain/normalised_over"] == 0


def test_torch_compile_does_not_give_up_between_shared_layers(both):
    alone, parts = both
    assert [found["compiled/refused"] for found in (alone, *parts)] == [0, 0, 0]


# ---------------------------------------------------------------- BatchNorm
@pytest.mark.parametrize("what", NORMS)
def test_shared_batch_norm_is_torchs_over_all_images(both, what):
    alone, parts = both
    for name, expected in compared(alone, f"norm_{what}").items():
        found = [part[name] for part in parts]
        if name.split("/")[1][:-1] in ("y", "dx"):
            found = [torch.cat(found)]  # each has its own images
        for value in found:
            assert close(value, expected, 1e-4), name


def test_shared_batch_norm_keeps_tensors_names_and_evaluation():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.BatchNorm2d(2)), nn.ReLU())
    network(torch.randn(4, 1, 6, 6))
    before, own = network.state_dict(), list(network.parameters())
    x = torch.randn(3, 1, 6, 6)
    expected = network.eval()(x)
    share_batch_norm(network, Group(0, 2))
    assert isinstance(network[1][0], GroupBatchNorm)
    assert list(network.state_dict()) == list(before)
    assert all(one is two for one, two in zip(network.parameters(), own, strict=True))
    assert torch.equal(network(x), expected)


# ---------------------------------------------------------------- parts of a batch
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_parts_make_the_piece(size):
    places = list(range(100))
    for piece in (slice(0, 7), slice(10, 31)):
        parts = [places[Group(rank, size).part(piece)] for rank in range(size)]
        assert [place for part in parts for place in part] == places[piece]
        lengths = {len(part) for part in parts}
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(("batch", "micro_batch"), [(2, None), (8, 2), (10, 4)])
def test_a_process_without_an_image_is_told_in_one_line(batch, micro_batch):
    with pytest.raises(InputError, match="3 processes: a pass of 2 images"):
        Group(0, 3).check(batch, micro_batch)
    Group(0, 2).check(batch, micro_batch)


def test_one_process_draws_dropout_from_the_stream_it_had():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    ALONE.seed_dropout(1, 2)
    assert torch.equal(torch.rand(1), expected)
    drawn = []
    for rank, step in ((0, 0), (1, 0), (0, 1)):
        Group(rank, 2).seed_dropout(1, step)
        drawn.append(torch.rand(1).item())
    assert len(set(drawn)) == 3


# ---------------------------------------------------------------- stopped, and gone on with
def stopping(*, stop, group=ALONE, **options):
    """train_robust, in which SIGTERM comes to the second process in step `stop`."""
    import train_robust

    def track(span, what):
        for step in span:
            if step == stop and group.rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield step

    train_robust.track = track
    train_robust.train_robust(group=group, **options)


def test_sigterm_to_one_process_stops_all_and_one_goes_on_as_if_it_had_been_alone(tmp_path):
    for name, count in (("train", 12), ("validation", 12)):
        x, y = images(count)
        image = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        write_images(tmp_path / f"{name}.npz", image=image, label=y.numpy())
    known = ("classes", "eps", "step_size", "seed", "real", "attack_steps", "beta")
    settings = {name: value for name, value in ROBUST.items() if name not in known}
    settings |= {"network": PLAIN, "steps": 8, "validate_every": 4}
    options = {name: str(tmp_path / f"{name}.npz") for name in ("train", "validation")}
    options |= {"settings": settings, "trainer": {"loss": "trades", "beta": 6.0, "attack_steps": 1}}
    options |= {"real": 12, "classes": 3, "eps": "1/10", "step_size": "1/20", "seed": 0}

    def outputs(folder):
        names = ("best.safetensors", "last.safetensors", "history.csv", "training.json")
        return {name.split(".")[0]: str(tmp_path / folder / name) for name in names}

    def run(stop, count, folder):
        gpus = {"count": count, "names": [], "allocation": "", "locks": str(tmp_path)}
        given = options | outputs(folder) | {"stop": stop, "resume_minutes": 1000.0}
        job.execute(stopping, log=str(tmp_path / "a.log"), threads=1, gpus=gpus, **given)

    with pytest.raises(SystemExit, match=r"error in stopping: told to stop after step \d+ \(SIGT"):
        run(3, 2, "stopped")
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == [".best.resume.pt"]
    log = (tmp_path / "a.log").read_text(encoding="utf-8")
    assert log.count("told to stop") == 1
    assert "Traceback" not in log

    run(None, 1, "stopped")
    assert "goes on after step" in (tmp_path / "a.log").read_text(encoding="utf-8")
    run(None, 1, "alone")
    assert {p.name for p in (tmp_path / "stopped").iterdir()} == {
        Path(path).name for path in outputs("stopped").values()
    }
    found, expected = (load_file(outputs(name)["last"]) for name in ("stopped", "alone"))
    for name, value in expected.items():
        assert close(found[name], value, 1e-4), name


# ---------------------------------------------------------------- jobs
def lonely(*, out):
    """A function of no group."""


def test_a_step_of_one_gpu_refuses_two(tmp_path):
    gpus = {"count": 2, "names": [], "allocation": "", "locks": str(tmp_path)}
    with pytest.raises(SystemExit, match="gpu 2: lonely uses one; ask for gpu 1"):
        job.execute(lonely, log=str(tmp_path / "a.log"), threads=1, gpus=gpus, out="")
