"""The guidance gradient against finite differences; windows, heads, controls and micro-batches."""

import math
from functools import partial

import pytest
import torch

from contrastdp.errors import InputError
from contrastdp.guidance import contrast
from contrastdp.guidance.build import build_guidance
from contrastdp.guidance.contrastive import ContrastiveGuidance, EmbeddingHead
from contrastdp.guidance.protocol import guided_noise

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
        if loss == "hnm":
            return float(criterion(contrast.both_state_pairs(z, z_before)))
        others = contrast.normalise(encoder.features(view(now)))  # the other images stay
        return float(criterion(contrast.previous_state_pairs(z, z_before, others)))

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


@pytest.mark.parametrize(("low", "high", "forwards"), [(0, 1000, 5), (400, 1000, 3), (0, 200, 3)])
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
        for state, t in zip(states(3), CHAIN[:3], strict=True):
            added = guidance(state.float(), t)
        results.append(added)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-4, atol=1e-7)


def test_no_gradient_reaches_the_encoder(encoder):
    encoder.requires_grad_(True)
    guidance = make(encoder, head=0)
    guidance.start([0, 1, 2, 3], CHAIN)
    for state, t in zip(states(2), CHAIN[:2], strict=True):
        guidance(state, t)
    assert all(parameter.grad is None for parameter in encoder.parameters())


def run_chain(guidance, indices):
    guidance.start(indices, CHAIN)
    return [guidance(state.float(), t) for state, t in zip(states(4), CHAIN[:4], strict=True)]


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
    with pytest.raises(InputError, match="image 40 is not finite at step 2 of 5, t = 600;"):
        guidance(now, 600)


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "nce"},
        {"encoder_input": "pixels"},
        {"direction": "up"},
        {"lamda": 3},
        {"pairs": "others"},
        {"at": "x_0"},
        {"clip": 0.0},
        {"precision": "half"},
        {"tau": None},
        {"pairs": "real_positive"},
    ],
)
def test_unknown_settings_are_told_in_one_line(encoder, settings):
    with pytest.raises(InputError) as error:
        make(encoder, **settings)
    assert "\n" not in str(error.value)


def test_a_batch_of_one_has_no_negatives(encoder):
    with pytest.raises(InputError, match="no negatives"):
        make(encoder).start([0], CHAIN)


# ---------------------------------------------------------------- every loss, pairs and head
LABEL = [0, 1, 0, 2]
USUAL = {"infonce": "previous", "hnm": "both_states"}  # of the paper, and of the official code


def slow_loss(
    now, before, real, label, others, *, loss, pairs, tau, tau_plus=0.1, beta=1.0, clamp=False
):
    """Loss of feature rows (lists of floats), by loops over anchors, positives and negatives.

    others: the rows of `now` before they were moved, which pairs of C.1 repel an image from.
    """
    z, w, r, o = (
        [[x / math.hypot(*row) for x in row] for row in rows]
        for rows in (now, before, real, others)
    )
    m = len(now)
    anchors = []  # (anchor, positives, negatives)
    for i in range(m):
        if pairs == "real_positive":
            anchors.append((z[i], r, [z[k] for k in range(m) if k != i]))
        elif pairs == "real_negative":
            anchors.append((z[i], [w[i]], r))
        else:
            rest = [k for k in range(m) if k != i]
            if pairs.endswith("class_conditional"):
                rest = [k for k in rest if label[k] != label[i]]
            negatives = [o[k] for k in rest]
            if pairs.startswith("both_states"):
                negatives = [z[k] for k in rest] + [w[k] for k in rest]
                anchors.append((w[i], [z[i]], negatives))
            anchors.append((z[i], [w[i]], negatives))
    total = 0.0
    for anchor, positives, negatives in anchors:

        def g(other, anchor=anchor):
            return math.exp(sum(a * b for a, b in zip(anchor, other, strict=True)) / tau)

        values = [max(g(v), 1e-4) if clamp else g(v) for v in negatives]
        for positive in positives:
            p = g(positive)
            if loss == "infonce":
                n = sum(values)
            else:
                hard = sum(v ** (1 + beta) for v in values) / sum(v**beta for v in values)
                debiased = (hard - tau_plus * p) / (1 - tau_plus)
                n = len(values) * max(debiased, math.exp(-1 / tau))
            ratio = p / (p + n)
            ratio = max(ratio, 1e-4) if clamp else ratio
            total -= math.log(ratio) / len(positives) / len(anchors)
    return total


