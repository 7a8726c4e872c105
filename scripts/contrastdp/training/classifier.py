"""Ordinary (non-robust) training of the labeler and of the feature extractor."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from contrastdp.data import augmentation
from contrastdp.data.tensors import Epochs
from contrastdp.errors import finite
from contrastdp.jobs.resume import Resume
from contrastdp.networks.build import build_network
from contrastdp.streams import generator


def train_classifier_network(
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    network: Mapping[str, Any],
    classes: int,
    steps: int,
    batch: int,
    learning_rate: float,
    weight_decay: float,
    shift: int,
    flip: bool = False,
    seed: int,
    progress: Callable[[range], Iterable[int]] = iter,
    resume: Resume | None = None,
) -> tuple[nn.Module, float]:
    """Build and train a classifier of images x (N, C, H, W) in [0, 1] with labels y (N,).

    AdamW, cosine from learning_rate to 0, cross entropy, images shifted by up to `shift` pixels
    and, with flip, mirrored half the time.
    network: its architecture and sizes, for build_network; progress: wraps the range of steps;
    resume: where a killed training's state is kept. Returns the trained one, in evaluation
    mode, and its last training loss. Raises InputError for a loss that is not finite.
    """
    trained = build_network(
        **network, channels=x.shape[1], classes=classes, image_size=x.shape[-1], seed=seed
    ).to(x.device)
    stream = generator(seed, "batches")
    optimizer = torch.optim.AdamW(
        trained.parameters(), lr=learning_rate, weight_decay=weight_decay, foreach=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = Epochs(len(y), batch, stream)
    trained.train()
    value = float("nan")
    parts = {"network": trained, "optimizer": optimizer, "schedule": schedule}
    parts |= {"stream": stream, "order": order}
    first, _ = resume.restore(parts) if resume else (0, {})
    for step in progress(range(first, steps)):
        chosen = next(order).to(x.device)
        images = augmentation.shift(x[chosen], shift, stream)
        if flip:
            images = augmentation.flip(images, stream)
        loss = F.cross_entropy(trained(images), y[chosen])
        value = finite(loss.item(), "training loss", step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if resume and step + 1 < steps and resume.due():
            resume.save(step + 1, parts, {})
    return trained.eval(), value
