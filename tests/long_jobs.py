"""One small job of each kind that goes on after a kill, as keywords of its script's function."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from generator_files import HNM, write_generator

from contrastdp.data.images import read_images, write_images
from contrastdp.data.tensors import to_tensor
from contrastdp.files import read_csv, read_json
from contrastdp.networks.checkpoint import load_network

SIZES = {"classes": 3, "real": 24}
NETWORK = {"architecture": "small_cnn", "width": 4, "features": 8}
LABELER = {"network": NETWORK, "steps": 100, "batch": 12, "learning_rate": 0.002, "shift": 1}
LABELER |= {"weight_decay": 0.01}
ROBUST = {"network": NETWORK, "steps": 60, "batch": 12, "learning_rate": 0.1, "momentum": 0.9}
ROBUST |= {"weight_decay": 5e-4, "warmup": 0.2, "averaging": 0.9, "shift": 1, "beta": 6.0}
ROBUST |= {"attack_steps": 3, "label_smoothing": 0.0, "synthetic_share": 0.5}
ROBUST |= {"validate_every": 20, "validation_steps": 2}
TIMED = LABELER | {"steps": 40, "attack": {"norm": "Linf", "eps": 0.2, "steps": 2}}
TIMED["attack"] |= {"step_size": "eps/6"}
TIMED["network"] = {"architecture": "time_unet", "width": 4, "depth": 1, "multipliers": [1, 2]}
TIMED["network"] |= {"attention": [], "head_size": 4, "groups": 2}
BUDGET = {"apgd_restarts": 2, "apgd_steps": 20, "mt_restarts": 3, "mt_steps": 15}
ATTACK = {"norm": "Linf", "eps": "1/50", "version": "aa+mt", "seed": 0, "budget": BUDGET}
ATTACK |= {"shard": 24, "batch": 8}
DENOISER = {"architecture": "small_denoiser", "width": 8, "inner": 8, "depth": 1}
DIFFUSION = {"steps": 60, "batch": 8, "learning_rate": 2e-3, "warmup": 3, "clip_norm": 1.0}
DIFFUSION |= {"averaging": 0.9, "shift": 1, "flip": False}

# script: inputs, outputs, and all else
JOBS: dict[str, tuple[dict[str, str], dict[str, str], dict[str, Any]]] = {
    "train_classifier": (
        {"train": "train.npz", "validation": "test.npz"},
        {"model": "classifier/model.safetensors", "metrics": "classifier/metrics.json"},
        SIZES | {"settings": LABELER, "seed": 1},
    ),
    "train_time_classifier": (
        {"train": "train.npz", "validation": "test.npz"},
        {
            "model": "time/model.safetensors",
            "history": "time/history.csv",
            "metrics": "time/metrics.json",
        },
        SIZES | {"settings": TIMED, "seed": 1, "schedule": {"beta_schedule": "linear"}},
    ),
    "train_diffusion": (
        {"train": "train.npz"},
        {
            "model": "diffusion/model",
            "history": "diffusion/history.csv",
            "metrics": "diffusion/metrics.json",
        },
        SIZES
        | {"conditional": True, "network": DENOISER, "training": DIFFUSION, "seed": 2}
        | {"schedule": {"beta_schedule": "linear"}},
    ),
    "train_robust": (
        {"train": "train.npz", "validation": "test.npz", "synthetic": "train.npz"},
        {
            "best": "robust/best.safetensors",
            "last": "robust/last.safetensors",
            "history": "robust/history.csv",
            "training": "robust/training.json",
        },
        SIZES
        | {"trainer": {"loss": "trades"}, "settings": ROBUST, "seed": 3}
        | {"eps": "1/10", "step_size": "1/30"},
    ),
    "sample_images": (
        {"denoiser": "unconditional", "encoder": "encoder.safetensors"},
        {"images": "samples/shard0.npz"},
        SIZES
        | {"sampler": {"steps": 8, "spacing": "quadratic", "eta": 1.0}, "guidance": HNM}
        | {"shape": [1, 8, 8], "start": 3, "stop": 50, "batch": 6, "seed": 4},
    ),
    "attack_shard": (
        {"model": "labeler.safetensors", "test": "test.npz"},
        {"shard": "attacks/shard0.json", "adversarial": "attacks/shard0_adversarial.npz"},
        {"attack": ATTACK, "classes": 3, "start": 0, "stop": 24},
    ),
}


def write_inputs(folder: Path) -> None:
    """What the jobs read; the labeler is right about every test image."""
    write_generator(folder)
    image = read_images(folder / "train.npz")["image"][:24]
    labeler = load_network(folder / "labeler.safetensors", torch.device("cpu"))
    with torch.no_grad():
        label = labeler(to_tensor(image)).argmax(1).numpy()
    write_images(folder / "test.npz", image=image, label=label)


def run_job(
    name: str, inputs: Path, outputs: Path, minutes: float | None = None, begun: Any = None
) -> None:
    """Run a job in this process: inputs, outputs: folders; begun: an event to set at once."""
    given, made, settings = JOBS[name]
    torch.set_num_threads(1)
    if begun is not None:
        begun.set()
    getattr(import_module(name), name)(
        **{key: str(Path(inputs) / path) for key, path in given.items()},
        **{key: str(Path(outputs) / path) for key, path in made.items()},
        **settings,
        device="cpu",
        resume_minutes=minutes,
    )


def results(name: str, folder: Path) -> dict[str, Any]:
    """What a job wrote, by path: the bytes, or all but times of JSON and CSV."""
    found = {}
    for place in JOBS[name][1].values():
        path = folder / place
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        assert files, path
        for file in files:
            if file.is_dir() or file.name.startswith("."):
                continue
            found[str(file.relative_to(folder))] = _told(file)
    return found


def _told(file: Path) -> Any:
    if file.suffix == ".csv":
        return [{k: v for k, v in row.items() if k != "seconds"} for row in read_csv(file)]
    if file.suffix == ".json":
        return {k: v for k, v in read_json(file).items() if k != "seconds"}
    return file.read_bytes()
