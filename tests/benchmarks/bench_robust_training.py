"""A TRADES step as the official code takes it, and as we do, and with the settings for speed."""

import time
from statistics import median

import pytest
import torch
from torch.nn import functional as F

from contrastdp.attack.pgd import PGD
from contrastdp.jobs.device import device
from contrastdp.networks.build import build_network
from contrastdp.networks.execution import training_pass
from contrastdp.training.losses import trades_loss
from contrastdp.training.robust import accumulate_gradient

EPS, STEP, STEPS, BETA, SMOOTHING = 8 / 255, 2 / 255, 10, 6.0, 0.1
NORMALISATION = {"mean": [0.5] * 3, "std": [0.25] * 3}
# network, its images, images of a batch on the CPU and on a GPU
NETWORKS = {
    "small_cnn": ({"width": 16, "features": 64}, (1, 8, 8), 128, 1024),
    "mnist_cnn": ({}, (1, 28, 28), 128, 1024),
    "wide_resnet": ({"depth": 10, "width": 2} | NORMALISATION, (3, 32, 32), 16, 1024),
}
VARIANTS = {
    "ours": {},
    "four micro-batches": {"pieces": 4},
    "channels last": {"channels_last": True},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, channels last": {"precision": "bfloat16", "channels_last": True},
}


def naive_step(network, x, y):
    """The official code's step, which passes the clean images through the network twice."""
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.track_running_stats = False
    p = F.softmax(network(x), dim=1).detach()
    x_adv = (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1)
    for _ in range(STEPS):
        x_adv.requires_grad_()
        divergence = F.kl_div(F.log_softmax(network(x_adv), dim=1), p, reduction="sum")
        (g,) = torch.autograd.grad(divergence, [x_adv])
        x_adv = x_adv.detach() + STEP * g.sign()
        x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0, 1)
    for norm in norms:
        norm.track_running_stats = True
    z, z_adv = network(x), network(x_adv)
    robust = F.kl_div(F.log_softmax(z_adv, dim=1), F.softmax(z, dim=1), reduction="batchmean")
    (F.cross_entropy(z, y, label_smoothing=SMOOTHING) + BETA * robust).backward()


@pytest.mark.parametrize("name", NETWORKS)
def bench_trades_step(name):
    torch.set_num_threads(1)
    place = device()
    sizes, shape, small, large = NETWORKS[name]
    batch = large if place.type == "cuda" else small
    x, y = torch.rand(batch, *shape, device=place), torch.arange(batch, device=place) % 10
    start = torch.rand(x.shape, device=place)
    attack = PGD(eps=EPS, step_size=STEP, steps=STEPS)
    options = {"beta": BETA, "label_smoothing": SMOOTHING}

    def step_of(*, precision="float32", channels_last=False, pieces=1):
        network = build_network(name, channels=shape[0], classes=10, image_size=shape[1], **sizes)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        network = network.to(place, memory_format=layout).train()
        trained = training_pass(network, precision=precision, compiled=None)
        images, noise = (v.contiguous(memory_format=layout) for v in (x, start))
        return lambda: accumulate_gradient(
            trades_loss, trained, images, y, attack, noise, micro_batch=batch // pieces, **options
        )

    network = build_network(name, channels=shape[0], classes=10, image_size=shape[1], **sizes)
    network = network.to(place).train()
    calls = {"the official code": lambda: naive_step(network, x, y)}
    calls |= {what: step_of(**change) for what, change in VARIANTS.items()}

    # in turn, so that a change of the machine's speed meets all alike; one thread's own time where
    # that can be had, which other programs disturb less
    now = time.perf_counter if place.type == "cuda" else time.process_time
    seconds = {what: [] for what in calls}
    for _ in range(6):
        for what, call in calls.items():
            started = now()
            call()
            if place.type == "cuda":
                torch.cuda.synchronize()
            seconds[what].append(now() - started)
    base = seconds["the official code"][1:]
    print(f"\nTRADES-{STEPS} step of {name}, {batch} images on {place}")
    for what, found in seconds.items():
        ratios = [one / two for one, two in zip(found[1:], base, strict=True)]
        print(f"  {what}: {median(found[1:]):.3f} s, {median(ratios):.2f} of the official code's")
