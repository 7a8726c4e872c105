"""The audit's measures: a linear network, of which all is known, and networks that mask."""

import math

import pytest
import torch
from torch import nn

from contrastdp.attack import audit
from contrastdp.errors import InputError

EPS = 0.1
SPENT = {"factors": [1, 2], "steps": 20, "queries": 300, "seed": 0, "batch": 1000}


class Linear(nn.Module):
    """Two classes divided by a plane, and a third that is never seen: logits s (v·x - b), 0, low.

    The third makes the DLR loss, which needs three classes, the difference over a constant.
    """

    def __init__(self, scale=1.0, sign=1.0):
        super().__init__()
        stream = torch.Generator().manual_seed(0)
        self.register_buffer("v", sign * scale * torch.randn(16, generator=stream))
        self.register_buffer("b", self.v.sum() / 2)

    def forward(self, x):
        z = x.flatten(1) @ self.v - self.b
        low = torch.full_like(z, -50.0) * self.v.abs().max()
        return torch.stack([z, torch.zeros_like(z), low + z], dim=1)

    def worst(self, x, y, eps):
        """Smallest margin of the label within eps and [0, 1], in closed form."""
        side = torch.where(y == 0, 1.0, -1.0)[:, None]
        ends = [(x + step).clamp(0, 1).flatten(1) for step in (-eps, eps)]
        least = torch.minimum(*(side * self.v * end for end in ends))
        return least.sum(dim=1) - side[:, 0] * self.b


