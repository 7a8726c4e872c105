"""AutoAttack (Croce & Hein 2020) and AA+MT image by image: which attack broke which image.

AA+MT is the evaluation of Gowal et al. (2020, arXiv 2010.03593) and of the paper's first version
and ablations ('worst of AutoAttack and AA+MT'): AutoPGD on the cross entropy with 5 restarts of 100
steps, AutoPGD on the difference of logits ratio with 5 restarts of 100 steps, and MultiTargeted on
the margin with 10 restarts of 200 steps. These counts were not looked up in that paper's text.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from contrastdp.attack import few_classes
from contrastdp.attack.multi_targeted import multi_targeted
from contrastdp.attack.versions import AA_MT, MISCLASSIFIED, ROBUST, VERSIONS, is_broken
from contrastdp.errors import InputError
from contrastdp.jobs.resume import Finished, Resume
from contrastdp.networks.build import frozen

TARGETS = 9
# Steps of each restart or target, for Square queries, as pyautoattack's 'standard' has them.
ITERATIONS = {"apgd-ce": 100, "apgd-t": 100, "fab-t": 100, "square": 5000}
# ASSUME: of AA+MT, the official code has nothing, and Gowal et al. (2020) no released code.
# Restarts and steps are what is commonly said of it, not looked up in that paper's text.
BUDGET = {"apgd_restarts": 5, "apgd_steps": 100, "mt_restarts": 10, "mt_steps": 200}


@dataclass
class Outcome:
    """clean_prediction: (N,) int64; broken_by: '' robust, 'clean', or the first attack's name."""

    clean_prediction: list[int]
    broken_by: list[str]
    x_adv: torch.Tensor
    seconds: dict[str, float]
    warnings: list[str]


