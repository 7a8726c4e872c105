"""A step of diffusion training beside the least work for it: forward and backward of its images.

The denoisers of MNIST and CIFAR-10, small as the reduced scale has them and on a GPU also of the
paper's size, each in float32 and bfloat16. Interleaved; seconds of the processor for one thread of
the CPU, of the clock on a GPU. Written to results/bench/diffusion.json.
"""

import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional as F

from contrastdp.diffusion.denoisers import build_denoiser
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.diffusion.training import train_denoiser
from contrastdp.files import write_json
from contrastdp.jobs.device import device
from contrastdp.jobs.provenance import versions

OUTPUT = Path("results/bench/diffusion.json")
ROUNDS, STEPS = 5, 3
SMALL = {"architecture": "small_denoiser", "patch": 2, "embedding": 128}
LARGE = {
    "architecture": "unet2d",
    "layers_per_block": 3,
    "block_out_channels": [64, 128, 128, 128],
    "down_block_types": ["AttnDownBlock2D"] * 3 + ["ResnetDownsampleBlock2D"],
    "up_block_types": ["ResnetUpsampleBlock2D"] + ["AttnUpBlock2D"] * 3,
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "resnet_time_scale_shift": "scale_shift",
    "attention_head_dim": 64,
    "attn_norm_num_groups": 32,
}
CASES = {
    "small, 28x28x1": ((1, 28), 64, SMALL | {"width": 32, "inner": 96}),
    "small, 32x32x3": ((3, 32), 64, SMALL | {"width": 64, "inner": 128}),
    "paper, 28x28x1": ((1, 28), 256, LARGE),
}


def bench_diffusion():
    torch.set_num_threads(1)
    place = device()
    clock = time.process_time if place.type == "cpu" else time.perf_counter
    abar = SubsequenceScheduler().alphas_cumprod
    rows = []

    def now():
        if place.type == "cuda":
            torch.cuda.synchronize()
        return clock()

    for case, ((channels, side), batch, network) in CASES.items():
        if case.startswith("paper") and place.type == "cpu":
            continue
        torch.manual_seed(0)
        model = build_denoiser(image_size=side, channels=channels, classes=10, **network).to(place)
        image = torch.rand(512, channels, side, side, device=place)
        label = torch.randint(0, 10, (512,), device=place)

        def steps(precision, model=model, image=image, label=label, batch=batch):
            """Seconds of STEPS training steps as train_denoiser takes them, after two more."""
            marks = []

            def note(counted):
                for step in counted:
                    marks.append(now())
                    yield step

            options = {"learning_rate": 1e-4, "warmup": 0, "clip_norm": 1.0, "averaging": 0.999}
            options |= {"abar": abar, "shift": 1, "generator": torch.Generator().manual_seed(0)}
            options |= {"steps": STEPS + 2, "batch": batch, "precision": precision}
            for _ in train_denoiser(model, image, label, progress=note, **options):
                pass
            return [b - a for a, b in pairwise(marks)][-STEPS:]

        def ideal(precision, model=model, image=image, label=label, batch=batch):
            """Seconds of forward and backward alone."""
            model.train()
            timestep = torch.randint(0, 1000, (batch,)).to(place)
            start = now()
            with torch.autocast(place.type, torch.bfloat16, enabled=precision == "bfloat16"):
                output = model(image[:batch], timestep, class_labels=label[:batch]).sample
                loss = F.mse_loss(output, image[:batch])
            loss.backward()
            model.zero_grad()
            return [now() - start]

        measured = {
            (what, precision): function
            for precision in ("float32", "bfloat16")
            for what, function in (("training step", steps), ("forward and backward", ideal))
        }
        seconds = {key: [] for key in measured}
        for attempt in range(1 + ROUNDS):  # the first is unmeasured
            for (what, precision), function in measured.items():
                found = function(precision)
                seconds[what, precision] += found if attempt else []
        for (what, precision), found in seconds.items():
            least = median(seconds["forward and backward", precision])
            row = {"case": case, "batch": batch, "what": what, "precision": precision}
            row |= {"seconds": round(median(found), 5), "fastest": round(min(found), 5)}
            row |= {"ratio_to_ideal": round(median(found) / least, 3), "measured": len(found)}
            rows.append(row)
            print("\n" + ", ".join(f"{key} {value}" for key, value in row.items()), end="")
    write_json(OUTPUT, {"rows": rows, "device": str(place), "versions": versions()})
