"""AutoAttack one attack at a time: the same images, bit for bit, as its own cascade."""

import logging

import pytest
import torch
from flat_training import train_flat
from torch import nn

from contrastdp.attack import autoattack as attack
from contrastdp.attack import versions
from contrastdp.attack.autoattack import InParts, Remembered, autoattack, identity
from contrastdp.errors import InputError

EPS = 0.08


def images(n, seed):
    """Five classes of 4 x 4 pixels: a bright pixel on noise, near enough to be attacked."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 5
    x = 0.5 * torch.rand(n, 1, 4, 4, generator=generator)
    x.flatten(1)[torch.arange(n), y * 3] += 0.4
    return x, y


@pytest.fixture(scope="module")
def network():
    options = {"real": images(100, 0), "synthetic": None, "validation": images(20, 1), "classes": 5}
    options |= {"loss": "pgd", "eps": 0.05, "step_size": 0.02, "attack_steps": 2, "beta": 0.0}
    options |= {"label_smoothing": 0.0, "steps": 300, "batch": 50, "synthetic_share": 0.5}
    options |= {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0, "warmup": 0.1}
    options |= {"averaging": 0.9, "shift": 0, "validate_every": 300, "validation_steps": 1}
    architecture = {"architecture": "small_cnn", "width": 6, "features": 16}
    return train_flat(architecture, **options, seed=0).last


def shorten(adversary):
    """Fewer queries and steps, so that a test takes seconds; the cascade is the same."""
    adversary.square.n_queries = 60
    for part in (adversary.apgd, adversary.apgd_targeted, adversary.fab):
        part.n_iter = 12


@pytest.fixture
def short(monkeypatch):
    import pyautoattack

    class Short(pyautoattack.AutoAttack):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            shorten(self)

    monkeypatch.setattr(pyautoattack, "AutoAttack", Short)
    return Short


def by_its_own_cascade(function, x, y, short):
    adversary = short(function, norm="Linf", eps=EPS, seed=3, version="standard", device="cpu")
    adversary.verbose = False
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = 4
    return adversary.run_standard_evaluation(x, y, batch_size=16)


@pytest.mark.parametrize("remembering", [False, True])
def test_equals_one_run_of_all_attacks_bit_for_bit(network, short, monkeypatch, remembering):
    if not remembering:
        monkeypatch.setattr(Remembered, "LARGEST", 0)
    monkeypatch.setattr(attack, "frozen", lambda given: given)
    x, y = images(50, 2)
    outcome = autoattack(network, x, y, eps=EPS, seed=3, batch=16)
    network.requires_grad_(False)
    x_adv, answer = by_its_own_cascade(network, x, y, short)
    network.requires_grad_(True)
    robust = torch.tensor([by == "" for by in outcome.broken_by])
    assert torch.equal(robust, answer == y)
    assert 5 < robust.sum() < 45
    assert torch.equal(outcome.x_adv, x_adv)
    assert len(set(outcome.broken_by)) >= 3


def test_frozen_network_gives_the_same_outcomes(network, short, monkeypatch):
    x, y = images(50, 2)
    fast = autoattack(network, x, y, eps=EPS, seed=3, batch=16)
    monkeypatch.setattr(attack, "frozen", lambda given: given)
    assert autoattack(network, x, y, eps=EPS, seed=3, batch=16).broken_by == fast.broken_by


def test_outcomes_are_what_the_network_says(network, short):
    x, y = images(50, 4)
    outcome = autoattack(network, x, y, eps=EPS, seed=3, batch=50)
    with torch.no_grad():
        clean, attacked = network(x).argmax(1), network(outcome.x_adv).argmax(1)
    assert outcome.clean_prediction == clean.tolist()
    for i, by in enumerate(outcome.broken_by):
        assert (by == "clean") == (clean[i] != y[i]).item()
        assert (by == "") == (attacked[i] == y[i]).item()
    assert (outcome.x_adv - x).abs().max() <= EPS + 1e-6
    assert set(outcome.seconds) == {"apgd-ce", "apgd-t", "fab-t", "square"}


def test_weights_and_mode_are_restored(network, short):
    network.train()
    x, y = images(10, 5)
    autoattack(network, x, y, eps=EPS, seed=0, batch=10)
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    network.eval()


# ---------------------------------------------------------------- images that pass at once
class Witness(nn.Module):
    """A network that notes how many images pass it at once, forward and backward."""

    def __init__(self, network):
        super().__init__()
        self.network, self.seen, self.returned = network, [], []

    def forward(self, x):
        self.seen.append(len(x))
        z = self.network(x)
        if z.requires_grad:
            z.register_hook(lambda g: self.returned.append(len(g)))
        return z


def test_parts_give_the_same_gradient_and_keep_no_more_than_one(network):
    x, _ = images(10, 7)
    x.requires_grad_(True)
    witness = Witness(network)
    whole = network(x)
    assert torch.allclose(whole, InParts(witness, 4)(x), atol=1e-6)
    aim = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    (expected,) = torch.autograd.grad(whole, x, aim)
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda v: kept.append(v) or v, lambda v: v)
    with hooks:
        InParts(network, 4)(x)
    assert sum(v.numel() for v in kept) <= x.numel()  # images, but no activations
    parts = InParts(witness, 4)(x)
    for _ in range(2):  # as FAB, which goes back once for each class
        (found,) = torch.autograd.grad(parts, x, aim, retain_graph=True)
        assert torch.allclose(found, expected, atol=1e-6)
    assert max(witness.seen) == 4


def test_outcomes_do_not_depend_on_the_micro_batch(network, short, monkeypatch):
    monkeypatch.setattr(attack, "frozen", lambda given: given)
    x, y = images(30, 2)
    options = {"eps": EPS, "seed": 3, "batch": 12}
    whole = autoattack(network, x, y, **options)
    assert len(set(whole.broken_by)) >= 3
    for size in (5, 11):
        witness = Witness(network)
        found = autoattack(witness, x, y, micro_batch=size, **options)
        assert max(witness.seen) == max(witness.returned) == size
        assert found.broken_by == whole.broken_by
        assert found.clean_prediction == whole.clean_prediction
        assert found.warnings == whole.warnings
    assert autoattack(network, x, y, micro_batch=12, **options).broken_by == whole.broken_by


def test_a_micro_batch_of_none():
    with pytest.raises(InputError, match="micro_batch: is 0"):
        autoattack(
            Flat(), torch.rand(1, 1, 4, 4), torch.zeros(1), eps=0.1, seed=0, batch=1, micro_batch=0
        )


class Flat(nn.Module):
    """A network without a gradient, whose first pixel decides."""

    def forward(self, x):
        v = x.flatten(1)[:, :1].round(decimals=1)
        return torch.cat([v, 0.55 - v, v * 0, v * 0, v * 0], dim=1)


def test_warnings_are_collected_and_stay_off_the_terminal(short, caplog):
    x = torch.full((4, 1, 4, 4), 0.6)
    with caplog.at_level(logging.WARNING):
        outcome = autoattack(
            Flat(), x, torch.zeros(4, dtype=torch.int64), eps=0.15, seed=0, batch=4
        )
    assert any("zero gradient" in text for text in outcome.warnings)
    assert not caplog.records


def test_no_image_left_to_attack(network, short):
    x, _ = images(5, 6)
    with torch.no_grad():
        wrong = (network(x).argmax(1) + 1) % 5
    assert autoattack(network, x, wrong, eps=EPS, seed=0, batch=5).broken_by == ["clean"] * 5


def test_identity_names_what_decides_an_outcome():
    found = identity(
        norm="Linf", eps="8/255", seed=1, version="standard", shard=500, batch=250, classes=10
    )
    assert found["attacks"] == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert found["eps"] == "8/255"
    assert found["package"].startswith("pyautoattack 0")


def test_iterations_are_those_that_pyautoattack_runs():
    from pyautoattack import AutoAttack

    made = AutoAttack(Flat(), norm="Linf", eps=0.1, seed=0, version="standard", device="cpu")
    found = identity(
        norm="Linf", eps="8/255", seed=1, version="worst", shard=500, batch=250, classes=10
    )
    assert found["iterations"] == {
        "apgd-ce": made.apgd.n_iter,
        "apgd-t": made.apgd_targeted.n_iter,
        "fab-t": made.fab.n_iter,
        "square": made.square.n_queries,
        "apgd-ce-restarts": found["budget"]["apgd_steps"],
        "apgd-dlr-restarts": found["budget"]["apgd_steps"],
        "mt": found["budget"]["mt_steps"],
    }


def test_unknown_version():
    with pytest.raises(InputError, match="plus"):
        autoattack(
            Flat(), torch.rand(1, 1, 4, 4), torch.zeros(1), eps=0.1, seed=0, batch=1, version="plus"
        )


# ---------------------------------------------------------------- AA+MT
SHORT = {"apgd_restarts": 2, "apgd_steps": 15, "mt_restarts": 1, "mt_steps": 15}


def test_aa_mt_restarts_are_autoattack_s_own_bit_for_bit(network, monkeypatch):
    """pyautoattack's default of five restarts of 100 steps, which its own versions override."""
    import pyautoattack

    monkeypatch.setattr(attack, "frozen", lambda given: given)
    monkeypatch.setitem(attack.VERSIONS, "aa+mt", versions.AA_MT[:2])
    monkeypatch.setattr(attack, "_budget", lambda *_: dict(attack.BUDGET))
    x, y = images(8, 2)
    outcome = autoattack(network, x, y, eps=0.05, seed=3, batch=5, version="aa+mt")
    network.requires_grad_(False)
    # the cascade is given what is right, in the batches that it makes of them
    adversary = pyautoattack.AutoAttack(
        network, version="custom", attacks=["apgd-ce", "apgd-dlr"], eps=0.05, seed=3
    )
    adversary.verbose = False
    x_adv, answer = adversary.run_standard_evaluation(x, y, batch_size=5)
    network.requires_grad_(True)
    assert torch.equal(torch.tensor([by == "" for by in outcome.broken_by]), answer == y)
    assert torch.equal(outcome.x_adv, x_adv)
    assert 0 < (answer == y).sum() < 8
    assert list(outcome.seconds) == ["apgd-ce-restarts", "apgd-dlr-restarts"]


