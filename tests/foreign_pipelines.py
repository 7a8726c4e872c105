"""Small models of diffusers, sampled by its pipelines and by ours."""

import one_line
import torch
from diffusers import (
    DDPMScheduler,
    UNet2DModel,
)

from contrastdp import ContrastiveGuidancePipeline

UNET = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "norm_num_groups": 4}
UNET |= {"block_out_channels": (8, 8), "layers_per_block": 1}
UNET |= {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
ENCODER = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
GUIDED = {"lambda_": 30.0, "loss": "infonce"}
FIT = {"image_size": 8, "channels": 1, "classes": None}
FIT |= {"schedule": {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}}


def make_unet(**change):
    """In float64, where a chain does not amplify rounding beyond what the tests allow."""
    torch.manual_seed(0)
    return UNet2DModel(**UNET | change).eval().double()


def sample(pipeline, **options):
    """Images (N, H, W, C) from the generator of seed 0, of any pipeline."""
    pipeline.set_progress_bar_config(disable=True)
    options = {"batch_size": 2, "num_inference_steps": 4, "output_type": "np"} | options
    return pipeline(generator=torch.Generator().manual_seed(0), **options).images


def ours(model, scheduler=None, encoder=None, **options):
    scheduler = scheduler or DDPMScheduler(clip_sample=False)
    return sample(ContrastiveGuidancePipeline(model, scheduler, encoder), **options)


def told(call, *words):
    """The line of the InputError that a call raises, which holds these words."""
    line = one_line.told(call)
    for word in words:
        assert word in line
    return line
