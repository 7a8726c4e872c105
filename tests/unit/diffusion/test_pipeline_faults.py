"""What the pipeline refuses, each in one line: settings, labels, models."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    UNet2DConditionModel,
)
from foreign_pipelines import ENCODER, GUIDED, make_unet, ours, told

from contrastdp import ContrastiveGuidancePipeline
from contrastdp.guidance.classifier import ClassifierGuidance


# ---------------------------------------------------------------- zero terminal SNR
@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_guidance_where_the_chain_starts_without_signal(kind):
    options = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    scheduler = DDIMScheduler(prediction_type=kind, clip_sample=False, **options)
    plain = ours(make_unet(), scheduler)
    contrastive = ours(make_unet(), scheduler, ENCODER, **GUIDED, at="clean")
    assert np.isfinite(contrastive).all()
    assert np.abs(contrastive - plain).max() > 1e-6
    encoder = deepcopy(ENCODER).double()
    for at in ("state", "clean"):
        guidance = ClassifierGuidance(encoder, 1.0, lambda t: scheduler.alphas_cumprod[t], at=at)
        found = ours(make_unet(), scheduler, guidance=guidance)
        assert np.isfinite(found).all()
        assert np.abs(found - plain).max() > 1e-6


def test_predicted_noise_is_refused_there():
    options = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    scheduler = DDIMScheduler(**options)
    told(lambda: ours(make_unet(), scheduler), "rescale_betas_zero_snr", "t = 999")
    assert np.isfinite(ours(make_unet(), scheduler, spacing="leading")).all()


# ---------------------------------------------------------------- what is refused
UNKNOWN = [{"num_inference_setps": 3}, {"lambda": 1.0, "bta": 2}, {"class_label": 1}]


@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize("guided", [False, True])
def test_unknown_keywords(unknown, guided):
    options = unknown | (GUIDED if guided else {})
    told(lambda: ours(make_unet(), encoder=ENCODER, **options), list(unknown)[-1])


@pytest.mark.parametrize("beside", [*UNKNOWN, {"tau": 1.0}, {"lambda_": 2.0}, {"head": 4}])
def test_nothing_is_given_beside_a_guidance(beside):
    guidance = ClassifierGuidance(ENCODER, 1.0, lambda t: 0.5)
    told(lambda: ours(make_unet(), guidance=guidance, **beside), "beside guidance")


NAN = float("nan")


class TimeDependent(torch.nn.Module):
    time_dependent = True


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"batch_size": 2.0}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"num_inference_steps": 2.5}, "num_inference_steps"),
        ({"num_inference_steps": NAN}, "num_inference_steps"),
        ({"eta": NAN}, "eta"),
        ({"eta": "1"}, "eta"),
        ({"seed": 0.5}, "seed"),
        ({"micro_batch": -1}, "micro_batch"),
        ({"micro_batch": 0}, "micro_batch"),
        ({"guidance_batch": -2}, "guidance_batch"),
        ({"guidance_batch": 0}, "guidance_batch"),
        ({"lambda_": NAN}, "lambda"),
        ({"lambda_": float("inf")}, "lambda"),
        ({"tau": 0}, "tau"),
        ({"tau": NAN}, "tau"),
        ({"loss": "hnm", "tau_plus": 1.0}, "tau_plus"),
        ({"loss": "hnm", "beta": -1}, "beta"),
        ({"clip": NAN}, "clip"),
        ({"clip": 0}, "clip"),
        ({"head": -3}, "head"),
        ({"head": 2.5}, "head"),
        ({"head_learning_rate": NAN}, "head_learning_rate"),
        ({"window_low": 500, "window_high": 400}, "window_high is 400"),
        ({"window_low": 1.5}, "window_low"),
        ({"window_low": 2000, "window_high": 3000}, "window"),
        ({"num_inference_steps": 1}, "no earlier state"),
        ({"encoder_input": "both"}, "encoder_input"),
        ({"encoder": "resnet"}, "the encoder is a str"),
        ({"encoder": TimeDependent()}, "the encoder of contrastive guidance is a time-dependent"),
        ({"pairs": "real_positive"}, "give real"),
        ({"real_images": torch.zeros(3, 1, 8, 8, dtype=torch.uint8)}, "torch.uint8"),
        ({"real_images": torch.full((3, 1, 8, 8), 2.0)}, "[0, 1]"),
        ({"real_images": torch.full((3, 1, 8, 8), NAN)}, "[0, 1]"),
        ({"real_images": torch.zeros(3, 8, 8)}, "(3, 8, 8)"),
        ({"real_images": "none"}, "real_images"),
        ({"class_labels": None, "generator": 5}, "generator"),
    ],
)
def test_settings_out_of_range(options, word):
    options = GUIDED | {"encoder": ENCODER, "batch_size": 2} | options
    pipeline = ContrastiveGuidancePipeline(make_unet(), DDPMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 3} | options
    told(lambda: pipeline(**options), word)


INTEGERS = ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")


@pytest.mark.parametrize("kind", INTEGERS)
def test_labels_of_whole_numbers_of_any_width(kind):
    model = make_unet(num_class_embeds=3)
    expected = ours(model, class_labels=[0, 2])
    for label in (np.array([0, 2], kind), torch.tensor([0, 2], dtype=getattr(torch, kind))):
        np.testing.assert_array_equal(ours(model, class_labels=label), expected)
    one = ours(model, class_labels=[2, 2])
    np.testing.assert_array_equal(ours(model, class_labels=np.array(2, kind)), one)


@pytest.mark.parametrize(
    "label",
    [[False, True], True, [0.0, 1.0], [NAN, 1.0], [0, 3], [-1, 0], 2**70, ["a", "b"], [1j, 2]],
)
def test_labels_that_are_none(label):
    told(lambda: ours(make_unet(num_class_embeds=3), class_labels=label), "class_labels")


@pytest.mark.parametrize("given", [{"target": 7}, {}])
def test_a_classifier_that_does_not_know_the_class(given):
    guidance = ClassifierGuidance(ENCODER.double(), 1.0, lambda t: 0.5, **given)
    model = make_unet(num_class_embeds=9)
    told(lambda: ours(model, guidance=guidance, class_labels=[7, 7]), "class 7", "5 classes")
    ENCODER.float()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sample_size": None}, ("sample_size",)),
        ({"class_embed_type": "identity"}, ("class_embed_type is 'identity'",)),
    ],
)
@pytest.mark.parametrize("label", [None, [1, 2]])
def test_models_that_are_not_sampled(change, words, label):
    told(lambda: ours(make_unet(**change), class_labels=label), *words)


def test_models_that_are_told_more_than_classes():
    model = UNet2DConditionModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        cross_attention_dim=8,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    told(lambda: ours(model), "encoder_hidden_states")


def test_a_model_that_is_not_finite():
    model = make_unet()
    torch.nn.init.constant_(model.conv_out.bias, NAN)
    assert "lambda" not in told(lambda: ours(model), "not finite", "denoiser")
    line = told(lambda: ours(model, encoder=ENCODER, **GUIDED), "not finite", "denoiser")
    assert "tau" not in line
