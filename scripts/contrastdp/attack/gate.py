"""The gate before an attack: faults that would make a robust accuracy wrong or hollow, by name.

A fault of the evaluation stops the attack; a property of the network that weakens gradient attacks
is a warning, which stays with the result. After the checklist of Carlini et al. (2019, arXiv
1902.06705) and the flags of AutoAttack (Croce & Hein 2020).

Stops:
  training-mode          a module is in training mode
  not-float32            weights, images or logits are not float32
  autocast               autocast is on, or logits have no more digits than bfloat16 or float16
  tf32                   the device's matrix products or convolutions may round to TF32 or bfloat16
  not-finite             NaN or infinity among images, logits or gradients
  pixel-range            images leave [0, 1]
  outside-normalisation  images look standardised: the network's own code must do that
  softmax-outputs        outputs are probabilities, which saturate, and not logits
  stochastic             repeated passes differ
  batch-dependence       an image's logits depend on the images beside it
  zero-gradients         no image has a gradient, though logits differ between images
  quantised-input        logits are constant on small steps of x, and there is no gradient

Warns:
  quantised-input        the same with a gradient, which is then not that of the function
  zero-gradients         some images have no gradient at all
  scaled-logits          the cross entropy has no gradient on some images, the margin has one: large
                         logits saturate the softmax in float32
  constant-logits        the network says the same, or nearly so, of every image: robust, useless
  outside-normalisation  labels are met far more often on standardised or rescaled images, which
                         hints at a network that was trained on those
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from contrastdp.attack.pgd import attacking, cross_entropy_gradient, margin_gradient
from contrastdp.errors import InputError
from contrastdp.streams import generator

ROUNDING = 1e-4  # of the largest logit: far above what the order of sums changes in float32
TOLERATED = 0.01  # share of images that may lack a gradient
QUANTISED = 0.25  # share of images: of a quantised network, some cross an edge with any step
REACH = 8 / 255  # a step that crosses an edge of any common quantisation
ALIKE = 0.05  # of the distance between the largest and the smallest logit
GAIN = 0.1  # of accuracy
PASSES, AT_ONCE, ALONE = 4, 64, 4  # repeated passes, their images, images seen in other company


class GateError(InputError):
    """A network or its images that must not be attacked; `names`: of what the gate found."""

    def __init__(self, names: Sequence[str], says: str):
        super().__init__(says)
        self.names = list(names)


@dataclass(frozen=True)
class Finding:
    """name: as in the module's list; says: one line, without numbers that differ between shards;
    stops: error or warning; images, of: on how many of the images looked at, None where that means
    nothing."""

    name: str
    says: str
    stops: bool = True
    images: int | None = None
    of: int | None = None


# ---------------------------------------------------------------- the arithmetic of an evaluation
@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Evaluate in float32, the same each time: TF32 off, and cuDNN's deterministic algorithms.

    cuDNN's convolutions use TF32 unless told otherwise. What was set before is restored. Without
    effect on the processor, whose numbers it leaves as they are.
    """
    cudnn, matmul = torch.backends.cudnn, torch.get_float32_matmul_precision()
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = False, True, False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before


def rounded_parts(device: str) -> list[str]:
    """What may round to TF32 or bfloat16 on a kind of device ('cpu' or 'cuda'), as torch is set."""
    backends: Any = torch.backends
    parts = {
        "cpu": {"mkldnn.matmul": backends.mkldnn.matmul, "mkldnn.conv": backends.mkldnn.conv},
        "cuda": {"cuda.matmul": backends.cuda.matmul, "cudnn.conv": backends.cudnn.conv},
    }
    return [n for n, part in parts[device].items() if part.fp32_precision in ("tf32", "bf16")]


# ---------------------------------------------------------------- the gate
def check_network(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, *, batch: int, seed: int = 0
) -> list[dict[str, Any]]:
    """The warnings of inspect_network as JSON holds them: name, says, images, of.

    Raises GateError in one line with all faults that stop.
    """
    findings = inspect_network(network, x, y, batch=batch, seed=seed)
    faults = [finding for finding in findings if finding.stops]
    if faults:
        told = "; ".join(f"{fault.name}: {fault.says}" for fault in faults)
        raise GateError([fault.name for fault in faults], f"gate before the attack: {told}")
    return [{"name": f.name, "says": f.says, "images": f.images, "of": f.of} for f in findings]