def test_the_budget_is_spent_as_stated(network, short, monkeypatch):
    seen = {}

    def standard_evaluation(self, x, y, *, batch_size):
        (name,) = self.attacks_to_run
        seen.setdefault(name, []).append((self.apgd.n_restarts, self.apgd.n_iter))
        # a fifth of the steps, as AutoPGD plans its first checkpoint when it is built
        seen.setdefault("checkpoint", []).append(self.apgd.n_iter_2)
        return x, y

    def targeted(function, x, y, **settings):
        seen["mt"] = settings
        return x, torch.zeros_like(y, dtype=torch.bool)

    monkeypatch.setattr(short, "run_standard_evaluation", standard_evaluation)
    monkeypatch.setattr(attack, "multi_targeted", targeted)
    x, y = images(10, 2)
    budget = {"apgd_restarts": 3, "apgd_steps": 50, "mt_restarts": 4, "mt_steps": 7}
    autoattack(network, x, y, eps=EPS, seed=3, batch=5, version="worst", budget=budget)
    assert seen["apgd-ce"] == [(1, 12), (3, 50)]
    assert seen["apgd-dlr"] == [(3, 50)]
    assert seen["checkpoint"][-1] == 11
    assert seen["mt"].pop("finished")
    assert seen["mt"] == {"restarts": 4, "steps": 7, "eps": EPS, "seed": 3, "batch": 5}


