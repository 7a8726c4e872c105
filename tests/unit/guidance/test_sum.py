"""Sums of guidances: as if each part stood alone, whatever it moves."""

import pytest
import torch
from gaussian_posterior import CHAIN, SHAPE, VARIANCES, Denoiser, abar, make, on_chain, sampled

from contrastdp.errors import InputError
from contrastdp.guidance.build import build_guidance
from contrastdp.guidance.protocol import StepMean, guided_noise

WEIGHT = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
INDICES = (0, 1, 2)


def contrastive(**settings):
    defaults = {"loss": "infonce", "tau": 0.5, "lambda_": 3.0, "seed": 1, "encoder_input": "raw"}
    return build_guidance(lambda x: x.flatten(1) @ WEIGHT.T, **(defaults | settings))


def of(*parts, **settings):
    return build_guidance(None, loss="sum", parts=list(parts), **settings)


PARTS = {
    "mean": lambda: make(moves="mean"),
    "noise": lambda: make(),
    "clipped": lambda: make(moves="mean", clip=0.05),
    "random": lambda: make(direction="random", seed=2),
    "contrastive": contrastive,
    "head": lambda: contrastive(head=4, window_high=600),
    "clean": lambda: contrastive(at="clean", lambda_=0.5),
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("variance", VARIANCES)
def test_a_sum_of_one_is_that_one_bit_for_bit(name, variance):
    chain, sizes = on_chain(clip_sample=True), ([], [])
    alone = sampled(PARTS[name](), chain, variance=variance, sizes=sizes[0])
    assert torch.equal(sampled(of(PARTS[name]()), chain, variance=variance, sizes=sizes[1]), alone)
    assert torch.equal(*(size[0] for size in sizes))
    assert sizes[0][0].min() > 0


@pytest.mark.parametrize("second", [name for name in PARTS if name != "mean"])
def test_a_sum_of_two_by_hand(second):
    """Each part is called alone; what moves the noise and what moves the mean are added up."""
    stream = torch.Generator().manual_seed(5)
    states = torch.randn(2, 3, *SHAPE, dtype=torch.float64, generator=stream)
    whole, parts = of(PARTS["mean"](), PARTS[second]()), [PARTS["mean"](), PARTS[second]()]
    for guidance in (whole, *parts):
        guidance.start([*INDICES], CHAIN)
    for t, state in zip(CHAIN[:2], states, strict=True):
        noise = Denoiser()(state, t).sample
        unit = -torch.rand(3, *SHAPE, dtype=torch.float64, generator=stream)
        mean, moved, added = StepMean(unit), [], []
        e, size = guided_noise(whole, noise, state, t, abar(t), mean=mean)
        for part in parts:
            own = StepMean(unit)
            found, _ = guided_noise(part, noise, state, t, abar(t), mean=own)
            added.append(found - noise)
            moved += [] if own.moved is None else [own.moved]
        torch.testing.assert_close(e, noise + sum(added))
        torch.testing.assert_close(mean.moved, sum(moved))
        total = (sum(added) + sum(moved)).flatten(1).norm(dim=1)
        torch.testing.assert_close(size, total / noise.flatten(1).norm(dim=1))


def test_parts_have_windows_of_their_own():
    early, late = make(window_low=500), make(moves="mean", window_high=100)
    whole = of(early, late)
    whole.start([*INDICES], CHAIN)
    state = torch.randn(3, *SHAPE, dtype=torch.float64)
    guided = {}
    for t in CHAIN:
        mean = StepMean(-1.0)
        e, size = guided_noise(whole, state, state, t, abar(t), mean=mean)
        guided[t] = (not torch.equal(e, state), mean.moved is not None)
        assert (size is None) == (guided[t] == (False, False))
    assert list(guided.values()) == [(True, False)] * 2 + [(False, False)] + [(False, True)] * 2


@pytest.mark.parametrize("names", [("mean",), ("noise", "contrastive"), ("mean", "contrastive")])
def test_a_random_direction_of_the_sum_keeps_its_size(names):
    state, noise = torch.randn(2, 3, *SHAPE, dtype=torch.float64)
    sizes, moved = {}, {}
    for direction in ("gradient", "random"):
        whole = of(*(PARTS[name]() for name in names), direction=direction, seed=7)
        whole.start([*INDICES], CHAIN)
        for t in CHAIN[:2]:
            mean = StepMean(-0.3)
            e, sizes[direction] = guided_noise(whole, noise, state, t, abar(t), mean=mean)
            shift = 0 if mean.moved is None else mean.moved
            moved[direction, t] = (e - noise + shift).flatten(1)
    torch.testing.assert_close(sizes["gradient"], sizes["random"])
    first, second = (moved["random", t] for t in CHAIN[:2])
    torch.testing.assert_close(torch.cosine_similarity(first, second).abs(), torch.ones(3).double())
    cosine = torch.cosine_similarity(second, moved["gradient", CHAIN[1]])
    assert bool((cosine.abs() < 0.999).all())


def test_a_sum_that_moves_the_mean_needs_a_variance():
    with pytest.raises(InputError, match="eta above 0"):
        sampled(of(make(), make(moves="mean")), on_chain(clip_sample=False), eta=0.0)


@pytest.mark.parametrize(
    ("parts", "settings", "words"),
    [
        ([], {}, "needs one part or more"),
        ([of(make())], {}, "none of which is a sum"),
        ([make()], {"direction": "up"}, "direction is 'up'; choose gradient or random"),
        ([make()], {"lambda_": 1.0}, "lambda_"),
    ],
)
def test_a_sum_that_is_none(parts, settings, words):
    with pytest.raises(InputError, match=words):
        of(*parts, **settings)