def inspect_network(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    batch: int,
    images: int = 256,
    seed: int = 0,
) -> list[Finding]:
    """What speaks against attacking a network on x, in the order of the module's list.

    x: (N, C, H, W), of which the first `images` are looked at, `batch` at a time; y: (N,) int64.
    Nothing that depends on labels stops, for an honest network may be a bad one. Later checks are
    left out where an earlier one stops, because they would only find the same fault again. The
    network's mode and weights are left alone, and torch's own random stream is not drawn from.
    A network that answers a check with an exception of its own raises it.
    """
    seen = _Subject(network, x[:images].detach(), y[:images], batch, seed)
    findings: list[Finding] = []
    for check in (_settings, _outputs, _gradients, _labels):
        findings += check(seen)
        if any(finding.stops for finding in findings):
            break
    return findings


@dataclass(frozen=True)
class _Subject:
    network: nn.Module
    x: torch.Tensor
    y: torch.Tensor
    batch: int
    seed: int

    @torch.no_grad()
    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.network(part) for part in x.split(self.batch)])

    def uniform(self, shape: torch.Size, purpose: str) -> torch.Tensor:
        """Draws from [-1, 1], the same on every device."""
        draws = torch.rand(shape, generator=generator(self.seed, "gate", purpose))
        return (2 * draws - 1).to(self.x.device)


# ---------------------------------------------------------------- mode, precision, pixels
def _settings(seen: _Subject) -> list[Finding]:
    network, x, device = seen.network, seen.x, seen.x.device.type
    found = []
    if any(module.training for module in network.modules()):
        found.append(Finding("training-mode", "the network is in training mode; call eval()"))
    tensors = [x, *network.parameters(), *network.buffers()]
    odd = {str(t.dtype) for t in tensors if t.is_floating_point() and t.dtype != torch.float32}
    if odd or not x.is_floating_point():
        odd = odd or {str(x.dtype)}
        found.append(
            Finding("not-float32", f"weights or images are {min(odd)}; convert them to float32")
        )
    if torch.is_autocast_enabled(device):
        found.append(Finding("autocast", "autocast is on; attack outside of it"))
    rounded = rounded_parts(device)
    if rounded:
        said = f"{' and '.join(rounded)} may round their input; attack within exact_arithmetic()"
        found.append(Finding("tf32", said))
    if not x.isfinite().all():
        return [*found, Finding("not-finite", "images hold NaN or infinity; make them again")]
    low, high = float(x.min()), float(x.max())
    if low < -0.25 and high < 10:
        said = "images look standardised; give them in [0, 1] and standardise inside the network"
        found.append(Finding("outside-normalisation", said))
    elif low < 0 or high > 1:
        said = f"pixels go from {low:g} to {high:g}; give them in [0, 1]"
        found.append(Finding("pixel-range", said))
    return found


# ---------------------------------------------------------------- logits
def _outputs(seen: _Subject) -> list[Finding]:
    z = seen.logits(seen.x)
    if z.dtype != torch.float32:
        return [Finding("not-float32", f"logits are {z.dtype}; evaluate in float32")]
    if not z.isfinite().all():
        return [Finding("not-finite", "logits hold NaN or infinity; train the network again")]
    found = []
    whole = torch.equal(z, z.round())  # classes or votes: left to the check of gradients
    coarse = any(torch.equal(z.to(kind).float(), z) for kind in (torch.bfloat16, torch.float16))
    if coarse and not whole and len(z.unique()) > 2 * z.shape[1]:
        said = (
            "logits have no more digits than bfloat16 or float16; turn autocast in the network off"
        )
        found.append(Finding("autocast", said))
    if not whole and (z >= 0).all() and ((z.sum(dim=1) - 1).abs() < ROUNDING).all():
        said = "outputs are probabilities; give the logits before the softmax"
        found.append(Finding("softmax-outputs", said))

    part = seen.x[:AT_ONCE]
    first = seen.logits(part)
    if any(_differ(first, seen.logits(part)) for _ in range(PASSES - 1)):
        said = "repeated passes differ; remove the randomness or use an attack made for it"
        return [*found, Finding("stochastic", said)]
    for image in seen.x[:ALONE]:
        # its own copy as company, for a single image may have no batch statistics
        alone, beside = (torch.stack([image, other]) for other in (image, 1 - image))
        if _differ(seen.logits(alone)[:1], seen.logits(beside)[:1]):
            said = "an image's logits depend on those beside it; normalise by running statistics"
            return [*found, Finding("batch-dependence", said)]
    return found


