"""Ordinary training and labelling on images whose answer is known."""

import pytest
import torch

from contrastdp.errors import InputError
from contrastdp.networks import build as networks
from contrastdp.networks.build import SmallCNN
from contrastdp.networks.predict import accuracy
from contrastdp.training.classifier import train_classifier_network

NETWORK = {"network": {"architecture": "small_cnn", "width": 4, "features": 8}}
RECIPE = {"classes": 3, "batch": 20, "learning_rate": 1e-2, "weight_decay": 0.01, "shift": 0}


def images(n):
    y = torch.arange(n) % 3
    x = 0.2 * torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(n))
    x[torch.arange(n), 0, y * 2] += 0.7
    return x, y


def test_learns_a_rule_and_generalises():
    network, loss = train_classifier_network(*images(60), **NETWORK, **RECIPE, steps=60, seed=0)
    assert accuracy(network, *images(90)) > 0.95
    assert loss < 0.3
    assert not network.training


def test_seed_decides():
    weights = [
        train_classifier_network(*images(30), **NETWORK, **RECIPE, steps=3, seed=seed)[0]
        for seed in (0, 0, 1)
    ]
    one, two, other = (network.logits.weight for network in weights)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_flips_reach_the_network(monkeypatch):
    # every image is seen once, as it is or as its mirror image, and both occur
    x, y = images(30)
    x[:, 0, :, 0] = 0.9
    seen = []

    class Watching(SmallCNN):
        def forward(self, x):
            seen.append(x.detach().clone())
            return super().forward(x)

    monkeypatch.setitem(networks.ARCHITECTURES, "small_cnn", Watching)
    options = RECIPE | {"batch": 30, "steps": 1, "seed": 0}
    train_classifier_network(x, y, **NETWORK, **options, flip=True)
    train_classifier_network(x, y, **NETWORK, **options)
    order = [(x == image).flatten(1).all(1).nonzero().item() for image in seen[1]]
    mirrored = seen[0][:, 0, 0, 5] == 0.9
    expected = torch.where(mirrored[:, None, None, None], x[order].flip(3), x[order])
    assert torch.equal(seen[0], expected)
    assert 5 < mirrored.sum() < 25


def test_non_finite_loss_stops():
    with pytest.raises(InputError, match="training loss is nan"):
        options = RECIPE | {"learning_rate": 1e30}
        train_classifier_network(*images(30), **NETWORK, **options, steps=20, seed=0)
