"""What a denoiser is told: the registry, labels and no labels, and another way of one class."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from contrastdp.diffusion.conditioning import (
    CONDITIONINGS,
    UNCONDITIONAL,
    ClassLabel,
    Unconditional,
    conditioning_of,
    part_of,
)
from contrastdp.diffusion.sampling import predict_noise, sample_shard
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.diffusion.training import train_denoiser


def model(**config):
    found = nn.Linear(1, 1)
    found.config = SimpleNamespace(**{"num_class_embeds": None} | config)
    return found


@pytest.mark.parametrize(
    ("labels", "classes", "count", "null"),
    [
        (10, None, 10, None),
        (10, 10, 10, None),
        (11, 10, 10, 10),
        (11, None, 11, None),
        (9, 3, 3, None),
    ],
)
def test_the_config_says_which_classes_and_which_label_is_none(labels, classes, count, null):
    found = conditioning_of(model(num_class_embeds=labels), classes)
    assert found.label(range(3 * count)).tolist() == list(range(count)) * 3
    told = found.null([4, 7])
    assert (told is None) == (null is None)
    assert told is None or told["class_labels"].tolist() == [null, null]


def test_a_denoiser_without_labels_is_told_nothing():
    found = conditioning_of(model(), 10)
    assert isinstance(found, Unconditional)
    assert (found.seen(torch.rand(2, 1, 4, 4), torch.tensor([1, 2])), found.drawn([1])) == ({}, {})
    assert (found.null([1]), found.label([1])) == (None, None)


def test_given_labels_stand_in_the_place_of_the_index():
    found = ClassLabel(labels=torch.tensor([5, 3, 8]))
    assert found.drawn([2, 0])["class_labels"].tolist() == [8, 5]


class Brightness:
    """A toy: the denoiser is told how bright an image is, and none for 'nothing'."""

    @classmethod
    def fitting(cls, config, classes):
        return cls() if getattr(config, "brightness", False) else None

    def seen(self, image, label):
        return {"brightness": image.mean(dim=(1, 2, 3))}

    def drawn(self, indices):
        return {"brightness": torch.tensor([i / 10 for i in indices])}

    def null(self, indices):
        return {"brightness": torch.zeros(len(indices))}

    def label(self, indices):
        return None


class Told(nn.Module):
    """Predicts the brightness that it is told, times a weight."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.ones(1)), []
        self.config = SimpleNamespace(num_class_embeds=None, brightness=True)

    def forward(self, x, t, brightness):
        self.seen.append(brightness)
        level = self.weight * brightness.view(-1, 1, 1, 1)
        return SimpleNamespace(sample=level.expand_as(x))


def test_a_conditioning_is_entered_in_one_place(monkeypatch):
    """Training, sampling in micro-batches and classifier-free guidance pass it on."""
    monkeypatch.setitem(CONDITIONINGS, "brightness", Brightness)
    denoiser = Told()
    assert isinstance(conditioning_of(denoiser), Brightness)
    assert conditioning_of(model()).__class__ is Unconditional

    image = torch.rand(6, 1, 4, 4)
    options = {"abar": torch.linspace(0.9, 0.1, 10), "steps": 1, "batch": 6, "shift": 0}
    options |= {"learning_rate": 1e-3, "warmup": 0, "clip_norm": 1.0, "averaging": 0.0}
    options |= {"generator": torch.Generator().manual_seed(0), "micro_batch": 4}
    list(train_denoiser(denoiser, image, None, **options, conditioning=conditioning_of(denoiser)))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat(denoiser.seen), image.mean(dim=(1, 2, 3))[order])

    denoiser.seen.clear()
    scheduler = SubsequenceScheduler()
    scheduler.set_timesteps(timesteps=[500])
    given = {"start": 0, "stop": 3, "batch": 3, "seed": 0, "shape": (1, 4, 4)}
    with torch.no_grad():
        denoiser.weight.fill_(1.0)
    _, label = sample_shard(denoiser, scheduler, **given, guidance_scale=3.0, micro_batch=2)
    assert label.tolist() == [-1, -1, -1]
    seen = [value.tolist() for value in denoiser.seen]
    assert seen == [[0, 0], [0], pytest.approx([0, 0.1]), pytest.approx([0.2])]
    told, untold = Brightness().drawn([1, 2]), Brightness().null([1, 2])
    got = predict_noise(denoiser, torch.zeros(2, 1, 4, 4), 500, told, None, 3.0, untold)
    torch.testing.assert_close(got[:, 0, 0, 0], torch.tensor([0.3, 0.6]))


def test_part_of_a_condition():
    told = {"class_labels": torch.tensor([4, 5, 6])}
    assert part_of(told, slice(1, 3))["class_labels"].tolist() == [5, 6]
    assert part_of(UNCONDITIONAL.drawn([1]), slice(0, 1)) == {}
