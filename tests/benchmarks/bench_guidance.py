"""A guided step beside the least work that gives its images, and beside the official procedure.

One run on one machine, everything in turn: a plain step, a guided step, the ideal (the denoiser's
forward, the encoder's forward and its gradient in the image) and a naive copy of the official
procedure. Seconds are of the processor for one thread of the CPU, which neighbours disturb least,
and of the clock on a GPU. Written to results/bench/guidance.json.
"""

import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
import torch
from diffusers import UNet2DModel
from torch import nn
from torch.nn import functional as F

from contrastdp.diffusion.sampling import sample_batch
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.files import write_json
from contrastdp.guidance.build import build_guidance
from contrastdp.jobs.device import device
from contrastdp.jobs.provenance import versions
from contrastdp.streams import ImageNoise

OUTPUT = Path("results/bench/guidance.json")
BATCH, ROUNDS, CHAIN = 64, 5, [700, 650, 600, 550]
SHAPE = (3, 32, 32)
# untrained features hardly differ, so lambda is large, for the guidance to be seen in the images
HNM = {"tau": 10.0, "lambda_": 2e6}


# ---------------------------------------------------------------- the networks
class Block(nn.Module):
    """A pre-activated residual block of a wide ResNet with SiLU."""

    def __init__(self, inside, outside, stride):
        super().__init__()
        self.norm_0, self.norm_1 = nn.BatchNorm2d(inside), nn.BatchNorm2d(outside)
        self.conv_0 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.conv_1 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        changes = inside != outside
        self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False) if changes else None

    def forward(self, x):
        h = F.silu(self.norm_0(x))
        x = x if self.shortcut is None else self.shortcut(h)
        return x + self.conv_1(F.silu(self.norm_1(self.conv_0(h))))


class WideResNet(nn.Sequential):
    """WRN-16-4 up to its 256 pooled features."""

    def __init__(self):
        layers, inside = [nn.Conv2d(3, 16, 3, padding=1, bias=False)], 16
        for outside, stride in ((64, 1), (128, 2), (256, 2)):
            layers += [Block(inside, outside, stride), Block(outside, outside, 1)]
            inside = outside
        pool = [nn.BatchNorm2d(inside), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*layers, *pool)


class Clock(nn.Module):
    """A denoiser that notes the time at which each of its calls begins: a step lies between two."""

    def __init__(self, unet, now):
        super().__init__()
        self.unet, self.now, self.begun = unet, now, []

    def forward(self, x, t, class_labels=None):
        self.begun.append(self.now())
        return self.unet(x, t)


# ---------------------------------------------------------------- the official procedure, naively
def official_loss(now, before, tau=10.0, tau_plus=0.1, beta=1.0):
    """HNM as the official code writes it: a mask filled by a loop, exponentials, clamps."""
    m = len(now)
    z = torch.cat([F.normalize(now), F.normalize(before)])
    mask = torch.ones(m, m, dtype=torch.bool, device=now.device)
    for i in range(m):
        mask[i, i] = False
    mask = mask.repeat(2, 2)
    g = torch.exp(z @ z.T / tau)
    g = g.masked_select(mask).view(2 * m, -1).clamp(min=1e-4)
    p = torch.exp((F.normalize(now) * F.normalize(before)).sum(1) / tau).repeat(2)
    count = 2 * m - 2
    weight = g**beta
    hard = (weight * g).sum(1) / weight.mean(1)
    floor = count * torch.exp(torch.tensor(-1 / tau))
    negative = ((hard - tau_plus * count * p) / (1 - tau_plus)).clamp(min=float(floor))
    return -(p / (p + negative)).clamp(min=1e-4).log().mean()


def official_chain(denoiser, encoder, scheduler, lambda_):
    """Two encoder passes with gradients a step, weights' gradients too, every state kept."""
    states, cleans = (
        [ImageNoise(0, range(BATCH), SHAPE).draw(next(denoiser.parameters()).device)],
        [],
    )
    for k, t in enumerate(CHAIN):
        x = states[-1]
        with torch.no_grad():
            e = denoiser(x, t).sample
        if k > 0:
            delta = torch.zeros_like(x, requires_grad=True)
            view = (x + delta + 1) / 2
            earlier = (states[-2] + 1) / 2
            official_loss(encoder(view), encoder(earlier)).backward()
            e = e + lambda_ * delta.grad
        stepped = scheduler.step(e, t, x)
        states.append(stepped.prev_sample)
        cleans.append(stepped.pred_original_sample.cpu())
    return states[-1]


