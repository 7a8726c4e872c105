"""Terms of the diffusion loss: the registry, and a term of the whole batch's mean, in parts."""

import pytest
import torch
from torch import nn

from contrastdp.diffusion.terms import TERMS, NoisePrediction, TermOfMean, build_terms, predict
from contrastdp.diffusion.training import train_denoiser
from contrastdp.errors import InputError

ABAR = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 100), 0)


class SquaredMean(TermOfMean):
    """gamma ||m||^2, m the mean of e_theta - e over the batch; what no part of it knows alone."""

    def __init__(self, *, gamma):
        self.gamma = gamma

    def statistic(self, part):
        return (part.predicted - part.noise).sum(0)

    def __call__(self, part, mean=None):
        own = (part.predicted - part.noise).mean(0)
        return self.gamma * (2 * mean * own - mean * mean).sum()


@pytest.fixture
def toy(monkeypatch):
    """All that adding a term takes."""
    monkeypatch.setitem(TERMS, "squared_mean", SquaredMean)


class Dropping(nn.Module):
    """A denoiser of few weights, with dropout of whole calls, so that its draws can be watched."""

    def __init__(self, share=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(1, 1, 3, padding=1).double()
        self.share, self.seen = share, []

    def forward(self, sample, timestep):
        keep = torch.rand(len(sample)) >= self.share
        self.seen.append((keep, torch.is_grad_enabled()))
        output = self.layer(sample.double()) * keep.view(-1, 1, 1, 1)
        return type("Output", (), {"sample": output})


def train(model, steps=1, **changes):
    image = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    settings = {"abar": ABAR, "steps": steps, "batch": 11, "learning_rate": 1e-2, "warmup": 0}
    settings |= {"clip_norm": 1e9, "averaging": 0.0, "shift": 0}
    settings |= {"generator": torch.Generator().manual_seed(0)}
    return list(train_denoiser(model, image, None, **(settings | changes)))


@pytest.mark.parametrize("micro_batch", [None, 1, 4])
def test_a_term_of_the_batch_s_mean_is_that_of_the_whole_batch(toy, micro_batch):
    """Value and gradient against autograd of the formula on the batch in one piece."""
    model, twin = Dropping(), Dropping()
    rows = train(model, terms={"squared_mean": {"gamma": 3.0}}, micro_batch=micro_batch)
    stream = torch.Generator().manual_seed(0)
    index = torch.randperm(12, generator=stream)[:11]
    x0 = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(3))[index] * 2 - 1
    t = torch.randint(0, 100, (11,), generator=stream)
    noise = torch.randn(x0.shape, generator=stream)
    a = ABAR[t].view(-1, 1, 1, 1)
    error = twin.layer((a.sqrt() * x0 + (1 - a).sqrt() * noise).double()) - noise
    loss = error.pow(2).mean() + 3 * error.mean(0).pow(2).sum()
    loss.backward()
    assert rows[0]["loss"] == pytest.approx(loss.item(), rel=1e-9)
    for one, two in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-6, atol=1e-9)
    assert abs(rows[0]["loss"] - error.pow(2).mean().item()) > 0.1


def test_the_first_pass_is_taken_only_where_needed_and_drops_what_the_second_drops(toy):
    model = Dropping(share=0.5)
    train(model, micro_batch=4)
    assert [grad for _, grad in model.seen] == [True] * 3
    model = Dropping(share=0.5)
    train(model, micro_batch=4, terms={"squared_mean": {"gamma": 1.0}})
    assert [grad for _, grad in model.seen] == [False] * 3 + [True] * 3
    for (first, _), (second, _) in zip(model.seen[:3], model.seen[3:], strict=True):
        assert torch.equal(first, second)


def test_terms_add_up(toy):
    x0, noise, t = torch.rand(3, 1, 4, 4), torch.randn(3, 1, 4, 4), torch.tensor([1, 50, 99])
    part = predict(Dropping(), x0, noise, t, ABAR, {})
    named = {"noise_prediction": {"weighting": "velocity"}, "squared_mean": {"gamma": 1.0}}
    first, second = build_terms(named)
    assert isinstance(first, NoisePrediction) and isinstance(second, SquaredMean)
    mean = (part.predicted - part.noise).mean(0)
    torch.testing.assert_close(second(part, mean), mean.square().sum())
    assert first.weighting == "velocity"


@pytest.mark.parametrize(
    ("terms", "match"),
    [
        ({"mmd": {}}, "term 'mmd': unknown; known are noise_prediction"),
        ({"noise_prediction": {"weigthing": "noise"}}, "weigthing"),
        ({"noise_prediction": {"weighting": "snr"}}, "weighting is 'snr'"),
    ],
)
def test_unknown_terms_and_settings_are_told_in_one_line(terms, match):
    with pytest.raises(InputError, match=match) as caught:
        build_terms(terms)
    assert "\n" not in str(caught.value)