class Quantised(nn.Module):
    """A network behind an input of four grey levels."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network((3 * x).round() / 3)


class Noisy(Quantised):
    def forward(self, x):
        return self.network(x + 0.4 * torch.rand_like(x))


class Detached(Quantised):
    def forward(self, x):
        return self.network(x.detach())


@pytest.fixture(scope="module")
def images():
    """80 images of 4 x 4 pixels with the linear network's own labels, five of them wrong."""
    x = torch.rand(80, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    y = Linear()(x).argmax(dim=1)
    y[:5] = 1 - y[:5]
    return x, y


def look(network, images, other=None, eps=EPS, **changes):
    return audit.audit(network, *images, other=other, eps=eps, **(SPENT | changes))


def test_a_linear_network_is_broken_where_the_closed_form_says(images):
    x, y = images
    found = look(Linear(), images)
    robust = Linear().worst(x, y, EPS) > 0
    assert 10 < robust.sum() < 70
    assert found["clean"] == found["at_zero"] == [False] * 5 + [True] * 75
    assert found["apgd_ce"] == found["apgd_dlr"] == robust.tolist()
    assert [rung["eps"] for rung in found["by_eps"]] == [EPS, 2 * EPS, 1.0]
    for rung in found["by_eps"]:
        assert rung["right"] == (Linear().worst(x, y, rung["eps"]) > 0).tolist()
    assert not any(found["by_eps"][-1]["right"])
    assert not any(found["zero_gradient"] + found["saturated"])
    square = torch.tensor(found["square"])
    assert (square >= robust).all()  # nothing breaks what cannot be broken
    assert square.sum() < 75
    assert found["transfer"] is None


def test_gradient_norms_are_those_of_the_closed_form(images):
    """||g||_1 = (1 - p_y) ||v||_1, and so far from the plane that p_y is 1 it is lost."""
    network = Linear(scale=8.0)
    x, y = images[0], network(images[0]).argmax(dim=1)
    margin = network(x)[:, :2].diff(dim=1).abs().squeeze(1).double()
    norms = audit.gradient_norms(network, x, y, batch=7)
    expected = torch.sigmoid(-margin) * network.v.double().abs().sum()
    near = margin < 10
    assert 5 < near.sum() < len(x)
    torch.testing.assert_close(norms.double()[near], expected[near], rtol=1e-2, atol=0)
    size = 1e-4
    saturated = torch.tensor(look(network, (x, y), eps=size)["saturated"])
    lost = size * expected < 2**-24
    assert 5 < lost.sum() < len(x) - 5
    # at the threshold float32 decides
    clear = (size * expected * 2**24).log2().abs() > 0.1
    assert ((size * expected * 2**24).log2().abs() < 1).logical_and(clear).any()
    assert torch.equal(saturated[clear], lost[clear])


def test_a_gradient_counts_as_none_where_float32_loses_its_digits(images, monkeypatch):
    sizes = torch.tensor([0.0, 2.0**-149, 2.0**-127, 2.0**-125, 2.0**-80, 1.0])
    monkeypatch.setattr(audit, "gradient_norms", lambda *_, **__: sizes)
    found = look(Linear(), [part[:6] for part in images])
    assert found["zero_gradient"] == [True, True, True, False, False, False]
    assert found["saturated"] == [True] * 5 + [False]


def test_a_size_of_zero_is_an_attack_all_the_same(images, monkeypatch):
    sizes = []
    apgd = audit.apgd
    monkeypatch.setattr(
        audit, "apgd", lambda *given, **how: sizes.append(how["eps"]) or apgd(*given, **how)
    )
    look(Linear(), images)
    assert sorted(sizes) == [0.0, EPS, EPS, 2 * EPS, 1.0]


def test_logits_times_a_thousand_have_no_gradient_and_square_beats_apgd(images):
    plain, scaled = look(Linear(), images), look(Linear(scale=1000.0), images)
    right = sum(scaled["clean"])
    assert sum(scaled["zero_gradient"]) > 0.8 * right
    assert sum(scaled["apgd_ce"]) > sum(plain["apgd_ce"]) + 10
    assert sum(scaled["square"]) < sum(scaled["apgd_ce"]) - 10
    assert scaled["apgd_dlr"] == plain["apgd_dlr"]  # a ratio, which no scale changes


def test_a_quantised_input_is_caught_by_what_needs_no_gradient(images):
    masked = look(Quantised(Linear()), images, other=Linear())
    assert all(masked["zero_gradient"])
    left = [a and b for a, b in zip(masked["apgd_ce"], masked["apgd_dlr"], strict=True)]
    broken = [a and not b for a, b in zip(left, masked["square"], strict=True)]
    assert sum(broken) > 5
    assert sum(masked["transfer"]) < sum(masked["apgd_ce"]) - 5
    assert sum(masked["by_eps"][-1]["right"]) > 5


def test_a_network_that_draws_noise_differs_at_size_zero(images):
    torch.manual_seed(0)
    found = look(Noisy(Linear()), images)
    assert found["clean"] != found["at_zero"]


def test_transfer_is_judged_by_the_audited_network_and_made_on_the_other(images):
    same = look(Linear(), images, other=Linear())
    assert same["transfer"] == same["apgd_ce"]
    # an opposed network's attack moves each image deeper into its class
    opposed = look(Linear(), images, other=Linear(sign=-1.0))
    assert opposed["transfer"] == opposed["clean"]


def test_the_ladder_rises_to_one_and_no_further():
    assert audit.ladder(0.3, [1, 2, 4, 8]) == [0.3, 0.6, 1.0]
    assert audit.ladder(8 / 255, [4]) == [8 / 255, 32 / 255, 1.0]
    assert math.isclose(audit.ladder(0.1, [0.5])[0], 0.05)


def test_networks_are_left_as_they_were_and_batches_change_no_flag(images):
    network = Linear().train()
    network.weight = nn.Parameter(torch.ones(1))
    whole, parts = look(network, images), look(network, images, batch=17)
    assert network.training
    assert network.weight.requires_grad
    assert whole["apgd_ce"] == parts["apgd_ce"]
    assert whole["zero_gradient"] == parts["zero_gradient"]


def test_a_network_without_gradient_is_told_in_one_line(images):
    with pytest.raises(InputError, match="passes no gradient"):
        look(Detached(Linear()), images)
