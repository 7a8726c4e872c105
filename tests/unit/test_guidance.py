"""The guidance gradient against finite differences; windows, heads, controls and micro-batches."""

from functools import partial

import pytest
import torch

from contrastdp import contrast
from contrastdp.guidance import ContrastiveGuidance, build_guidance
from contrastdp.records import InputError

CHAIN = [800, 600, 400, 200, 0]


class Encoder(torch.nn.Module):
    """A smooth encoder in double precision, so that finite differences are sharp."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.linear = torch.nn.Linear(16, 6).double()
        self.forwards = 0

    def features(self, x):
        self.forwards += 1
        return self.linear(x.flatten(1)).tanh() + 0.1


@pytest.fixture
def encoder():
    return Encoder().requires_grad_(False)


def states(count, m=4, seed=1):
    torch.manual_seed(seed)
    return [torch.randn(m, 1, 4, 4, dtype=torch.float64) for _ in range(count)]


def make(encoder, loss="hnm", **settings):
    defaults = {"tau": 0.5, "lambda": 1.0, "seed": 0}
    return build_guidance(encoder.features, loss=loss, **(defaults | settings))


@pytest.mark.parametrize("encoder_input", ["unit", "raw"])
@pytest.mark.parametrize("loss", ["infonce", "hnm"])
def test_gradient_equals_finite_differences(encoder, loss, encoder_input):
    before, now = states(2)
    guidance = make(encoder, loss, encoder_input=encoder_input, **{"lambda": 3.0})
    guidance.start([0, 1, 2, 3], CHAIN)
    assert guidance(before, 800) is None
    got = guidance(now, 600)
    criterion = (
        partial(contrast.info_nce, tau=0.5)
        if loss == "infonce"
        else partial(contrast.hard_negative_mining, tau=0.5, tau_plus=0.1, beta=1.0)
    )

    def value(x):
        view = (lambda s: (s + 1) / 2) if encoder_input == "unit" else (lambda s: s)
        z, z_before = (contrast.normalise(encoder.features(view(s))) for s in (x, before))
        return float(criterion(contrast.previous_state_pairs(z, z_before)))

    h = 1e-6
    for place in [(0, 0, 0, 0), (1, 0, 2, 3), (3, 0, 3, 1)]:
        up, down = now.clone(), now.clone()
        up[place] += h
        down[place] -= h
        slope = (value(up) - value(down)) / (2 * h)
        assert float(got[place]) == pytest.approx(3.0 * slope, rel=1e-5, abs=1e-9)


def test_window_bounds_are_inclusive_and_the_first_step_is_never_guided(encoder):
    guidance = make(encoder, window_low=200, window_high=800)
    guidance.start([0, 1, 2, 3], CHAIN)
    added = [guidance(s, t) is not None for s, t in zip(states(5), CHAIN, strict=True)]
    assert added == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("low", "high", "forwards"), [(0, 1000, 5), (400, 1000, 3), (0, 200, 3), (900, 1000, 0)]
)
def test_one_encoder_forward_a_step_and_none_that_nobody_reads(encoder, low, high, forwards):
    guidance = make(encoder, window_low=low, window_high=high)
    guidance.start([0, 1, 2, 3], CHAIN)
    for state, t in zip(states(5), CHAIN, strict=True):
        guidance(state, t)
    assert encoder.forwards == forwards


@pytest.mark.parametrize("head", [0, 8])
def test_micro_batches_change_nothing(head):
    encoder = Encoder().float().requires_grad_(False)
    results = []
    for micro in (None, 1, 3):
        guidance = make(encoder, head=head, micro_batch=micro)
        guidance.start([0, 1, 2, 3], CHAIN)
        for state, t in zip(states(3), CHAIN, strict=False):
            added = guidance(state.float(), t)
        results.append(added)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-4, atol=1e-7)


def test_no_gradient_reaches_the_encoder(encoder):
    encoder.requires_grad_(True)
    guidance = make(encoder, head=0)
    guidance.start([0, 1, 2, 3], CHAIN)
    for state, t in zip(states(2), CHAIN, strict=False):
        guidance(state, t)
    assert all(parameter.grad is None for parameter in encoder.parameters())


def run_chain(guidance, indices):
    guidance.start(indices, CHAIN)
    return [guidance(state.float(), t) for state, t in zip(states(4), CHAIN, strict=False)]


def test_the_head_learns_and_starts_each_guidance_batch_afresh():
    encoder = Encoder().float().requires_grad_(False)
    guidance = make(encoder, head=8)
    first = run_chain(guidance, [0, 1, 2, 3])
    other = run_chain(guidance, [4, 5, 6, 7])
    again = run_chain(guidance, [0, 1, 2, 3])
    frozen = run_chain(make(encoder, head=8, head_learning_rate=0.0), [0, 1, 2, 3])
    assert all(torch.equal(a, b) for a, b in zip(first[1:], again[1:], strict=True))
    assert not torch.equal(first[1], other[1])
    assert torch.equal(first[1], frozen[1])  # the gradient is taken before the head's step
    assert not torch.equal(first[2], frozen[2])


def test_the_head_leaves_the_global_random_state_alone():
    encoder = Encoder().float().requires_grad_(False)
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    guidance = make(encoder, head=8)
    guidance.start([0, 1, 2, 3], CHAIN)
    given = [s.float() for s in (torch.zeros(4, 1, 4, 4), torch.ones(4, 1, 4, 4))]
    guidance(given[0], 800)
    guidance(given[1], 600)
    assert torch.equal(torch.rand(3), expected)


def test_the_random_control_keeps_each_images_norm_and_one_direction():
    encoder = Encoder().float().requires_grad_(False)
    real = run_chain(make(encoder), [0, 1, 2, 3])
    control = run_chain(make(encoder, direction="random"), [0, 1, 2, 3])
    for a, b in zip(real[1:], control[1:], strict=True):
        torch.testing.assert_close(a.flatten(1).norm(dim=1), b.flatten(1).norm(dim=1))
    cosine = torch.cosine_similarity(control[1].flatten(1), control[2].flatten(1))
    torch.testing.assert_close(cosine, torch.ones(4))
    assert torch.cosine_similarity(real[1].flatten(1), control[1].flatten(1)).abs().max() < 0.95


def test_a_gradient_that_is_not_finite_names_image_and_step():
    guidance = ContrastiveGuidance(
        lambda x: x.flatten(1), lambda pairs: (pairs.similarity * torch.nan).sum(), 1.0, seed=0
    )
    guidance.start([40, 41, 42, 43], CHAIN)
    before, now = states(2)
    guidance(before, 800)
    with pytest.raises(InputError, match="image 40 is not finite at t = 600"):
        guidance(now, 600)


@pytest.mark.parametrize(
    "settings",
    [{"loss": "nce"}, {"encoder_input": "pixels"}, {"direction": "up"}, {"lamda": 3}],
)
def test_unknown_settings_are_told_in_one_line(encoder, settings):
    with pytest.raises(InputError) as error:
        make(encoder, **settings)
    assert "\n" not in str(error.value)


def test_a_batch_of_one_has_no_negatives(encoder):
    with pytest.raises(InputError, match="no negatives"):
        make(encoder).start([0], CHAIN)
