"""Each contrastive loss against a slow loop over anchors, and its gradient against differences."""

import math

import pytest
import torch

from contrastdp.guidance import contrast


def features(m, d=5, seed=0):
    torch.manual_seed(seed)
    return [contrast.normalise(torch.randn(m, d, dtype=torch.float64)) for _ in range(2)]


def views(now, before):
    """The 2m anchors, and the place of each one's positive."""
    rows = torch.cat([now, before]).tolist()
    m = len(now)
    return rows, [(i + m) % (2 * m) for i in range(2 * m)]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def slow_info_nce(now, before, tau, label=None):
    """Appendix C.1: an anchor x_t, its own x_{t+1}, and the others at t, of another class alone."""
    now, before = now.tolist(), before.tolist()
    total = 0.0
    for a, row in enumerate(now):
        p = math.exp(dot(row, before[a]) / tau)
        others = [
            o for k, o in enumerate(now) if k != a and (label is None or label[k] != label[a])
        ]
        total -= math.log(p / (p + sum(math.exp(dot(row, o) / tau) for o in others)))
    return total / len(now)


def slow_info_nce_of_both(now, before, tau, label=None):
    rows, partner = views(now, before)
    label = None if label is None else [*label, *label]
    total = 0.0
    for a, row in enumerate(rows):
        p = math.exp(dot(row, rows[partner[a]]) / tau)
        others = [k for k in range(len(rows)) if k not in (a, partner[a])]
        others = [rows[k] for k in others if label is None or label[k] != label[a]]
        total -= math.log(p / (p + sum(math.exp(dot(row, o) / tau) for o in others)))
    return total / len(rows)


def slow_hnm(now, before, tau, tau_plus, beta, clamp):
    rows, partner = views(now, before)
    total = 0.0
    for a, row in enumerate(rows):
        g = [
            math.exp(dot(row, other) / tau)
            for k, other in enumerate(rows)
            if k not in (a, partner[a])
        ]
        if clamp:
            g = [max(value, 1e-4) for value in g]
        weight = [value**beta for value in g]
        count = len(g)
        expected = sum(w * value for w, value in zip(weight, g, strict=True)) / sum(weight)
        p = math.exp(dot(row, rows[partner[a]]) / tau)
        negative = count * max((expected - tau_plus * p) / (1 - tau_plus), math.exp(-1 / tau))
        ratio = p / (p + negative)
        total -= math.log(max(ratio, 1e-4) if clamp else ratio)
    return total / len(rows)


def paired(name, now, before, label=None, others=None):
    """Pairs of that name, with the other images held fixed where they want them so."""
    known = {"now": now, "before": before, "others": now.detach() if others is None else others}
    known["label"] = None if label is None else torch.tensor(label)
    return contrast.PAIRS[name](**{key: known[key] for key in contrast.PAIRS.takes(name)})


SLOW = {"previous": slow_info_nce, "both_states": slow_info_nce_of_both}


@pytest.mark.parametrize("tau", [0.1, 0.5, 10.0])
@pytest.mark.parametrize("m", [2, 3, 8])
@pytest.mark.parametrize("pairs", SLOW)
def test_info_nce_equals_the_loop(pairs, tau, m):
    now, before = features(m)
    got = contrast.info_nce(paired(pairs, now, before), tau=tau)
    assert float(got) == pytest.approx(SLOW[pairs](now, before, tau), rel=1e-10)


@pytest.mark.parametrize("label", [[0, 1, 0, 2, 1], [3, 3, 3, 0, 3]])
@pytest.mark.parametrize("pairs", SLOW)
def test_class_conditional_negatives_leave_the_own_class_out(pairs, label):
    now, before = features(5)
    own = "class_conditional" if pairs == "previous" else f"{pairs}_class_conditional"
    got = contrast.info_nce(paired(own, now, before, label), tau=0.5)
    assert float(got) == pytest.approx(SLOW[pairs](now, before, 0.5, label), rel=1e-10)


def test_the_usual_pairs_of_a_loss():
    """Appendix C.1's for InfoNCE; for HNM the official code's, anchors of both states."""
    assert {name: about["pairs"] for name, about in contrast.LOSSES.about.items()} == {
        "infonce": "previous",
        "hnm": "both_states",
    }


@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize(
    ("tau", "tau_plus", "beta"), [(10, 0.1, 1), (0.5, 0.1, 2), (0.07, 0.3, 0.5), (0.5, 0, 0)]
)
@pytest.mark.parametrize("m", [2, 8])
def test_hnm_equals_the_loop(tau, tau_plus, beta, clamp, m):
    now, before = features(m)
    got = contrast.hard_negative_mining(
        contrast.both_state_pairs(now, before),
        tau=tau,
        tau_plus=tau_plus,
        beta=beta,
        clamp=clamp,
    )
    assert float(got) == pytest.approx(slow_hnm(now, before, tau, tau_plus, beta, clamp), rel=1e-9)