def test_worst_is_the_union_and_leaves_the_standard_part_as_it_is(network, short):
    x, y = images(50, 2)
    options = {"eps": EPS, "seed": 3, "batch": 16}
    standard = autoattack(network, x, y, **options)
    worst = autoattack(network, x, y, **options, version="worst", budget=SHORT)
    for one, other in zip(standard.broken_by, worst.broken_by, strict=True):
        assert other == one or (one == "" and other in versions.AA_MT)
    assert list(worst.seconds) == [*versions.STANDARD, *versions.AA_MT]
    assert attack.identity(
        norm="Linf", eps="1/9", seed=3, version="worst", shard=1, batch=1, classes=10
    )["attacks"] == list(worst.seconds)


def test_mt_breaks_what_the_others_left(network, short, monkeypatch):
    """Where AutoPGD does nothing, every image lost is lost to 'mt', and the network says so."""
    monkeypatch.setattr(short, "run_standard_evaluation", lambda self, x, y, batch_size: (x, y))
    x, y = images(50, 4)
    outcome = autoattack(network, x, y, eps=EPS, seed=3, batch=20, version="aa+mt", budget=SHORT)
    assert set(outcome.broken_by) == {"", "clean", "mt"}
    with torch.no_grad():
        attacked = network(outcome.x_adv).argmax(1)
    assert [by == "" for by in outcome.broken_by] == (attacked == y).tolist()
    assert (outcome.x_adv - x).abs().max() <= EPS + 1e-6
    assert not outcome.warnings


