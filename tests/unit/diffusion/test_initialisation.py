"""Where the chain starts: the registry, and a start in the middle of the chain by one class."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch import nn

from contrastdp.diffusion.initialisation import INITIALISATIONS, Gaussian, build_initialisation
from contrastdp.diffusion.sampling import sample_batch
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.errors import InputError
from contrastdp.streams import ImageNoise

SHAPE = (1, 4, 4)
SCHEMA = Path(__file__).parents[3] / "config/schema.yaml"


@pytest.fixture
def scheduler():
    found = SubsequenceScheduler()
    found.set_timesteps(timesteps=[900, 700, 400, 100])
    return found


def test_gaussian_noise_of_the_images_streams_and_the_whole_chain(scheduler):
    given = ([3, 7], ImageNoise(1, [3, 7], SHAPE), scheduler, torch.device("cpu"))
    state, timesteps = build_initialisation(initial_scale=2.0)(*given)
    assert torch.equal(state, 2 * ImageNoise(1, [3, 7], SHAPE).draw())
    assert timesteps == [900, 700, 400, 100]
    assert build_initialisation() == Gaussian(initial_scale=1.0)


class Part:
    """A toy: the noised image 0 of all pixels, at step N - int(N strength)."""

    def __init__(self, *, strength):
        self.strength = strength

    def __call__(self, indices, streams, scheduler, device):
        timesteps = scheduler.timesteps.tolist()
        left = timesteps[len(timesteps) - int(len(timesteps) * self.strength) :]
        return (1 - scheduler.abar(left[0])) ** 0.5 * streams.draw(device), left


class Noting(nn.Module):
    def __init__(self):
        super().__init__()
        self.place, self.seen = nn.Parameter(torch.zeros(1)), []

    def forward(self, x, t):
        self.seen.append((t, x))
        return SimpleNamespace(sample=torch.zeros_like(x))


class Listening:
    def start(self, indices, timesteps, label=None):
        self.timesteps = timesteps

    def __call__(self, state, timestep):
        return None


def test_an_initialisation_is_entered_in_one_place(scheduler, monkeypatch):
    """The rest of the chain alone is sampled, and the guidance is told of the rest alone."""
    monkeypatch.setitem(INITIALISATIONS, "part", Part)
    denoiser, guidance = Noting(), Listening()
    start = build_initialisation("part", strength=0.5)
    given = {"indices": [2, 5], "seed": 4, "shape": SHAPE, "guidance": guidance}
    sample_batch(denoiser, scheduler, **given, initialisation=start)
    assert [t for t, _ in denoiser.seen] == guidance.timesteps == [400, 100]
    expected = (1 - scheduler.abar(400)) ** 0.5 * ImageNoise(4, [2, 5], SHAPE).draw()
    assert torch.equal(denoiser.seen[0][1], expected)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"initialisation": "zero"}, "initialisation 'zero': unknown; known are gaussian"),
        ({"initial_sclae": 2.0}, "initial_sclae"),
    ],
)
def test_unknown_names_and_settings_are_told_in_one_line(settings, match):
    with pytest.raises(InputError, match=match) as caught:
        build_initialisation(**settings)
    assert "\n" not in str(caught.value)


def test_the_registry_is_the_schema_s():
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    sampler = schema["$defs"]["sampler"]["properties"]
    assert sampler["initialisation"]["enum"] == list(INITIALISATIONS)
    assert "initial_scale" in sampler
