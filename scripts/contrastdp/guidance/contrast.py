"""Contrastive losses on features: InfoNCE and hard negative mining (section 4, appendix C).

Every loss is written on a similarity matrix and two masks, so that a pair strategy is only a way of
choosing rows, columns and masks. g(a, b) = exp(s_ab / tau) with s_ab = z_a . z_b.

To add a loss, enter a function of `pairs` in LOSSES; its keyword-only arguments are its settings,
and what it says of itself beside its name are settings of the guidance where none are given.
To add a pair strategy, enter a function in PAIRS that names what it compares: features `now` of
x_t, `before` of x_{t+1}, `others` of x_t held fixed, which take no gradient, `real` of real images,
and `label`, the classes of the batch.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastdp.registry import Registry

LOSSES = Registry("guidance loss")
PAIRS = Registry("pairs")


@dataclass(frozen=True)
class Pairs:
    """Anchors against candidates: `similarity` (A, K) and masks (A, K) of what counts as what."""

    similarity: Tensor
    positive: Tensor
    negative: Tensor


# ---------------------------------------------------------------- pair strategies of C.1
@PAIRS.enter("previous", title="own previous state")
def previous_state_pairs(now: Tensor, before: Tensor, others: Tensor) -> Pairs:
    """The paper's vanilla pairs: m anchors x_t; the negatives are the other images at step t.

    now, before: (m, D) features of x_t and of x_{t+1}; others: those of x_t again, held fixed. An
    image's positive is its own previous state. Columns are [before; others].
    """
    return _own_previous(now, before, others, ~_diagonal(now))


@PAIRS.enter("class_conditional", title="class-conditional")
def class_conditional_pairs(now: Tensor, before: Tensor, others: Tensor, label: Tensor) -> Pairs:
    """As previous_state_pairs, with negatives of another class than the anchor's, label (m,)."""
    return _own_previous(now, before, others, label[:, None] != label[None, :])


@PAIRS.enter("real_positive", title="real positives")
def real_positive_pairs(now: Tensor, real: Tensor) -> Pairs:
    """Real data as positives: m anchors x_t; the negatives are the other images of the batch.

    now: (m, D) features of x_t; real: (R, D) features of real images. Columns are [real; now].
    """
    m, count = len(now), len(real)
    positive = torch.zeros(m, count + m, dtype=torch.bool, device=now.device)
    positive[:, :count] = True
    negative = torch.cat([~positive[:, :count], ~_diagonal(now)], dim=1)
    return Pairs(now @ torch.cat([real, now]).T, positive, negative)


@PAIRS.enter("real_negative", title="real negatives")
def real_negative_pairs(now: Tensor, before: Tensor, real: Tensor) -> Pairs:
    """Real data as negatives: m anchors x_t; the positive is the image's own previous state.

    now, before: (m, D) features of x_t and x_{t+1}; real: (R, D). Columns are [before; real].
    """
    every = torch.ones(len(now), len(real), dtype=torch.bool, device=now.device)
    return _own_previous(now, before, real, every)


def _own_previous(now: Tensor, before: Tensor, others: Tensor, repelling: Tensor) -> Pairs:
    """Anchors x_t, drawn to their own previous states and repelled by `others` under a mask."""
    own = _diagonal(now)
    positive = torch.cat([own, torch.zeros_like(repelling)], dim=1)
    negative = torch.cat([torch.zeros_like(own), repelling], dim=1)
    return Pairs(now @ torch.cat([before, others]).T, positive, negative)


def _diagonal(features: Tensor) -> Tensor:
    return torch.eye(len(features), dtype=torch.bool, device=features.device)


# ---------------------------------------------------------------- pairs of the official code's HNM
# PAPER: C.1 takes negatives at step t alone, and Algorithm 1 each image's gradient of its own loss.
# The official code's HNM has anchors and negatives of both states and one loss for all, so that an
# image's gradient is also that of the losses which it is a negative of. HNM keeps that.
@PAIRS.enter("both_states", title="both states")
def both_state_pairs(now: Tensor, before: Tensor) -> Pairs:
    """2m anchors, each image's two states: the positive of either is the other.

    now, before: (m, D) features of x_t and of x_{t+1}. Rows and columns are [now; before]; the
    negatives of an anchor are both states of the other images.
    """
    both = torch.cat([now, before])  # (2m, D)
    itself = _diagonal(both)
    positive = itself.roll(len(now), dims=1)
    return Pairs(both @ both.T, positive, ~(itself | positive))