def test_identity_states_what_different_versions_run():
    shared = {"norm": "Linf", "eps": "8/255", "seed": 1, "shard": 500, "batch": 250}
    shared |= {"classes": 10}
    standard = identity(version="standard", **shared)
    assert "budget" not in standard
    found = identity(version="aa+mt", **shared)
    assert found["attacks"] == ["apgd-ce-restarts", "apgd-dlr-restarts", "mt"]
    assert found["budget"] == {
        "apgd_restarts": 5,
        "apgd_steps": 100,
        "mt_restarts": 10,
        "mt_steps": 200,
    }
    fewer = identity(version="aa+mt", **shared, budget={"mt_steps": 20})
    assert fewer["budget"] == found["budget"] | {"mt_steps": 20}


@pytest.mark.parametrize(
    ("version", "budget", "said"),
    [
        ("standard", {"mt_steps": 5}, "has no budget"),
        ("aa+mt", {"mt_step": 5}, "'mt_step': unknown"),
        ("worst", {"mt_steps": 0}, "mt_steps: is 0"),
    ],
)
def test_budgets_that_cannot_be(version, budget, said):
    with pytest.raises(InputError, match=said):
        identity(
            norm="Linf",
            eps="1/9",
            seed=0,
            version=version,
            shard=1,
            batch=1,
            classes=10,
            budget=budget,
        )


def test_aa_mt_is_for_linf(network):
    x, y = images(2, 0)
    with pytest.raises(InputError, match="L2"):
        autoattack(network, x, y, eps=EPS, seed=0, batch=2, norm="L2", version="aa+mt")


# ---------------------------------------------------------------- memory
class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return x.flatten(1)[:, :3] * 2


def test_memory_gives_the_network_s_answers_and_asks_once(monkeypatch):
    monkeypatch.setattr(Remembered, "CAPACITY", 64)
    counted = Counted()
    remembered = Remembered(counted)
    generator = torch.Generator().manual_seed(0)
    pool = torch.rand(40, 1, 2, 2, generator=generator)
    for _ in range(5):
        x = pool[torch.randint(40, (30,), generator=generator)]
        assert torch.equal(remembered(x), x.flatten(1)[:, :3] * 2)
    assert counted.seen <= 5 * 30
    counted.seen = 0
    remembered(pool)
    first = counted.seen
    remembered(pool)
    assert counted.seen == first
    # over capacity: forgets, and stays right
    for _ in range(5):
        x = torch.rand(30, 1, 2, 2, generator=generator)
        assert torch.equal(remembered(x), x.flatten(1)[:, :3] * 2)
    assert len(remembered._rows) <= 64


def test_memory_tells_images_apart_by_one_bit():
    x = torch.full((1, 1, 2, 2), 0.5)
    other = x.clone()
    other[0, 0, 1, 1] = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0))
    remembered = Remembered(nn.Flatten())
    assert torch.equal(remembered(x), x.flatten(1))
    assert torch.equal(remembered(other), other.flatten(1))