# ---------------------------------------------------------------- measuring
@pytest.fixture
def parts():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    place = device()
    attention = ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D")
    unet = UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        block_out_channels=(32, 64, 64, 64),
        down_block_types=attention,
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=32,
    )
    unet = unet.to(place).eval().requires_grad_(False)
    encoder = WideResNet().to(place).eval().requires_grad_(False)
    scheduler = SubsequenceScheduler(clip_sample=False)
    scheduler.set_timesteps(timesteps=CHAIN)
    return place, unet, encoder, scheduler


def bench_guidance(parts):
    place, unet, encoder, scheduler = parts

    def now():
        if place.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def steps(sample):
        """Seconds of each step but the first, which is not guided, and the images."""
        clock = Clock(unet, now)
        images = sample(clock)
        marks = [*clock.begun, now()]
        return [b - a for a, b in pairwise(marks)][1:], images

    def sampled(clock, guidance=None, precision="float32"):
        settings = {"indices": range(BATCH), "seed": 0, "shape": SHAPE, "precision": precision}
        return sample_batch(clock, scheduler, guidance=guidance, **settings)

    def guided(clock, precision="float32"):
        own = {"loss": "hnm", "clamp": True, "precision": precision}
        return sampled(clock, build_guidance(encoder, **own, **HNM), precision)

    def channels_last(clock):
        for network in (unet, encoder):
            network.to(memory_format=torch.channels_last)
        images = guided(clock)
        for network in (unet, encoder):
            network.to(memory_format=torch.contiguous_format)
        return images

    def official(clock):
        encoder.requires_grad_(True)
        images = official_chain(clock, encoder, scheduler, HNM["lambda_"])
        encoder.requires_grad_(False).zero_grad(set_to_none=True)
        return images

    x = ImageNoise(0, range(BATCH), SHAPE).draw(place)

    def ideal():
        start = now()
        with torch.no_grad():
            unet(x, 600)
        source = x.detach().requires_grad_()
        features = encoder(source)
        torch.autograd.grad(features, source, torch.ones_like(features))
        return [now() - start]

    measured = {
        "plain step": ("denoiser forward, DDIM step", lambda: steps(sampled)),
        "guided step": ("sample_batch with HNM, one step", lambda: steps(guided)),
        "ideal": (
            "denoiser forward, encoder forward, encoder gradient in the image",
            lambda: (ideal() + ideal(), None),
        ),
        "official procedure": (
            "two encoder passes with gradients, of the weights too; states kept",
            lambda: steps(official),
        ),
        "guided step, channels_last": ("the same in that layout", lambda: steps(channels_last)),
        "guided step, bfloat16": (
            "the same, denoiser and encoder under autocast",
            lambda: steps(lambda clock: guided(clock, "bfloat16")),
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in measured}
    images = {}
    for attempt in range(1 + ROUNDS):  # the first is unmeasured
        for name, (_, measure) in measured.items():
            found, images[name] = measure()
            seconds[name] += found if attempt else []
    least = median(seconds["ideal"])
    rows = [
        {
            "name": name,
            "work": measured[name][0],
            "seconds": round(median(found), 5),
            "fastest": round(min(found), 5),
            "ratio_to_ideal": round(median(found) / least, 4),
            "measured": len(found),
        }
        for name, found in seconds.items()
    ]
    ours = images["guided step"]
    differences = {
        name: float((ours - images[name]).abs().max() / ours.abs().max())
        for name in images
        if name not in ("guided step", "ideal")
    }
    report = {
        "what": f"one step of {BATCH} images of 32 x 32 x 3: UNet2DModel of 32 channels, WRN-16-4",
        "clock": "processor seconds, one thread" if place.type == "cpu" else "seconds",
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu",
        "rows": rows,
        "images_differ_from_the_guided_ones": differences,
        "versions": versions(),
    }
    write_json(OUTPUT, report)
    for row in rows:
        print(
            f"\n{row['name']}: {row['seconds']:.3f} s, {row['ratio_to_ideal']:.3f} x ideal", end=""
        )
    print("\nlargest difference to the guided images, in parts of their range:", differences)