def identity(
    *,
    norm: str,
    eps: str,
    seed: int,
    version: str,
    shard: int,
    batch: int,
    classes: int,
    budget: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """What makes two attacks the same one, as every shard states it.

    budget: of AA+MT, as autoattack says; AutoAttack's own is part of its version. iterations: of
    each attack, steps in each restart or target (Square: queries). losses: of attacks that have
    another one with so few classes.
    """
    spent = _budget(version, budget)
    own = {name: spent["mt_steps" if name == "mt" else "apgd_steps"] for name in AA_MT if spent}
    named = {
        "version": version,
        "attacks": list(_attacks(version)),
        "iterations": {name: (ITERATIONS | own)[name] for name in _attacks(version)},
        "norm": norm,
        "eps": str(eps),
        "seed": seed,
        "shard_size": shard,
        "batch": batch,
        "precision": "float32",
        "package": f"pyautoattack {metadata.version('pyautoattack')}",
    }
    others = few_classes.losses(classes)
    replaced = {name: others[name] for name in _attacks(version) if name in others}
    named |= {"losses": replaced} if replaced else {}
    return named | ({"budget": spent} if spent else {})


def _attacks(version: str) -> tuple[str, ...]:
    if version not in VERSIONS:
        raise InputError(f"attack version '{version}': unknown; use {', '.join(VERSIONS)}")
    return VERSIONS[version]


def _budget(version: str, given: Mapping[str, int] | None) -> dict[str, int]:
    """Restarts and steps of AA+MT where the version runs it, else nothing."""
    for name, value in (given or {}).items():
        if name not in BUDGET:
            raise InputError(f"attack budget '{name}': unknown; known are {', '.join(BUDGET)}")
        if not isinstance(value, int) or value < 1:
            raise InputError(f"attack budget, {name}: is {value}, give a whole number from 1")
    if "mt" in _attacks(version):
        return BUDGET | dict(given or {})
    if given:
        raise InputError(f"attack version '{version}': has no budget; remove it or use aa+mt")
    return {}


class InParts(nn.Module):
    """A network through which at most `size` images pass at once, forward and backward.

    Where a gradient is asked for, a part's activations are computed again on the way back instead
    of being kept, so memory is that of `size` images and a step costs one more forward pass.
    """

    def __init__(self, network: nn.Module, size: int):
        super().__init__()
        self.network, self.size = network, size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of x (N, C, H, W)."""
        if len(x) <= self.size:
            return self.network(x)
        if not (x.requires_grad and torch.is_grad_enabled()):
            return torch.cat([self.network(part) for part in x.split(self.size)])
        again: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
        return torch.cat([checkpoint(self.network, part, **again) for part in x.split(self.size)])


class Remembered(nn.Module):
    """A network that looks up the logits of images that it has seen; no gradients.

    For Square, which proposes the same small images again and again: nine in ten of its 5,000
    queries at 8 x 8 pixels. Images are told apart by a 64-bit hash of all their bits; the memory
    is emptied when full, and for a batch of its own by `forget`.
    """

    LARGEST = 256  # values in an image, above which images hardly ever recur
    CAPACITY = 2**19

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self._rows: dict[int, int] = {}
        self._logits = torch.empty(0, 0)
        self._multipliers = torch.empty(0, dtype=torch.int64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of x (N, C, H, W)."""
        if len(x) > self.CAPACITY:
            return self.network(x)
        keys = self._keys(x)
        rows = [self._rows.get(key, -1) for key in keys]
        new = [place for place, row in enumerate(rows) if row < 0]
        if not new:
            return self._logits[rows]
        if len(self._rows) + len(new) > self.CAPACITY:
            self.forget()
            new = list(range(len(x)))
        logits = self.network(x[new])
        if self._logits.shape[1] != logits.shape[1]:
            self._logits = torch.empty(self.CAPACITY, logits.shape[1])
        for place in new:
            # an image that occurs twice in the batch takes one row
            rows[place] = self._rows.setdefault(keys[place], len(self._rows))
        self._logits[[rows[place] for place in new]] = logits
        return self._logits[rows]

    def forget(self) -> None:
        """Empty the memory."""
        self._rows.clear()

    def _keys(self, x: torch.Tensor) -> list[int]:
        bits = x.contiguous().flatten(1).view(torch.int32).long()  # (N, C H W)
        if self._multipliers.shape[0] != bits.shape[1]:
            stream = torch.Generator().manual_seed(0)
            odd = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=stream) * 2 + 1
            self._multipliers = odd
        return (bits * self._multipliers).sum(dim=1).tolist()


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """Collect what AutoAttack says in warning, and keep it off the terminal."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    # one function of one handler: a class of its own would say no more
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("auto-attack")
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def autoattack(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    eps: float,
    seed: int,
    batch: int,
    norm: str = "Linf",
    version: str = "standard",
    budget: Mapping[str, int] | None = None,
    micro_batch: int | None = None,
    resume: Resume | None = None,
) -> Outcome:
    """Run a version's attacks one after another, each on the images that are still robust.

    x: (N, C, H, W) in [0, 1]; y: (N,) int64. version: 'standard' (AutoAttack), 'aa+mt', or 'worst',
    the worst case over both; budget: what of BUDGET is not to be AA+MT's own, apgd_restarts and
    apgd_steps of its two AutoPGD attacks, mt_restarts (of each target) and mt_steps. batch: images
    that are attacked together and share random draws; micro_batch: images that pass the network at
    once, by default all of a batch, which changes nothing but float rounding. resume: where a
    killed run's finished batches are kept, each attack's.

    The attacks run one at a time, which gives what one run of AutoAttack's four gives, and says
    besides which attack broke an image first. The network is put in evaluation mode with frozen
    weights, and restored. With fewer than ten classes, AutoAttack's targeted attacks aim at all
    other classes; with fewer than four, some climb another loss (few_classes). Every image reported
    as broken is one that the network itself misclassifies within eps. Raises InputError for an
    unknown version or budget, a micro_batch below 1, and for AA+MT in another norm than Linf.
    """
    from pyautoattack import AutoAttack

    attacks, spent = _attacks(version), _budget(version, budget)
    if spent and norm != "Linf":
        raise InputError(f"attack version '{version}': is for the norm Linf, not {norm}")
    if micro_batch is not None and micro_batch < 1:
        raise InputError(f"attack micro_batch: is {micro_batch}, give a whole number from 1")
    training = network.training
    trained = [p for p in network.parameters() if p.requires_grad]
    network.eval().requires_grad_(False)
    function, plain = frozen(network), network
    if micro_batch:
        function, plain = InParts(function, micro_batch), InParts(network, micro_batch)
    try:
        with _collected_warnings() as warnings:
            adversary = AutoAttack(
                function, norm=norm, eps=eps, seed=seed, version="standard", device=x.device
            )
            if not x.is_cuda and x[0].numel() <= Remembered.LARGEST:
                adversary.square.predict = Remembered(function)
            run = _Run(adversary, batch, spent, Finished(resume), warnings)
            outcome = _cascade(run, plain, x, y, attacks)
            _check_adversarial(plain, x, y, outcome, eps)
    finally:
        network.train(training)
        for parameter in trained:
            parameter.requires_grad_(True)
    return outcome


@dataclass
class _Run:
    """What the attacks of one cascade share."""

    adversary: Any
    batch: int
    budget: Mapping[str, int]
    finished: Finished
    warnings: list[str]


def _cascade(
    run: _Run,
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    attacks: tuple[str, ...],
) -> Outcome:
    adversary = run.adversary
    adversary.verbose = False
    with torch.no_grad():
        logits = torch.cat([network(part) for part in x.split(run.batch)])
    targets = min(TARGETS, logits.shape[1] - 1)
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = targets
    few_classes.fit(adversary.apgd_targeted, logits.shape[1])
    prediction = logits.argmax(dim=1)
    broken_by = [ROBUST if right else MISCLASSIFIED for right in (prediction == y).tolist()]
    left = (prediction == y).nonzero().squeeze(1)
    x_adv, seconds = x.clone(), {}

    for name in attacks:
        start = run.finished.clock()
        if len(left):
            found, lost = _attack(run, name, x[left], y[left], logits.shape[1])
            for index in left[lost].tolist():
                broken_by[index] = name
            x_adv[left[lost]] = found[lost]
            left = left[~lost]
        seconds[name] = round(run.finished.clock() - start, 3)
    said = sorted({text for text in run.warnings if not few_classes.is_told(text)})
    return Outcome(prediction.tolist(), broken_by, x_adv, seconds, said)


def _attack(
    run: _Run, name: str, x: torch.Tensor, y: torch.Tensor, classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One attack of the cascade: attacked images, and which of them are lost (N,) bool."""
    adversary, budget = run.adversary, run.budget
    if name == "mt":
        spent = {"restarts": budget["mt_restarts"], "steps": budget["mt_steps"]}
        shared = {"eps": adversary.epsilon, "seed": adversary.seed, "batch": run.batch}
        return multi_targeted(adversary.model, x, y, **shared, **spent, finished=run.finished)
    if name in AA_MT:
        # a new object: AutoPGD derives its checkpoints from the number of steps when it is built
        apgd = type(adversary.apgd)(
            adversary.model,
            n_restarts=budget["apgd_restarts"],
            n_iter=budget["apgd_steps"],
            norm=adversary.norm,
            eps=adversary.epsilon,
            rho=adversary.apgd.thr_decr,
            seed=adversary.seed,
            device=adversary.device,
            logger=adversary.logger,
        )
        adversary.apgd = few_classes.fit(apgd, classes)
    own = name.removesuffix("-restarts")
    parts = {"apgd-t": adversary.apgd_targeted, "fab-t": adversary.fab, "square": adversary.square}
    adversary.attacks_to_run = [own]
    with _batches_through(run, parts.get(own, adversary.apgd), name):
        found, answer = adversary.run_standard_evaluation(x, y, batch_size=run.batch)
    return found, answer != y