def test_real_positives_against_the_loop():
    (now, _), (real, _) = features(4), features(3, seed=1)
    total = 0.0
    for a, row in enumerate(now.tolist()):
        negative = sum(math.exp(dot(row, o) / 0.5) for k, o in enumerate(now.tolist()) if k != a)
        for r in real.tolist():
            p = math.exp(dot(row, r) / 0.5)
            total -= math.log(p / (p + negative)) / len(real)
    got = contrast.info_nce(contrast.real_positive_pairs(now, real), tau=0.5)
    assert float(got) == pytest.approx(total / len(now), rel=1e-10)


def test_real_negatives_against_the_loop():
    (now, before), (real, _) = features(4), features(6, seed=1)
    total = 0.0
    for row, own in zip(now.tolist(), before.tolist(), strict=True):
        p = math.exp(dot(row, own) / 0.5)
        total -= math.log(p / (p + sum(math.exp(dot(row, r) / 0.5) for r in real.tolist())))
    got = contrast.info_nce(contrast.real_negative_pairs(now, before, real), tau=0.5)
    assert float(got) == pytest.approx(total / len(now), rel=1e-10)


@pytest.mark.parametrize("loss", ["info_nce", "hard_negative_mining"])
@pytest.mark.parametrize("pairs", ["class_conditional", "both_states_class_conditional"])
def test_a_batch_of_one_class_has_no_class_conditional_loss(pairs, loss):
    now, before = features(3)
    z = now.clone().requires_grad_()
    found = paired(pairs, z, before, [0, 0, 0])
    settings = {"tau": 0.5} if loss == "info_nce" else {"tau": 0.5, "tau_plus": 0.1, "beta": 1.0}
    value = getattr(contrast, loss)(found, **settings)
    assert value.item() == 0
    assert torch.autograd.grad(value, z)[0].abs().max() < 1e-15  # rounding alone


def test_hnm_without_weights_and_debiasing_is_info_nce():
    pairs = paired("previous", *features(6))
    plain = contrast.hard_negative_mining(pairs, tau=0.5, tau_plus=0.0, beta=0.0)
    assert float(plain) == pytest.approx(float(contrast.info_nce(pairs, tau=0.5)), rel=1e-10)


@pytest.mark.parametrize("loss", ["info_nce", "hard_negative_mining"])
@pytest.mark.parametrize("pairs", SLOW)
def test_gradient_equals_finite_differences(pairs, loss):
    now, before = features(4)
    settings = {"tau": 0.5} if loss == "info_nce" else {"tau": 0.5, "tau_plus": 0.1, "beta": 1.0}

    def value(z):
        found = paired(pairs, contrast.normalise(z), before, others=now)
        return getattr(contrast, loss)(found, **settings)

    assert torch.autograd.gradcheck(value, now.clone().requires_grad_())


@pytest.mark.parametrize("pairs", SLOW)
def test_losses_do_not_depend_on_the_order_of_images(pairs):
    now, before = features(7)
    order = torch.randperm(7)
    for loss in (
        lambda p: contrast.info_nce(p, tau=0.2),
        lambda p: contrast.hard_negative_mining(p, tau=0.2, tau_plus=0.1, beta=1),
    ):
        here = loss(paired(pairs, now, before))
        there = loss(paired(pairs, now[order], before[order]))
        assert float(here) == pytest.approx(float(there), rel=1e-12)


@pytest.mark.parametrize(("pairs", "candidates"), [("previous", 5), ("both_states", 9)])
def test_info_nce_of_equal_features_is_the_log_of_the_count(pairs, candidates):
    same = torch.ones(5, 3, dtype=torch.float64) / 3**0.5
    got = contrast.info_nce(paired(pairs, same, same), tau=0.3)
    assert float(got) == pytest.approx(math.log(candidates))


def test_descending_info_nce_pulls_positives_together_and_pushes_images_apart():
    torch.manual_seed(0)
    crowd = 1 + 0.5 * torch.randn(2, 6, 5, dtype=torch.float64)
    now, before = contrast.normalise(crowd[0]), contrast.normalise(crowd[1])
    z = now.clone().requires_grad_()
    loss = contrast.info_nce(paired("previous", contrast.normalise(z), before), tau=0.5)
    (gradient,) = torch.autograd.grad(loss, z)
    moved = contrast.normalise(z.detach() - 0.5 * gradient)
    others = ~torch.eye(6, dtype=torch.bool)
    assert (moved * before).sum() > (now * before).sum()
    assert (moved @ moved.T)[others].mean() < (now @ now.T)[others].mean()


@pytest.mark.parametrize("m", [4, 8, 32])
def test_pairs_of_both_states_guide_twice_as_strongly_in_the_same_direction(m):
    """Near the earlier state, where no image is like another."""
    torch.manual_seed(1)
    now = torch.randn(m, 64, dtype=torch.float64)
    before = contrast.normalise(now + 0.05 * torch.randn_like(now))
    z, slopes = now.requires_grad_(), {}
    for pairs in SLOW:
        loss = contrast.info_nce(paired(pairs, contrast.normalise(z), before), tau=0.1)
        slopes[pairs] = torch.autograd.grad(loss, z)[0]
    ratio = slopes["both_states"].norm(dim=1) / slopes["previous"].norm(dim=1)
    assert 1.9 < ratio.median() < 2.2
    assert torch.cosine_similarity(*slopes.values()).min() > 0.9
