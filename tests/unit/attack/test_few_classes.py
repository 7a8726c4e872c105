"""Attacks on two and three classes: losses that are defined there, and said so."""

import pytest
import torch

from contrastdp.attack import autoattack as attack
from contrastdp.attack import few_classes
from contrastdp.attack.audit import audit
from contrastdp.networks.build import build_network

FEW = {"apgd_restarts": 1, "apgd_steps": 3, "mt_restarts": 1, "mt_steps": 2}
SHARED = {"norm": "Linf", "eps": "1/9", "seed": 0, "shard": 9, "batch": 4}


@pytest.fixture(params=[2, 3, 4])
def network(request):
    sizes = {"channels": 1, "classes": request.param, "image_size": 8, "width": 2, "features": 4}
    network = build_network("small_cnn", **sizes).eval()
    with torch.no_grad():  # several classes, none of them far
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(3))
        network.logits.bias -= network(pixels(50)).mean(0)
    return network


def pixels(n):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def images(network):
    x = pixels(4)
    return x, network(x).argmax(1)


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Square of few queries and AutoPGD of few steps, the same losses."""
    import pyautoattack

    class Short(pyautoattack.AutoAttack):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            self.square.n_queries = 5
            for part in (self.apgd, self.apgd_targeted, self.fab):
                part.n_iter = 3

    monkeypatch.setattr(pyautoattack, "AutoAttack", Short)


@pytest.mark.parametrize("version", ["standard", "aa+mt", "worst"])
def test_every_version_runs_and_warns_of_no_loss(network, images, version):
    budget = None if version == "standard" else FEW
    given = {"eps": 0.01, "seed": 0, "batch": 4, "version": version, "budget": budget}
    found = attack.autoattack(network, *images, **given)
    assert list(found.seconds) == list(attack.VERSIONS[version])
    assert not [text for text in found.warnings if "DLR" in text]


@pytest.mark.parametrize("version", ["standard", "aa+mt"])
def test_a_wide_ball_breaks_images_by_the_margin_too(network, images, version, monkeypatch):
    """The attack with another loss is one: alone, it breaks what a ball of all pixels allows."""
    name = {"standard": "apgd-t", "aa+mt": "apgd-dlr-restarts"}[version]
    monkeypatch.setitem(attack.VERSIONS, version, (name,))
    budget = {"apgd_steps": 20} if version == "aa+mt" else None
    monkeypatch.setattr(attack, "AA_MT", ("apgd-dlr-restarts",))
    if version == "aa+mt":
        monkeypatch.setattr(attack, "_budget", lambda version, given: attack.BUDGET | given)
    given = {"eps": 0.9, "seed": 0, "batch": 4, "version": version, "budget": budget}
    found = attack.autoattack(network, *images, **given)
    assert name in found.broken_by


def test_the_audit_runs(network, images):
    given = {"eps": 0.02, "factors": [1], "steps": 2, "queries": 2, "seed": 0, "batch": 4}
    assert len(audit(network, *images, other=network, **given)["apgd_dlr"]) == 4


def test_the_identity_names_the_losses():
    def losses(version, classes):
        return attack.identity(**SHARED, version=version, classes=classes).get("losses")

    assert losses("standard", 2) == losses("standard", 3) == {"apgd-t": "margin"}
    assert losses("worst", 2) == {"apgd-t": "margin", "apgd-dlr-restarts": "margin"}
    assert losses("aa+mt", 3) is losses("worst", 4) is None


def test_the_margin_by_a_slow_loop():
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0, 1, 2, 0, 1])
    slow = [max(z[i, j] for j in range(3) if j != y[i]) - z[i, y[i]] for i in range(5)]
    assert torch.allclose(few_classes.margin(z, y), torch.stack(slow))