def _differ(z: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((z - other).abs().max() > ROUNDING * z.abs().max())


# ---------------------------------------------------------------- gradients
def _gradients(seen: _Subject) -> list[Finding]:
    margin, cross_entropy = (
        _gradient_size(seen, objective) for objective in (margin_gradient, cross_entropy_gradient)
    )
    if not (margin.isfinite().all() and cross_entropy.isfinite().all()):
        return [
            Finding("not-finite", "gradients hold NaN or infinity; gradient attacks would stall")
        ]
    found, flat, of = [], margin == 0, len(seen.x)
    quantised = _quantised(seen)
    if quantised > QUANTISED * of:
        said = "logits stay the same on small steps of x, but not on larger ones" + (
            ", and there is no gradient; attack the network before the quantisation"
            if flat.all()
            else ": its gradient is not that of the function"
        )
        found.append(Finding("quantised-input", said, bool(flat.all()), quantised, of))
    elif flat.all():
        if _constant(seen):
            said = "the network says the same, or nearly so, of every image"
            found.append(Finding("constant-logits", said, False))
        else:
            said = "no image has a gradient; remove what detaches or rounds inside the network"
            found.append(Finding("zero-gradients", said, True, of, of))
    elif flat.sum() > TOLERATED * of:
        said = "images have no gradient, so gradient attacks cannot move them"
        found.append(Finding("zero-gradients", said, False, int(flat.sum()), of))
    saturated = int(((cross_entropy == 0) & ~flat).sum())
    if saturated > TOLERATED * of:
        said = (
            "the cross entropy has no gradient where the margin has one: large logits saturate it"
        )
        found.append(Finding("scaled-logits", said, False, saturated, of))
    return found


def _gradient_size(
    seen: _Subject, objective: Callable[[torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]
) -> torch.Tensor:
    """The largest entry, without sign, of each image's gradient of an objective: (N,).

    The predicted class stands for the label, so that it does not matter whether that is right.
    """
    found = []
    with attacking(seen.network) as function:
        for part in seen.x.split(seen.batch):
            part = part.clone().requires_grad_()
            with torch.enable_grad():
                z = function(part)
            gradient = None
            if z.requires_grad:
                weights = objective(z.detach().argmax(dim=1))(z.detach())
                (gradient,) = torch.autograd.grad(z, part, weights, allow_unused=True)
            gradient = torch.zeros_like(part) if gradient is None else gradient
            found.append(gradient.detach().abs().flatten(1).amax(dim=1))
    return torch.cat(found)


def _quantised(seen: _Subject) -> int:
    """On how many images logits keep every bit under a tiny step, and change under a larger one."""
    x, values = seen.x, seen.x[0].numel()
    # A generic place inside a quantum of 1/255, where few pixels lie near an edge; a step that, at
    # this many levels, carries no pixel of about half the images over one, yet is several units in
    # the last place of a float32.
    x = (x + seen.uniform(x.shape, "place") / 510).clamp(0, 1)
    step = max(min(1e-5, 1 / (500 * values)), 3e-7)
    z = seen.logits(x)
    still = (seen.logits(x + step) == z).all(dim=1)
    if still.sum() <= QUANTISED * len(x):
        return 0
    far = seen.logits((x + REACH * seen.uniform(x.shape, "far")).clamp(0, 1))
    return int((still & (far != z).any(dim=1)).sum())


def _constant(seen: _Subject) -> bool:
    noise = (seen.uniform(seen.x.shape, "noise") + 1) / 2
    z = torch.cat([seen.logits(seen.x), seen.logits(noise)])
    alike = (z - z[0]).abs().max() <= ALIKE * (z[0].max() - z[0].min())
    return bool(alike and (z.argmax(dim=1) == z[0].argmax()).all())


# ---------------------------------------------------------------- labels
def _labels(seen: _Subject) -> list[Finding]:
    x, y = seen.x, seen.y
    mean, std = x.mean(dim=(0, 2, 3), keepdim=True), x.std(dim=(0, 2, 3), keepdim=True)
    rescaled = {
        "standardised": (x - mean) / std.clamp(min=1 / 255),
        "mapped to [-1, 1]": 2 * x - 1,
        "multiplied by 255": 255 * x,
    }
    right = seen.logits(x).argmax(dim=1) == y
    gains: dict[str, tuple[int, int]] = {}
    for how, images in rescaled.items():
        then = seen.logits(images).argmax(dim=1) == y
        gains[how] = int((then & ~right).sum()), int((right & ~then).sum())
    how = max(gains, key=lambda name: gains[name][0] - gains[name][1])
    gained, lost = gains[how]
    # McNemar's statistic, at four standard deviations
    if gained - lost <= max(GAIN * len(x), 4 * (gained + lost) ** 0.5):
        return []
    said = f"images are classified correctly only once {how}; was it trained on such images?"
    return [Finding("outside-normalisation", said, False, gained, len(x))]