@PAIRS.enter("both_states_class_conditional", title="both states, class-conditional")
def both_state_class_conditional_pairs(now: Tensor, before: Tensor, label: Tensor) -> Pairs:
    """As both_state_pairs, with negatives of another class than the anchor's, label (m,)."""
    pairs = both_state_pairs(now, before)
    labels = label.repeat(2)
    other = labels[:, None] != labels[None, :]
    return Pairs(pairs.similarity, pairs.positive, pairs.negative & other)


# ---------------------------------------------------------------- losses
@LOSSES.enter("infonce", pairs="previous")
def info_nce(pairs: Pairs, *, tau: float) -> Tensor:
    """-log( g(a, p) / (g(a, p) + sum_n g(a, n)) ), mean over the anchors' positives, then anchors.

    tau > 0: temperature. An anchor without positives contributes nothing. Returns a scalar.
    """
    logits = pairs.similarity / tau
    negatives = logits.masked_fill(~pairs.negative, -torch.inf).logsumexp(1, keepdim=True)  # (A, 1)
    return _mean_over_positives(torch.logaddexp(logits, negatives) - logits, pairs.positive)


@LOSSES.enter("hnm", pairs="both_states")
def hard_negative_mining(
    pairs: Pairs, *, tau: float, tau_plus: float = 0.1, beta: float = 1.0, clamp: bool = False
) -> Tensor:
    """Debiased, hardness-weighted InfoNCE (Chuang et al. 2020, Robinson et al. 2021; section 4).

    -log( g(a, p) / (g(a, p) + N_a) ),
    N_a = m' max( (E_{q_beta}[g(a, v)] - tau+ g(a, p)) / (1 - tau+), e^{-1/tau} ),
    with m' the number of negatives and q_beta weighing negative v by g(a, v)^beta. The floor is the
    least value of g on normalised features; an anchor without negatives contributes nothing.
    tau_plus in [0, 1): probability that a negative is of the anchor's own class; beta >= 0:
    hardness. `clamp` adds the official code's two limits: g >= 1e-4 for negatives, and the ratio
    inside the logarithm >= 1e-4. Returns a scalar.
    """
    logits = pairs.similarity / tau
    excluded = ~pairs.negative
    count = pairs.negative.sum(1, keepdim=True)  # (A, 1)
    log_g = logits.clamp_min(-9.210340371976182) if clamp else logits  # log 1e-4
    log_g = log_g.masked_fill(excluded, -torch.inf)
    weighted = (log_g * (1 + beta)).logsumexp(1, keepdim=True)  # log sum g^beta g
    weights = (log_g * beta).masked_fill(excluded, -torch.inf).logsumexp(1, keepdim=True)
    hard = torch.where(count > 0, weighted - weights, 0.0).exp()  # E_{q_beta}[g], (A, 1)
    positive = logits.exp()
    estimate = (hard - tau_plus * positive) / (1 - tau_plus)
    negatives = count * estimate.clamp_min(torch.tensor(-1 / tau).exp().item())
    ratio = positive / (positive + negatives)
    return _mean_over_positives(-(ratio.clamp_min(1e-4) if clamp else ratio).log(), pairs.positive)


def _mean_over_positives(loss: Tensor, positive: Tensor) -> Tensor:
    """Mean of `loss` (A, K) over each anchor's positives, then over anchors that have any."""
    count = positive.sum(1)
    per_anchor = torch.where(positive, loss, 0.0).sum(1) / count.clamp_min(1)
    return per_anchor.sum() / (count > 0).sum()


def normalise(features: Tensor) -> Tensor:
    """Features (N, D) scaled to unit length."""
    return F.normalize(features, dim=1)
