"""Training of time-dependent classifiers on noisy images that are attacked (Kawar et al. 2023)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from contrastdp.attack.early_stopped import EarlyStopped, early_stopped_pgd
from contrastdp.data import augmentation
from contrastdp.data.tensors import Epochs, batches
from contrastdp.errors import InputError, finite
from contrastdp.jobs.parallel import ALONE, Group
from contrastdp.jobs.resume import Resume
from contrastdp.networks.build import ARCHITECTURES, build_network
from contrastdp.streams import generator

HISTORY = ("step", "loss", "attacked")
BANDS = 5  # of t, of equal width, in which accuracy is told


def noised(
    x: torch.Tensor, t: torch.Tensor, noise: torch.Tensor, abar: torch.Tensor
) -> torch.Tensor:
    """x_t = sqrt(abar_t) x + sqrt(1 - abar_t) noise, for x (N, C, H, W) in [-1, 1] and t (N,)."""
    kept = abar[t].view(-1, 1, 1, 1)
    return kept.sqrt() * x + (1 - kept).sqrt() * noise


@dataclass
class TimeTraining:
    """The trained network in evaluation mode, rows of HISTORY, and the attack's forward passes.

    passes: an image each; loss and attacked of a row: means over the steps since the last one.
    """

    network: nn.Module
    history: list[dict[str, float]]
    passes: int


def train_time_classifier_network(
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    abar: torch.Tensor,
    network: Mapping[str, Any],
    classes: int,
    steps: int,
    batch: int,
    learning_rate: float,
    weight_decay: float,
    shift: int,
    flip: bool = False,
    anneal_steps: int | None = None,
    attack: EarlyStopped | None = None,
    micro_batch: int | None = None,
    seed: int,
    progress: Callable[[range], Iterable[int]] = iter,
    resume: Resume | None = None,
    group: Group = ALONE,
) -> TimeTraining:
    """Build h(x_t, t) and minimise its mean cross entropy at attacked noisy images (their Eq. 5).

    x: (N, C, H, W) in [0, 1]; y: (N,). Each image of a batch is shifted by up to `shift` pixels
    and, with flip, mirrored half the time, then mapped to [-1, 1] and noised for a t of its own,
    uniform over 0 to T - 1; then `attack` moves it. AdamW, whose learning rate falls linearly from
    learning_rate at step 0 to 0 at anneal_steps, by default `steps`. Whatever the attack, the seed
    draws the same batches, t and noise: without one the network is the robust one's vanilla twin.

    abar: (T,), the noise schedule, which stays with the network. network: architecture and sizes,
    for build_network. micro_batch: images that pass at once, all by default, with the same gradient
    within rounding. progress: wraps the range of steps; resume: where a killed training's state is
    kept; group: the processes that train together, all called alike, with the same result within
    rounding. Raises InputError for an architecture that takes no t, another T than the network's, a
    learning rate that falls to 0 before the end, and a loss or gradient that is not finite.
    """
    # PAPER: the code crops 0.8 to 1 of the image at random; here images shift, as everywhere
    annealed = steps if anneal_steps is None else anneal_steps
    if annealed < steps:
        raise InputError(
            f"anneal_steps is {annealed}, and the learning rate would be 0 before the last of "
            f"{steps} steps; raise it"
        )
    group.check(batch, micro_batch)
    trained = _untrained(network, abar, x, classes, seed)
    abar = abar.to(x.device)
    stream = generator(seed, "batches")
    optimizer = torch.optim.AdamW(
        trained.parameters(), lr=learning_rate, weight_decay=weight_decay, foreach=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / annealed)
    order = Epochs(len(y), batch, stream)
    trained.train()
    parts = {"network": trained, "optimizer": optimizer, "schedule": schedule}
    parts |= {"stream": stream, "order": order}
    first, kept = resume.restore(parts) if resume else (0, {})
    found = TimeTraining(trained, kept.get("history", []), kept.get("passes", 0))
    sums, every = kept.get("sums", [0.0, 0.0, 0]), max(steps // 40, 1)
    for step in progress(range(first, steps)):
        # noisy images
        chosen = next(order).to(x.device)
        clean = augmentation.shift(x[chosen], shift, stream) * 2 - 1
        if flip:
            clean = augmentation.flip(clean, stream)
        label = y[chosen]
        t = torch.randint(0, len(abar), (batch,), generator=stream).to(x.device)
        noise = torch.randn(clean.shape, generator=stream).to(x.device)
        noisy = noised(clean, t, noise, abar)

        # one step
        optimizer.zero_grad(set_to_none=True)
        told = torch.zeros(3, device=x.device)  # loss, share that moved, forward passes
        for piece in batches(batch, micro_batch or batch):
            own = group.part(piece)
            attacked = early_stopped_pgd(trained, noisy[own], t[own], label[own], attack)
            loss = F.cross_entropy(trained(attacked.x, t[own]), label[own], reduction="sum") / batch
            loss.backward()
            moved = attacked.moved.sum() / batch
            told += torch.stack([loss.detach(), moved, told.new_tensor(attacked.passes)])
        group.add_up_gradients(trained.parameters(), told)
        value, moved, passes = told.tolist()
        optimizer.step()
        schedule.step()
        found.passes += int(passes)
        sums = [sums[0] + finite(value, "training loss", step), sums[1] + moved, sums[2] + 1]
        if (step + 1) % every == 0 or step + 1 == steps:
            count = sums[2]
            row = {"step": step + 1, "loss": sums[0] / count, "attacked": sums[1] / count}
            found.history.append(row)
            sums = [0.0, 0.0, 0]
        if resume and step + 1 < steps and resume.due():
            values = {"history": found.history, "passes": found.passes, "sums": sums}
            resume.save(step + 1, parts, values)
    trained.eval()
    return found


def _untrained(
    network: Mapping[str, Any], abar: torch.Tensor, x: torch.Tensor, classes: int, seed: int
) -> nn.Module:
    """A time-dependent network that knows its noise schedule."""
    given, total = network["architecture"], len(abar)
    if given in ARCHITECTURES and not ARCHITECTURES[given].time_dependent:
        raise InputError(f"architecture '{given}' takes no t; name a time-dependent one")
    sizes = {"num_train_timesteps": total, **network}
    if sizes["num_train_timesteps"] != total:
        raise InputError(
            f"network.num_train_timesteps is {sizes['num_train_timesteps']}, and the noise "
            f"schedule has {total}; leave it out"
        )
    built = build_network(
        **sizes, channels=x.shape[1], classes=classes, image_size=x.shape[-1], seed=seed
    )
    built.get_buffer("abar").copy_(abar)
    return built.to(x.device)


@torch.no_grad()
def accuracy_by_band(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    attack: EarlyStopped | None,
    seed: int,
    batch: int = 1000,
) -> list[dict[str, Any]]:
    """Clean and robust accuracy of a trained h(x_t, t) in each band of t.

    x: (N, C, H, W) in [0, 1]; y: (N,). In each band every image has a t of its own, uniform over
    t_low to t_high, and its own noise, from `seed`. robust: share that is right where `attack` left
    it; None without an attack.
    """
    abar, rows = network.get_buffer("abar"), []
    for band in range(BANDS):
        low, high = (len(abar) * edge // BANDS for edge in (band, band + 1))
        high = max(high, low + 1)
        stream = generator(seed, "validation", band)
        t = torch.randint(low, high, (len(y),), generator=stream).to(x.device)
        noise = torch.randn(x.shape, generator=stream).to(x.device)
        noisy, clean, robust = noised(x * 2 - 1, t, noise, abar), 0, 0
        for piece in batches(len(y), batch):
            given = (noisy[piece], t[piece], y[piece])
            clean += _right(network, *given)
            if attack is not None:
                attacked = early_stopped_pgd(network, *given, attack)
                robust += _right(network, attacked.x, *given[1:])
        row: dict[str, Any] = {"t_low": low, "t_high": high - 1, "clean": clean / len(y)}
        rows.append(row | {"robust": None if attack is None else robust / len(y)})
    return rows


def _right(network: nn.Module, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> int:
    return int((network(x, t).argmax(dim=1) == y).sum())