@pytest.mark.parametrize("head", [0, 3])
@pytest.mark.parametrize("pairs", contrast.PAIRS)
@pytest.mark.parametrize(
    "loss",
    [{"loss": "infonce"}, {"loss": "hnm"}, {"loss": "hnm", "clamp": True}],
    ids=["infonce", "hnm", "hnm_clamp"],
)
def test_every_variant_against_a_loop_and_finite_differences(encoder, loss, pairs, head):
    """What is added to the noise is lambda times the slope of the slow loop in each pixel."""
    before, now = states(2)
    real = encoder.features(states(1, m=3, seed=7)[0].clamp(0, 1))
    guidance = make(encoder, pairs=pairs, head=head, real=real, **loss, **{"lambda": 2.0})
    if head:  # in double precision, so that finite differences are sharp
        fixed = EmbeddingHead(6, head).double().requires_grad_(True)
        guidance._batch_head = lambda features: fixed
        guidance._optimiser = torch.optim.SGD(fixed.parameters(), lr=0.0)
    guidance.start([0, 1, 2, 3], CHAIN, torch.tensor(LABEL))
    guidance(before, 800)
    got = guidance(now, 600)

    def embed(features):
        with torch.no_grad():
            return (fixed(features) if head else features).tolist()

    def value(x):
        rows = [embed(encoder.features((s + 1) / 2)) for s in (x, before, now)]
        given = (*rows[:2], embed(real), LABEL, rows[2])
        return slow_loss(*given, pairs=pairs, tau=0.5, **loss)

    h, slopes, found = 1e-5, [], []
    for place in [(0, 0, 0, 0), (1, 0, 2, 3), (2, 0, 1, 1), (3, 0, 3, 1)]:
        up, down = now.clone(), now.clone()
        up[place] += h
        down[place] -= h
        slopes.append((value(up) - value(down)) / (2 * h))
        found.append(float(got[place]))
    assert found == pytest.approx([2.0 * s for s in slopes], rel=1e-4, abs=1e-9)
    assert max(abs(s) for s in slopes) > 1e-5


# ---------------------------------------------------------------- the sign and its factor
@pytest.mark.parametrize("loss", ["infonce", "hnm"])
def test_the_predicted_x0_descends_the_loss_by_the_stated_factor(encoder, loss):
    """Adding g to the noise moves x_0 = (x_t - sqrt(1 - abar) e) / sqrt(abar) against g."""
    before, now = states(2)
    torch.manual_seed(3)
    noise, abar = torch.randn_like(now), 0.3
    guidance = make(encoder, loss, encoder_input="raw", **{"lambda": 0.01})
    guidance.start([0, 1, 2, 3], CHAIN)
    guidance(before, 800)
    guided, size = guided_noise(guidance, noise, now, 600, abar)

    def value(x):
        rows = [encoder.features(s).tolist() for s in (x, before, now)]
        return slow_loss(*rows[:2], [], None, rows[2], loss=loss, pairs=USUAL[loss], tau=0.5)

    def x0(e):
        return (now - (1 - abar) ** 0.5 * e) / abar**0.5

    moved = x0(guided) - x0(noise)
    assert value(now + 1e-3 * moved / moved.norm()) < value(now)
    slope = (value(now + 1e-5 * moved / moved.norm()) - value(now)) / 1e-5
    # |moved| = sqrt((1 - abar) / abar) lambda |grad|, and moved points along -grad
    assert float(moved.norm()) == pytest.approx((0.7 / 0.3) ** 0.5 * 0.01 * -slope, rel=1e-3)
    expected = (guided - noise).flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    torch.testing.assert_close(size, expected)


