"""Scores by which synthetic images are chosen (paper, appendix E.3).

To add a selection rule, enter a function in RULES whose keyword-only arguments name what it reads
(labeler, encoder, real, attack: scorer says what they are). It returns the score of images
x (N, C, H, W) in [0, 1] and labels y (N,): (N,). largest: whether the largest scores are kept;
gradients: whether it takes the gradient of each image by the encoder's weights.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from contrastdp.attack.pgd import PGD, cross_entropy_gradient
from contrastdp.attack.threat import parse_fraction
from contrastdp.data.tensors import batches, read_tensors, to_tensor
from contrastdp.errors import InputError
from contrastdp.jobs.device import device as resolve
from contrastdp.networks.checkpoint import load_network
from contrastdp.networks.classifier import Classifier
from contrastdp.networks.execution import having
from contrastdp.networks.predict import predict
from contrastdp.registry import Registry
from contrastdp.streams import generator
from contrastdp.synthesis.labelling import label_with
from contrastdp.synthesis.selection import BLOCK, Candidates

Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
RULES = Registry("selection")
CHUNK = 2**25  # per-sample gradients held at once, in numbers


def score_candidates(
    rule: str,
    pool: Candidates,
    *,
    labeler: str,
    encoder: str,
    train: str,
    real: int,
    seed: int,
    eps: str,
    step_size: str,
    attack_steps: int,
    device: str = "auto",
) -> np.ndarray:
    """Score a pool of candidates, of which a block is in memory at a time: (N,) float32.

    labeler, encoder: checkpoints; train: the training split, of which `real` images under `seed`
    are those that the networks were trained on; eps, step_size (fractions of the pixel range)
    and attack_steps are of the robust gradient norm.
    """
    RULES.find(rule)  # before anything is read
    place = resolve(device)
    networks = {"labeler": load_network(labeler, place), "encoder": load_network(encoder, place)}
    drawn = read_tensors(
        train,
        classes=networks["encoder"].settings["classes"],
        image_shape=pool.image_shape,
        device=place,
        real=real,
        seed=seed,
    )
    score = scorer(
        rule,
        **networks,
        real=drawn,
        attack=PGD(
            eps=parse_fraction(eps),
            step_size=parse_fraction(step_size, "step_size"),
            steps=attack_steps,
            generator=generator(seed, "selection"),
        ),
    )
    # Whole pieces of gradient_norm: rounding then does not tell one block from another.
    piece = _piece(networks["encoder"])
    block = piece * max(1, BLOCK // piece) if RULES.about[rule].get("gradients") else BLOCK
    images = pool.images(np.arange(len(pool)), block)
    scores = [
        score(to_tensor(image).to(place), label.to(place)).detach().cpu().numpy()
        for image, label in zip(images, torch.from_numpy(pool.label).split(block), strict=True)
    ]
    return np.concatenate(scores).astype(np.float32)


def scorer(
    rule: str,
    *,
    labeler: nn.Module,
    encoder: Classifier,
    real: tuple[torch.Tensor, torch.Tensor],
    attack: PGD,
) -> Score:
    """The score of `rule`, an entry of RULES, as a function of images and labels.

    labeler, encoder: in evaluation mode; real: images (R, C, H, W) in [0, 1] and labels (R,);
    attack: of the rules that attack. Raises InputError for an unknown rule.
    """
    known = {"labeler": labeler, "encoder": encoder, "real": real, "attack": attack}
    return RULES.find(rule)(**{name: known[name] for name in RULES.takes(rule)})


# ---------------------------------------------------------------- the rules
@RULES.enter("separability", largest=False)
def _by_separability(*, encoder: Classifier, real: tuple[torch.Tensor, torch.Tensor]) -> Score:
    centroid = centroids(_features(encoder, real[0]), real[1], encoder.settings["classes"])
    return lambda x, y: separability(_features(encoder, x), centroid)


@RULES.enter("gradient_norm", largest=True, gradients=True)
def _by_gradient_norm(*, encoder: nn.Module) -> Score:
    return lambda x, y: gradient_norm(encoder, x, y)


@RULES.enter("robust_gradient_norm", largest=True, gradients=True)
def _by_robust_gradient_norm(*, encoder: nn.Module, attack: PGD) -> Score:
    return lambda x, y: robust_gradient_norm(encoder, x, y, attack)


@RULES.enter("entropy", largest=False)
def _by_entropy(*, labeler: nn.Module) -> Score:
    return lambda x, y: entropy(predict(labeler, x))


# None of the paper's: what the labeler thinks of an image's label, so that a label which a
# class-conditional generator was given and the labeler does not see goes last.
@RULES.enter("confidence", largest=True)
def _by_confidence(*, labeler: nn.Module) -> Score:
    return lambda x, y: label_with(labeler, x, y)[1]


# ---------------------------------------------------------------- the scores
@torch.no_grad()
def _features(network: Classifier, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([network.features(x[piece]) for piece in batches(len(x), 1000)])


def centroids(features: torch.Tensor, label: torch.Tensor, classes: int) -> torch.Tensor:
    """Mean feature of each class: (classes, D). Raises InputError for a class without images."""
    count = label.bincount(minlength=classes)
    if (count == 0).any():
        empty = int((count == 0).nonzero()[0])
        raise InputError(f"class {empty} has no real image to take a centroid from; draw more")
    total = features.new_zeros(classes, features.shape[1])
    return total.index_add_(0, label, features) / count[:, None]


def separability(features: torch.Tensor, centroid: torch.Tensor) -> torch.Tensor:
    """Sum over all classes c of ||f(x) - centroid_c||_2, own class included: (N, D) to (N,)."""
    return (features[:, None] - centroid[None]).norm(dim=2).sum(dim=1)  # (N, classes, D) -> (N,)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of softmax(logits): (N, classes) to (N,)."""
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def gradient_norm(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """||d CE(f(x_i), y_i) / d parameters||_2 of each image: (N,).

    Evaluation mode is expected: BatchNorm would couple the images otherwise.
    """
    # ASSUME: 'gradient norm' is with respect to the parameters; the paper does not say.
    weights = {name: p.detach() for name, p in network.named_parameters()}
    buffers = dict(network.named_buffers())

    def loss(weights: dict[str, Any], image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        logits = functional_call(network, (weights, buffers), (image[None],))
        return F.cross_entropy(logits, label[None])

    size = _piece(network)
    classifiers = [module for module in network.modules() if isinstance(module, Classifier)]
    one_by_one = vmap(grad(loss), in_dims=(None, 0, 0))
    norms = []
    for images, labels in zip(x.split(size), y.split(size), strict=True):
        with having(classifiers, by_layers=True):
            gradients = one_by_one(weights, images, labels)
        squares = [g.flatten(1).square().sum(dim=1) for g in gradients.values()]
        norms.append(torch.stack(squares).sum(dim=0).sqrt())
    return torch.cat(norms)


def _piece(network: nn.Module) -> int:
    """How many images' gradients are held at once."""
    return max(1, CHUNK // sum(p.numel() for p in network.parameters()))


def robust_gradient_norm(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, attack: PGD
) -> torch.Tensor:
    """The gradient norm of the robust loss, the cross entropy of images under PGD: (N,)."""
    # ASSUME: the robust loss is PGD's cross entropy; the paper does not say which.
    return gradient_norm(network, attack(network, x, cross_entropy_gradient(y)), y)
