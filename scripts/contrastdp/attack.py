"""AutoAttack (Croce & Hein 2020) image by image: which of its four attacks broke which image."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import nn

from contrastdp.networks import frozen
from contrastdp.records import InputError

STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
TARGETS = 9


@dataclass
class Outcome:
    """clean_prediction: (N,) int64; broken_by: '' robust, 'clean', or the attack's name."""

    clean_prediction: list[int]
    broken_by: list[str]
    x_adv: torch.Tensor
    seconds: dict[str, float]
    warnings: list[str]


def identity(
    *, norm: str, eps: str, seed: int, version: str, shard: int, batch: int
) -> dict[str, Any]:
    """What makes two attacks the same one, as every shard states it."""
    return {
        "version": version,
        "attacks": list(STANDARD),
        "norm": norm,
        "eps": str(eps),
        "seed": seed,
        "shard_size": shard,
        "batch": batch,
        "precision": "float32",
        "package": f"pyautoattack {metadata.version('pyautoattack')}",
    }


class Remembered(nn.Module):
    """A network that looks up the logits of images that it has seen; no gradients.

    For Square, which proposes the same small images again and again: nine in ten of its 5,000
    queries at 8 x 8 pixels. Images are told apart by a 64-bit hash of all their bits; the memory
    is emptied when full.
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
            self._rows.clear()
            new = list(range(len(x)))
        logits = self.network(x[new])
        if self._logits.shape[1] != logits.shape[1]:
            self._logits = torch.empty(self.CAPACITY, logits.shape[1])
        for place in new:
            # an image that occurs twice in the batch takes one row
            rows[place] = self._rows.setdefault(keys[place], len(self._rows))
        self._logits[[rows[place] for place in new]] = logits
        return self._logits[rows]

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
    handler.emit = lambda record: messages.append(record.getMessage())
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
) -> Outcome:
    """Run AutoAttack's standard cascade, each attack on the images that are still robust.

    x: (N, C, H, W) in [0, 1]; y: (N,) int64. The four attacks run one at a time, which gives what
    one run of all four gives, and says besides which attack broke an image first. The network is
    put in evaluation mode with frozen weights, and restored. With fewer than ten classes, the
    targeted attacks aim at all other classes. Every image reported as broken is one that the
    network itself misclassifies within eps.
    """
    from pyautoattack import AutoAttack

    if version != "standard":
        raise InputError(f"attack version '{version}': unknown; use standard")
    training = network.training
    trained = [p for p in network.parameters() if p.requires_grad]
    network.eval().requires_grad_(False)
    function = frozen(network)
    try:
        with _collected_warnings() as warnings:
            adversary = AutoAttack(
                function, norm=norm, eps=eps, seed=seed, version=version, device=x.device
            )
            if not x.is_cuda and x[0].numel() <= Remembered.LARGEST:
                adversary.square.predict = Remembered(function)
            outcome = _cascade(adversary, network, x, y, batch, warnings)
    finally:
        network.train(training)
        for parameter in trained:
            parameter.requires_grad_(True)
    _check_adversarial(network, x, y, outcome, eps)
    return outcome


def _cascade(adversary: Any, network: nn.Module, x, y, batch: int, warnings: list[str]) -> Outcome:
    adversary.verbose = False
    with torch.no_grad():
        logits = torch.cat([network(part) for part in x.split(batch)])
    targets = min(TARGETS, logits.shape[1] - 1)
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = targets
    prediction = logits.argmax(dim=1)
    broken_by = ["" if right else "clean" for right in (prediction == y).tolist()]
    left = (prediction == y).nonzero().squeeze(1)
    x_adv, seconds, accuracy = x.clone(), {}, {}

    for name in STANDARD:
        start = time.monotonic()
        if len(left):
            adversary.attacks_to_run = [name]
            found, answer = adversary.run_standard_evaluation(x[left], y[left], batch_size=batch)
            lost = answer != y[left]
            for index in left[lost].tolist():
                broken_by[index] = name
            x_adv[left[lost]] = found[lost]
            left = left[~lost]
        seconds[name] = round(time.monotonic() - start, 3)
        accuracy[name] = len(left) / len(y)

    # AutoAttack's own sign of masked gradients, which it checks only where all attacks run at once
    drop = accuracy["fab-t"] - accuracy["square"]
    if drop > 0.002:
        warnings.append(
            f"Square lowered robust accuracy by {drop:.2%} after the gradient attacks, which hints "
            "at masked gradients"
        )
    return Outcome(prediction.tolist(), broken_by, x_adv, seconds, sorted(set(warnings)))


def _check_adversarial(network: nn.Module, x, y, outcome: Outcome, eps: float) -> None:
    broken = torch.tensor([by in STANDARD for by in outcome.broken_by], device=x.device)
    if not broken.any():
        return
    found = outcome.x_adv[broken]
    inside = (found - x[broken]).abs().max() <= eps * (1 + 1e-4) + 1e-6
    inside = bool(inside and found.min() >= 0 and found.max() <= 1)
    mode = network.training
    with torch.no_grad():
        fooled = network.eval()(found).argmax(dim=1) != y[broken]
    network.train(mode)
    if not inside:
        raise RuntimeError("an attacked image left the ball or the pixel range")
    if not fooled.all():
        outcome.warnings.append(
            f"{int((~fooled).sum())} images counted as broken lie on the decision boundary: the "
            "network classifies them correctly in another batch"
        )