def test_at_the_predicted_x0_the_chain_rule_holds_with_the_noise_fixed(encoder):
    earlier, now = states(2)
    torch.manual_seed(3)
    noise, abar = torch.randn(2, *now.shape, dtype=torch.float64), (0.2, 0.4)

    def clean(x, k):
        return (x - (1 - abar[k]) ** 0.5 * noise[k]) / abar[k] ** 0.5

    guidance = make(encoder, at="clean", **{"lambda": 2.0})
    guidance.start([0, 1, 2, 3], CHAIN)
    assert guided_noise(guidance, noise[0], earlier, 800, abar[0])[1] is None
    guided, _ = guided_noise(guidance, noise[1], now, 600, abar[1])

    def value(x):
        rows = [encoder.features((s + 1) / 2).tolist() for s in (clean(x, 1), clean(earlier, 0))]
        return slow_loss(*rows, [], None, rows[0], loss="hnm", pairs=USUAL["hnm"], tau=0.5)

    for place in [(0, 0, 0, 0), (2, 0, 1, 3)]:
        up, down = now.clone(), now.clone()
        up[place] += 1e-5
        down[place] -= 1e-5
        slope = (value(up) - value(down)) / 2e-5
        assert float((guided - noise[1])[place]) == pytest.approx(2 * slope, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("clip", [0.02, 1e6])
def test_clipping_bounds_the_norm_beside_the_noise_and_keeps_the_direction(encoder, clip):
    before, now = states(2)
    torch.manual_seed(3)
    noise = torch.randn_like(now)
    found = []
    for limit in (None, clip):
        guidance = make(encoder, clip=limit, **{"lambda": 5.0})
        guidance.start([0, 1, 2, 3], CHAIN)
        guidance(before, 800)
        guided, size = guided_noise(guidance, noise, now, 600, 0.5)
        found.append((guided - noise, size))
    (free, size), (bound, bound_size) = found
    assert float(size.min()) > 0.02
    torch.testing.assert_close(bound_size, size.clamp_max(clip))
    cosine = torch.cosine_similarity(free.flatten(1), bound.flatten(1))
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_clipping_leaves_a_zero_gradient_alone():
    guidance = ContrastiveGuidance(
        lambda x: 0 * x.flatten(1) + 1, lambda p: p.similarity.sum(), 1.0, seed=0, clip=0.1
    )
    guidance.start([0, 1], CHAIN)
    before, now = states(2, m=2)
    guidance(before, 800)
    guided, size = guided_noise(guidance, now, now, 600, 0.5)
    assert torch.equal(guided, now)
    assert torch.equal(size, torch.zeros(2, dtype=size.dtype))


# ---------------------------------------------------------------- batches of every kind
@pytest.mark.parametrize("pairs", [name for name in contrast.PAIRS if "real" not in name])
def test_the_order_of_images_does_not_matter(encoder, pairs):
    before, now = states(2, m=6)
    label, order = torch.tensor([0, 1, 2, 0, 1, 1]), torch.tensor([3, 1, 5, 0, 4, 2])
    found = []
    for chosen in (torch.arange(6), order):
        guidance = make(encoder, pairs=pairs)
        guidance.start(chosen.tolist(), CHAIN, label[chosen])
        guidance(before[chosen], 800)
        found.append(guidance(now[chosen], 600))
    torch.testing.assert_close(found[1], found[0][order])


@pytest.mark.parametrize("loss", ["infonce", "hnm"])
def test_equal_images_get_equal_finite_gradients(encoder, loss):
    same = states(1, m=1)[0].expand(4, -1, -1, -1)
    guidance = make(encoder, loss)
    guidance.start([0, 1, 2, 3], CHAIN)
    guidance(same, 800)
    got = guidance(same.clone(), 600)
    assert bool(got.isfinite().all())
    torch.testing.assert_close(got, got[:1].expand_as(got))


def test_class_conditional_pairs_with_one_class_are_refused(encoder):
    with pytest.raises(InputError, match="images 4 to 7 are all of class 1") as error:
        make(encoder, pairs="class_conditional").start([4, 5, 6, 7], CHAIN, torch.ones(4).long())
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="need labels"):
        make(encoder, pairs="class_conditional").start([4, 5, 6, 7], CHAIN)


def test_a_labeler_gives_the_classes_of_the_predicted_x0(encoder):
    """Guided by the labeler's classes of x_0 is guided by those classes given."""
    before, now = states(2)
    torch.manual_seed(3)
    noise, abar, seen = torch.randn_like(now), 0.4, []

    def labeler(x):
        seen.append(x)
        return torch.nn.functional.one_hot(torch.tensor(LABEL)[: len(x)], 3).double()

    results = []
    for given, label in ((labeler, None), (None, torch.tensor(LABEL))):
        guidance = make(encoder, pairs="class_conditional", labeler=given)
        guidance.start([0, 1, 2, 3], CHAIN, label)
        guided_noise(guidance, noise, before, 800, abar)
        results.append(guided_noise(guidance, noise, now, 600, abar)[0])
    assert torch.equal(*results)
    clean = (now - (1 - abar) ** 0.5 * noise) / abar**0.5
    torch.testing.assert_close(seen[-1], ((clean + 1) / 2).clamp(0, 1))


def test_a_labeler_that_never_sees_two_classes_is_told(encoder):
    def blind(x):
        return torch.tensor([[0.0, 1.0]]).expand(len(x), 2)

    guidance = make(encoder, pairs="class_conditional", labeler=blind, window_low=400)
    guidance.start([0, 1, 2, 3], CHAIN)
    before, now, last = states(3)
    guided_noise(guidance, before, before, 800, 0.2)
    guided, _ = guided_noise(guidance, now, now, 600, 0.3)
    torch.testing.assert_close(guided, now)  # no negatives, nothing added
    with pytest.raises(InputError, match="one class alone in images 0 to 3"):
        guided_noise(guidance, last, last, 400, 0.4)


def test_real_positives_read_no_earlier_state(encoder):
    guidance = make(encoder, pairs="real_positive", real=torch.rand(3, 6).double(), window_high=250)
    guidance.start([0, 1, 2, 3], CHAIN)
    for state, t in zip(states(5), CHAIN, strict=True):
        guidance(state, t)
    assert encoder.forwards == 2  # at 200 and 0


# ---------------------------------------------------------------- precision
def test_bfloat16_stays_within_the_stated_tolerance():
    """The encoder in bfloat16: the gradient within 5% of its norm of that in float32."""
    encoder = Encoder().float().requires_grad_(False)
    found = []
    for precision in ("float32", "bfloat16"):
        added = run_chain(make(encoder, precision=precision), [0, 1, 2, 3])
        found.append(torch.stack(added[1:]))
    assert found[1].dtype == torch.float32
    assert 0 < float((found[1] - found[0]).norm() / found[0].norm()) < 0.05
