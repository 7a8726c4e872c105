"""Training in two processes equals training in one, within rounding; real processes, over gloo."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from contrastdp import job
from contrastdp.batch_norm import GroupBatchNorm, share_batch_norm
from contrastdp.denoisers import build_denoiser
from contrastdp.diffusion import train_denoiser
from contrastdp.parallel import ALONE, Group
from contrastdp.records import InputError
from contrastdp.robust_training import train_robust_network

PLAIN = {"architecture": "small_cnn", "width": 4, "features": 8}
NORMED = {"architecture": "wide_resnet", "depth": 10, "width": 1, "mean": [0.2], "std": [0.3]}
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
    "validation_steps": 2,
    "seed": 0,
}
NORMS = {"default": {}, "cumulative": {"momentum": None}, "plain": {"affine": False}}


def images(n, seed=0):
    y = torch.arange(n) % 3
    x = 0.1 * torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    x[torch.arange(n), 0, y * 2] += 0.8
    return x, y


def robust(network, group, **change):
    """Weights of the averaged networks, and the history but for its times."""
    given = {"real": images(12), "synthetic": images(30, seed=1), "validation": images(12, seed=2)}
    result = train_robust_network(network, **given, **ROBUST | change, group=group)
    found = {f"last.{name}": value for name, value in result.last.state_dict().items()}
    columns = ("loss", "validation_clean", "validation_robust")
    found["history"] = torch.tensor([[row[name] for name in columns] for row in result.history])
    found["normalised_over"] = torch.tensor(result.passes["normalised_over"] or 0)
    assert result.passes["processes"] == group.size
    return found


def diffusion(group):
    torch.manual_seed(0)
    sizes = {"image_size": 8, "channels": 1, "width": 8, "inner": 8, "depth": 1}
    denoiser = build_denoiser("small_denoiser", classes=3, **sizes)
    options = {"steps": 4, "batch": 11, "learning_rate": 1e-2, "warmup": 1, "clip_norm": 0.1}
    options |= {"averaging": 0.9, "shift": 1, "flip": True, "micro_batch": 6, "group": group}
    options |= {"generator": torch.Generator().manual_seed(1), "weighting": "velocity"}
    rows = list(
        train_denoiser(denoiser, *images(12), abar=torch.linspace(0.9, 0.1, 10), **options)
    )
    return {**denoiser.state_dict(), "loss": torch.tensor([row["loss"] for row in rows])}


def normalised(group, options):
    """What BatchNorm makes of this process's part of eleven images, and its gradients."""
    draw = torch.Generator().manual_seed(0)
    norm = nn.Sequential(nn.BatchNorm2d(3, **options))
    share_batch_norm(norm, group)
    assert isinstance(norm[0], GroupBatchNorm) == (group.size > 1)
    found = {}
    for turn in range(2):
        x = (torch.randn(11, 3, 4, 4, generator=draw) * 2 + 100).requires_grad_()
        weight = torch.randn(11, 3, 4, 4, generator=draw)
        own = group.part(slice(0, 11))
        y = norm(x[own])
        (y * weight[own]).square().sum().backward()
        found |= {f"y{turn}": y.detach(), f"dx{turn}": x.grad[own]}
    sums = {name: p.grad for name, p in norm.named_parameters()}
    group.add_up(list(sums.values())) if sums else None
    return found | sums | dict(norm.named_buffers())


def work(*, out, group=ALONE):
    """All that is compared; each process writes its own file."""
    found = {
        "plain": robust(PLAIN, group, loss="trades"),
        "normed": robust(NORMED, group, loss="trades", micro_batch=6),
        "madry": robust(NORMED, group, loss="pgd", averaged_statistics="recomputed"),
        "diffusion": diffusion(group),
    }
    found |= {f"norm_{name}": normalised(group, options) for name, options in NORMS.items()}
    flat = {f"{a}/{b}": v.contiguous() for a, part in found.items() for b, v in part.items()}
    save_file(flat, f"{out}/process{group.rank}.safetensors")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What one process finds, and what each of two does."""
    folders = {size: tmp_path_factory.mktemp(f"size{size}") for size in (1, 2)}
    for size, folder in folders.items():
        gpus = {"count": size, "names": [], "allocation": "", "locks": str(folder)}
        job.run(work, log=str(folder / "a.log"), threads=1, gpus=gpus, out=str(folder))
    (alone,) = (load_file(folders[1] / "process0.safetensors"),)
    return alone, [load_file(folders[2] / f"process{rank}.safetensors") for rank in range(2)]


def test_x(both):
    alone, (first, second) = both
    for k, v in alone.items():
        if v.shape == first[k].shape:
            print(k, (v.float() - first[k].float()).abs().max().item(), v.float().abs().max().item())
        else: print(k, "parts")