@contextmanager
def _batches_through(run: _Run, part: Any, name: str) -> Iterator[None]:
    """Within, what `part` of AutoAttack makes of a batch comes from, or goes to, run.finished."""
    perturb = part.perturb

    def batch(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, list[str]]:
        before = len(run.warnings)
        if isinstance(memory := getattr(part, "predict", None), Remembered):
            memory.forget()  # else the rounding of a batch would depend on those before it
        return perturb(x, y), run.warnings[before:]

    def known(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x_adv, said = run.finished(name, batch, x, y)
        run.warnings.extend(said)  # those of a new batch twice, which their set does not show
        return x_adv.to(x.device)

    part.perturb = known
    try:
        yield
    finally:
        part.perturb = perturb


def _check_adversarial(network: nn.Module, x, y, outcome: Outcome, eps: float) -> None:
    broken = torch.tensor([is_broken(by) for by in outcome.broken_by], device=x.device)
    if not broken.any():
        return
    found = outcome.x_adv[broken]
    inside = (found - x[broken]).abs().max() <= eps * (1 + 1e-4) + 1e-6
    inside = bool(inside and found.min() >= 0 and found.max() <= 1)
    with torch.no_grad():
        fooled = network(found).argmax(dim=1) != y[broken]
    if not inside:
        raise RuntimeError("an attacked image left the ball or the pixel range")
    if not fooled.all():
        outcome.warnings.append(
            f"{int((~fooled).sum())} images counted as broken lie on the decision boundary: the "
            "network classifies them correctly in another batch"
        )
