"""Seconds that an image takes in each kind of work, measured briefly on this machine.

Each kind runs the library's own functions on random images, so that what they do beside the
network's passes is measured, too.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional as F

from contrastdp.attack.autoattack import ITERATIONS, InParts, Remembered
from contrastdp.attack.early_stopped import EarlyStopped, early_stopped_pgd
from contrastdp.attack.pgd import PGD, accuracies, margin_gradient
from contrastdp.cost.flops import arguments, basic_passes, build, flops_per_image, output
from contrastdp.cost.workload import Work, canonical
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.diffusion.training import train_denoiser
from contrastdp.guidance.build import build_guidance, kind_of
from contrastdp.guidance.protocol import GUIDANCES
from contrastdp.networks.build import frozen
from contrastdp.networks.classifier import Classifier
from contrastdp.networks.execution import autocast, training_pass
from contrastdp.synthesis.scoring import gradient_norm
from contrastdp.training.classifier import train_classifier_network
from contrastdp.training.losses import LOSSES, TrainingLoss, loss_named
from contrastdp.training.robust import accumulate_gradient

Timed = tuple[Callable[[], Any], int]
EPS = 1e-3  # small, so that few images break and leave an attack early
LARGEST = 2**35  # FLOPs of a timed call where a smaller batch makes it so
TINY = PGD(eps=EPS, step_size=EPS / 4, steps=1)


class _Subject:
    """A network with random images and labels of its own, on a device."""

    def __init__(self, work: Work, batch: int, device: torch.device):
        self.settings, self.options = json.loads(work.model), json.loads(work.options)
        self.batch, self.device = batch, device
        torch.manual_seed(0)
        self.network = build(work.model).to(device).eval()
        given = arguments(work.model, batch, device)
        self.given = (torch.rand_like(given[0]), *given[1:])
        self.x = self.given[0]
        self.y = torch.arange(batch, device=device) % (self.settings["classes"] or 1)

    @property
    def precision(self) -> str:
        return self.options.get("precision", "float32")

    @property
    def micro_batch(self) -> int:
        """Images that pass at once."""
        return min(self.options.get("micro_batch", self.batch), self.batch)

    def frozen(self) -> torch.nn.Module:
        """The network as an attack sees it."""
        self.network.requires_grad_(False)
        seen = frozen(self.network)
        if self.micro_batch < self.batch:
            seen = InParts(seen, self.micro_batch)
        with torch.no_grad():
            self.y = seen(self.x).argmax(dim=1)
        return seen


# ---------------------------------------------------------------- one function a kind
def _forward(s: _Subject) -> Timed:
    pieces = [slice(low, low + s.micro_batch) for low in range(0, s.batch, s.micro_batch)]
    parts = [tuple(None if v is None else v[piece] for v in s.given) for piece in pieces]

    def call() -> None:
        with torch.no_grad(), autocast(s.device, s.precision):
            for part in parts:
                output(s.network, part)

    return call, s.batch


def _classifier_step(s: _Subject, steps: int = 40) -> Timed:
    network = {
        k: v for k, v in s.settings.items() if k not in ("channels", "classes", "image_size")
    }

    def call() -> None:
        train_classifier_network(
            *(s.x, s.y),
            network=network,
            classes=s.settings["classes"],
            steps=steps,
            batch=s.batch,
            learning_rate=1e-3,
            weight_decay=0.01,
            shift=1,
            seed=0,
        )

    return call, s.batch * steps


def _time_classifier_step(s: _Subject) -> Timed:
    """Of images that are right at every step, the most that an attack costs."""
    steps = s.options["attack_steps"]
    attack = EarlyStopped(norm="L2", eps=EPS, steps=steps, step_size="eps/6")
    network, (x, t) = s.network.train(), s.given
    y = network(x, t).argmax(dim=1)
    stepping = torch.optim.AdamW(network.parameters(), lr=1e-4, foreach=True)

    def call() -> None:
        stepping.zero_grad(set_to_none=True)
        attacked = early_stopped_pgd(network, x, t, y, attack)
        F.cross_entropy(network(attacked.x, t), y).backward()
        stepping.step()

    return call, s.batch


def _diffusion_step(s: _Subject, steps: int = 40) -> Timed:
    settings: dict[str, Any] = {"steps": steps, "batch": s.batch, "micro_batch": s.micro_batch}
    settings |= {"learning_rate": 1e-4, "warmup": 0, "clip_norm": 1.0, "averaging": 0.999}
    settings |= {"shift": 0, "precision": s.precision}
    abar = SubsequenceScheduler().alphas_cumprod

    def call() -> None:
        stream = torch.Generator().manual_seed(0)
        label = s.given[2]
        list(train_denoiser(s.network, s.x, label, abar=abar, generator=stream, **settings))

    return call, s.batch * steps


def _robust_step(loss: TrainingLoss) -> Callable[[_Subject], Timed]:
    # what a step takes does not depend on a setting's value
    more: dict[str, Any] = {name: 1.0 for name, needed in loss.settings.items() if needed}

    def timed(s: _Subject) -> Timed:
        network = s.network.train()
        trained = training_pass(network, precision=s.precision, compiled=None)
        stepping = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
        start, attack = torch.rand_like(s.x), replace(TINY, steps=s.options["attack_steps"])
        more["micro_batch"] = s.micro_batch

        def call() -> None:
            stepping.zero_grad(set_to_none=True)
            accumulate_gradient(loss.function, trained, s.x, s.y, attack, start, **more)
            stepping.step()

        return call, s.batch

    return timed


def _validation(s: _Subject) -> Timed:
    steps = s.options["attack_steps"]

    def call() -> None:
        attack = replace(TINY, steps=steps, generator=torch.Generator().manual_seed(0))
        accuracies(s.network, s.x, s.y, attack, s.batch)

    return call, s.batch


def _guide(s: _Subject) -> Timed:
    loss = s.options.get("loss", "classifier")
    assert isinstance(s.network, Classifier)
    fields = GUIDANCES.takes(kind_of(loss))
    s.network.requires_grad_(False)
    settings: dict[str, Any] = {"loss": loss, "lambda": 1.0}
    settings |= {"precision": s.precision, "micro_batch": s.micro_batch}
    if "classifier" in fields:
        settings["classifier"] = s.network
    if "abar" in fields:
        settings["abar"] = lambda timestep: 0.5
    if "head" in fields:
        settings |= {"tau": 1.0, "head": s.options.get("head", 0)}
    guidance = build_guidance(s.network.features, **settings)
    guidance.start(list(range(s.batch)), [3, 2, 1])
    guidance(s.x, 3)
    return lambda: guidance(s.x, 2), s.batch


def _attack_step(s: _Subject, steps: int = 10) -> Timed:
    network = s.frozen()
    attack = replace(TINY, steps=steps, start=torch.rand_like(s.x))
    return lambda: attack(network, s.x, margin_gradient(s.y)), s.batch * steps


def _gradient_norm(s: _Subject) -> Timed:
    return lambda: gradient_norm(s.network, s.x, s.y), s.batch


def _apgd(s: _Subject, steps: int = 10) -> Timed:
    from pyautoattack.autopgd_base import APGDAttack

    common = {"norm": "Linf", "eps": EPS, "n_iter": steps, "seed": 0, "device": s.device}
    attack = APGDAttack(s.frozen(), loss="ce", **common)
    return lambda: attack.perturb(s.x, s.y), s.batch * steps


def _fab(s: _Subject, steps: int = 10) -> Timed:
    from pyautoattack.fab_pt import FABAttack_PT

    common = {"norm": "Linf", "eps": EPS, "n_iter": steps, "seed": 0, "device": s.device}
    attack = FABAttack_PT(s.frozen(), targeted=True, n_target_classes=1, **common)
    return lambda: attack.perturb(s.x, s.y), s.batch * steps


def _square(s: _Subject) -> Timed:
    from pyautoattack.square import SquareAttack

    # What Remembered spares depends on the number of queries of an image: all, of fewer images.
    small = s.x[0].numel() <= Remembered.LARGEST and s.device.type == "cpu"
    queries = ITERATIONS["square"] if small else REPEATED["square"]
    if small:
        s.x, s.batch = s.x[:FEW], min(s.batch, FEW)
    network = s.frozen()

    def call() -> None:
        seen = Remembered(network) if small else network
        common = {"norm": "Linf", "eps": EPS, "seed": 0, "device": s.device}
        SquareAttack(seen, n_queries=queries, resc_schedule=True, **common).perturb(s.x, s.y)

    return call, s.batch * queries


TIMED: dict[str, Callable[[_Subject], Timed]] = {
    "forward": _forward,
    "denoise": _forward,
    "classifier_step": _classifier_step,
    "diffusion_step": _diffusion_step,
    "time_classifier_step": _time_classifier_step,
    "validation": _validation,
    "guide": _guide,
    "gradient_norm": _gradient_norm,
    "attack_step": _attack_step,
    "apgd": _apgd,
    "fab": _fab,
    "square": _square,
}
TIMED |= {f"{name}_step": _robust_step(loss_named(name)) for name in LOSSES}
REPEATED = {"classifier_step": 40, "diffusion_step": 40, "apgd": 10, "fab": 10, "attack_step": 10}
REPEATED |= {"square": 100}
FEW = 100


# ---------------------------------------------------------------- measuring
def clock(device: torch.device) -> float:
    """Processor seconds on a CPU, which other work disturbs little; elapsed ones on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def measure_one(work: Work, device: torch.device, seconds: float = 0.5) -> dict[str, Any] | None:
    """An entry: seconds and FLOPs per image, batch; None where one image is too much.

    On a CPU the batch is cut where a call would be more than LARGEST operations.
    """
    each = flops_per_image(work.kind, work.model, work.options)
    batch = work.batch
    if device.type == "cpu":
        batch = min(batch, LARGEST // (each * REPEATED.get(work.kind, 1)))
        if batch < (2 if work.kind == "guide" else 1):
            return None
    call, images = TIMED[work.kind](_Subject(work, batch, device))
    call()
    taken: list[float] = []
    while not taken or (sum(taken) < seconds and len(taken) < 50):
        began = clock(device)
        call()
        taken.append(clock(device) - began)
    return {
        "kind": work.kind,
        "model": json.loads(work.model),
        "options": json.loads(work.options),
        "batch": batch,
        "flops": each,
        "parameters": basic_passes(work.model)["parameters"],
        "seconds": min(taken) / images,  # what else runs on the machine slows the others
    }


def measure(works: Iterable[Work], device: torch.device, seconds: float = 0.5) -> list[dict]:
    """Entries of the works' kinds, models, batches and options, each measured once."""
    different = {work.key: work for work in works}
    found = (measure_one(work, device, seconds) for work in different.values())
    return [entry for entry in found if entry is not None]


def fastest(old: Iterable[dict[str, Any]], new: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries of two measurements of one machine, of equal work the faster one.

    Other work on a machine can only slow a measurement, even in processor time.
    """
    best: dict[str, dict[str, Any]] = {}
    for entry in [*old, *new]:
        key = canonical({name: entry[name] for name in ("kind", "model", "options", "batch")})
        if key not in best or entry["seconds"] < best[key]["seconds"]:
            best[key] = entry
    return list(best.values())
