"""Modes of torch, and types and devices of models and encoders, around the pipeline."""

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    UNet2DModel,
)
from foreign_pipelines import ENCODER, GUIDED, UNET, make_unet, ours, sample, told

from contrastdp import ContrastiveGuidancePipeline


# ---------------------------------------------------------------- torch's modes
@contextmanager
def default_type():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


MODES = {
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "set_grad_enabled": lambda: torch.set_grad_enabled(False),
    "float64": default_type,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "device_meta": lambda: torch.device("meta"),
    "deterministic": deterministic,
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
@pytest.mark.parametrize(
    "options",
    [
        {"eta": 0.5},
        GUIDED | {"head": 4, "direction": "random"},
        GUIDED | {"pairs": "real_negative", "real_images": torch.full((3, 1, 8, 8), 0.3)},
        GUIDED | {"pairs": "class_conditional", "class_labels": [0, 1]},
    ],
)
def test_modes_of_torch_do_not_change_the_images(mode, options):
    model = make_unet(num_class_embeds=2 if "class_labels" in options else None).float()
    pipeline = ContrastiveGuidancePipeline(model, DDIMScheduler(), ENCODER)
    expected = sample(pipeline, **options)
    generator = torch.Generator().manual_seed(0)
    pipeline.set_progress_bar_config(disable=True)
    call = {"batch_size": 2, "num_inference_steps": 4, "output_type": "np", **options}
    with mode():
        found = pipeline(generator=generator, **call).images
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_what_was_made_in_inference_mode():
    with torch.inference_mode():
        model, encoder = make_unet().float(), torch.nn.Linear(8, 3)
    model_alone = ContrastiveGuidancePipeline(model, DDIMScheduler(), ENCODER)
    assert np.isfinite(sample(model_alone, **GUIDED)).all()
    pipeline = ContrastiveGuidancePipeline(model, DDIMScheduler(), encoder)
    for mode in (nullcontext, torch.inference_mode):
        with mode():
            told(lambda: sample(pipeline, **GUIDED), "inference_mode")


def test_a_model_without_weights():
    with torch.device("meta"):
        model = UNet2DModel(**UNET)
    told(lambda: ours(model), "meta")


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32, torch.float64])
def test_an_encoder_of_any_type(kind):
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5)).to(kind)
    for model in (make_unet(), make_unet().float(), make_unet().to(torch.bfloat16)):
        found = ours(model, encoder=encoder, **GUIDED, head=4)
        assert np.isfinite(found).all()
