"""The files of tiny untrained generators, and settings to sample them with."""

from pathlib import Path

import numpy as np
import torch

from contrastdp.data.images import write_images
from contrastdp.diffusion.denoisers import build_denoiser, save_denoiser
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.networks.build import build_network
from contrastdp.networks.checkpoint import save_network

SAMPLER = {"steps": 4, "spacing": "quadratic", "eta": 0.0}
HNM = {"loss": "hnm", "lambda": 50.0, "tau": 1.0, "head": 4, "pairs": "both_states", "at": "state"}
HNM |= {"direction": "gradient", "encoder_input": "unit", "window_low": 0, "window_high": 1000}


def write_generator(folder: Path) -> Path:
    """Untrained networks, a conditional denoiser with a label for 'no class', and real images."""
    for seed, name in enumerate(("encoder", "labeler")):
        network = build_network(
            "small_cnn", channels=1, classes=3, image_size=8, width=4, features=8, seed=seed
        )
        torch.manual_seed(seed)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        noise = torch.rand(100, 1, 8, 8)  # on which the labeler is to see several classes
        network.logits.bias.data -= network(noise).mean(0).detach()
        save_network(folder / f"{name}.safetensors", network)
    for name, labels in (("unconditional", None), ("conditional", 4)):
        torch.manual_seed(0)
        denoiser = build_denoiser("small_denoiser", image_size=8, channels=1, classes=labels)
        for parameter in denoiser.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        save_denoiser(folder / name, denoiser, SubsequenceScheduler(clip_sample=False))
    image = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    write_images(folder / "train.npz", image=image, label=np.arange(30) % 3)
    return folder
