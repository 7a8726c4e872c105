"""Registries that meet: everything that the schema allows runs, tiny and for a step or two."""

from itertools import product

import pytest
import torch
from flat_training import train_flat
from generator_files import HNM, write_generator
from torch.nn import functional as F

from contrastdp.attack import early_stopped, versions
from contrastdp.attack.autoattack import autoattack
from contrastdp.attack.pgd import PGD, cross_entropy_gradient
from contrastdp.diffusion.denoisers import build_denoiser, save_denoiser
from contrastdp.diffusion.schedulers import LEARNED, SPACINGS, VARIANCES, SubsequenceScheduler
from contrastdp.errors import InputError
from contrastdp.guidance import reads
from contrastdp.guidance.contrast import PAIRS
from contrastdp.guidance.protocol import DIRECTIONS, ENCODER_INPUTS, SEEN
from contrastdp.networks.averaging import STATISTICS
from contrastdp.networks.build import ARCHITECTURES, build_network
from contrastdp.networks.execution import PRECISIONS
from contrastdp.networks.mnist_cnn import MnistCNN
from contrastdp.networks.small_cnn import FrozenSmallCNN
from contrastdp.synthesis.scoring import RULES, gradient_norm, scorer
from contrastdp.synthesis.shard import shard_images
from contrastdp.training.losses import LOSSES
from contrastdp.training.time_classifier import train_time_classifier_network

NORMED = {"mean": [0.5], "std": [0.25]}
SIZES = {
    "mnist_cnn": {},
    "preact_resnet": {"width": 1, **NORMED},
    "small_cnn": {"width": 2, "features": 4},
    "wide_resnet": {"depth": 10, "width": 1, **NORMED},
}
# Networks of x_t and t
TIMED = {"time_unet": {"width": 4, "depth": 1, "multipliers": [1, 2], "attention": [8]}}
TIMED["time_unet"] |= {"head_size": 4, "groups": 2}
CLASSES, SIDE = 4, 16
BRANCHES = ("cpu", "as on a GPU", *(["cuda"] if torch.cuda.is_available() else []))


def network_of(name, seed=0):
    of_data = {"channels": 1, "classes": CLASSES, "image_size": SIDE}
    return build_network(name, **of_data, **SIZES[name], seed=seed).eval()


def images(n, seed=0):
    x = torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return x, torch.arange(n) % CLASSES


@pytest.fixture(params=BRANCHES)
def place(request, monkeypatch):
    """A device, or the processor where networks take the branch that they have for GPUs."""
    if request.param == "as on a GPU":
        monkeypatch.setattr(MnistCNN, "by_layers", True)
        monkeypatch.setattr(FrozenSmallCNN, "LARGEST", 0)
    return torch.device("cuda" if request.param == "cuda" else "cpu")


def test_every_network_has_sizes_here():
    timed = {name for name, built in ARCHITECTURES.items() if built.time_dependent}
    assert timed == TIMED.keys()
    assert SIZES.keys() == ARCHITECTURES.keys() - timed


# ---------------------------------------------------------------- networks and selection rules
@pytest.mark.parametrize(("rule", "name"), [*product(RULES, SIZES)])
def test_every_rule_scores_by_every_network(rule, name, place):
    x, y = (part.to(place) for part in images(8))
    network = network_of(name).to(place)
    attack = PGD(eps=0.1, step_size=0.05, steps=2, generator=torch.Generator().manual_seed(0))
    given = {"labeler": network, "encoder": network, "real": (x, y), "attack": attack}
    score = scorer(rule, **given)(x[:5], y[:5])
    assert score.shape == (5,)
    assert score.isfinite().all()


@pytest.mark.parametrize("name", SIZES)
def test_gradient_norms_are_those_of_one_image_after_another(name, place):
    x, y = (part.to(place) for part in images(3))
    network = network_of(name).to(place)
    slow = []
    for image, label in zip(x, y, strict=True):
        loss = F.cross_entropy(network(image[None]), label[None])
        gradients = torch.autograd.grad(loss, [*network.parameters()])
        slow.append(sum(g.square().sum() for g in gradients).sqrt())
    assert torch.allclose(gradient_norm(network, x, y), torch.stack(slow), rtol=1e-3, atol=1e-6)


# ---------------------------------------------------------------- networks of t and attacks
@pytest.mark.parametrize(
    ("name", "norm", "step_size"), [*product(TIMED, early_stopped.NORMS, early_stopped.STEP_SIZES)]
)
def test_every_network_of_t_trains_against_every_attack(name, norm, step_size):
    x, y = images(8)
    found = train_time_classifier_network(
        *(x, y),
        abar=torch.linspace(0.99, 0.01, 10),
        network={"architecture": name, **TIMED[name]},
        attack=early_stopped.EarlyStopped(norm=norm, eps=0.5, steps=2, step_size=step_size),
        classes=CLASSES,
        steps=2,
        batch=4,
        micro_batch=2,
        shift=1,
        seed=0,
        learning_rate=0.01,
        weight_decay=0.01,
    )
    assert found.passes > 0
    logits = found.network(x, torch.arange(8))
    assert logits.shape == (8, CLASSES)
    assert logits.isfinite().all()


# ---------------------------------------------------------------- networks, trainers, precisions
TRAINING = {"eps": 0.1, "step_size": 0.05, "attack_steps": 1, "beta": 1.0, "label_smoothing": 0.1}
TRAINING |= {"steps": 2, "batch": 4, "synthetic_share": 0.5, "learning_rate": 0.01, "shift": 1}
TRAINING |= {"momentum": 0.9, "weight_decay": 1e-4, "warmup": 0.1, "averaging": 0.9, "flip": True}
TRAINING |= {"validate_every": 2, "validation_steps": 1, "statistics_batches": 2}


@pytest.mark.parametrize(
    ("name", "loss", "precision", "channels_last"),
    [*product(SIZES, LOSSES, PRECISIONS, (False, True))],
)
def test_every_network_is_trained_in_every_way(name, loss, precision, channels_last):
    given = {"real": images(6), "synthetic": images(6, 1), "validation": images(4, 2)}
    passes = {"precision": precision, "channels_last": channels_last}
    network = {"architecture": name, **SIZES[name]}
    found = train_flat(network, **given, **TRAINING, **passes, loss=loss, classes=CLASSES, seed=0)
    assert all(p.isfinite().all() for p in found.last.parameters())


@pytest.mark.parametrize(
    ("name", "statistics", "micro_batch", "undecayed"),
    [*product(SIZES, STATISTICS, (None, 3), ("none", "norm_and_bias"))],
)
def test_every_network_is_averaged_in_every_way(name, statistics, micro_batch, undecayed):
    given = {"real": images(6), "synthetic": images(6, 1), "validation": images(4, 2)}
    more = {"averaged_statistics": statistics, "micro_batch": micro_batch, "loss": "trades"}
    more |= {"undecayed": undecayed, "cutmix": 1.0, "first_norm_momentum": 1.0}
    network = {"architecture": name, **SIZES[name]}
    found = train_flat(network, **given, **TRAINING | more, classes=CLASSES, seed=0)
    assert all(p.isfinite().all() for p in found.last.parameters())


# ---------------------------------------------------------------- networks and attacks
@pytest.fixture
def brief(monkeypatch):
    """AutoAttack of few steps and queries."""
    import pyautoattack

    class Short(pyautoattack.AutoAttack):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            self.square.n_queries = 3
            for part in (self.apgd, self.apgd_targeted, self.fab):
                part.n_iter = 2

    monkeypatch.setattr(pyautoattack, "AutoAttack", Short)


@pytest.mark.parametrize(("name", "micro_batch"), [*product(SIZES, (None, 1))])
def test_every_network_is_attacked_by_every_version(name, micro_batch, place, brief):
    x = images(3)[0].to(place)
    network = network_of(name).to(place)
    y = network(x).argmax(1)
    budget = {"apgd_restarts": 1, "apgd_steps": 2, "mt_restarts": 1, "mt_steps": 1}
    given = {"eps": 0.01, "seed": 0, "batch": 2, "micro_batch": micro_batch}
    found = autoattack(network, x, y, **given, version="worst", budget=budget)
    assert list(found.seconds) == list(versions.VERSIONS["worst"])


@pytest.mark.parametrize("name", SIZES)
def test_an_attack_is_the_same_on_both_branches(name, place):
    x, y = (part.to(place) for part in images(3))
    network = network_of(name)
    start = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    attack = PGD(eps=0.1, step_size=0.02, steps=1, start=start)
    here = attack(network.to(place), x, cross_entropy_gradient(y))
    again = attack(network.cpu(), x.cpu(), cross_entropy_gradient(y.cpu()))
    assert ((here.cpu() - again).abs() < 1e-5).float().mean() > 0.99  # signs of tiny gradients


# ---------------------------------------------------------------- samplers, guidances, denoisers
@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """Files of small denoisers, and of UNet2DModels, with and without classes."""
    folder = write_generator(tmp_path_factory.mktemp("generator"))
    sizes = {"block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4}
    sizes |= {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    for name, classes in (("unet", None), ("conditional_unet", 3)):
        unet = build_denoiser("unet2d", image_size=8, channels=1, classes=classes, **sizes)
        save_denoiser(folder / name, unet, SubsequenceScheduler(clip_sample=False))
    return folder


DENOISERS = ("unconditional", "conditional", "unet", "conditional_unet")
SETTINGS = {"hnm": {"tau_plus": 0.1, "beta": 1.0, "clamp": True}, "infonce": {}}
SAMPLERS = [
    {"steps": 2, "spacing": spacing, "eta": eta, "variance_type": variance}
    for spacing, eta, variance in product(SPACINGS, (0.0, 1.0), VARIANCES)
    if variance != LEARNED  # of denoisers that learn one, in test_learned_variance.py
]


def guidances():
    for loss in (kind for kind in reads.kinds() if kind != "sum"):  # of these, in test_sum.py
        known, required = reads.takes(loss)
        contrastive = {"tau": 1.0, **SETTINGS.get(loss, {})} if "pairs" in required else {}
        pairs = PAIRS if "pairs" in required else [None]
        ways = product(pairs, SEEN, ENCODER_INPUTS, DIRECTIONS, (0, 3))
        for number, (pair, at, view, direction, head) in enumerate(ways):
            found = {"loss": loss, "lambda": 5.0, "window_low": 0, "window_high": 1000}
            found |= {"at": at, "encoder_input": view, "direction": direction} | contrastive
            found |= {"pairs": pair, "head": head} if pair else {"noise_factor": head > 0}
            found |= {"clip": 0.5} if number % 2 else {}
            yield {name: value for name, value in found.items() if name in known}


EVERY = [None, *guidances()]


@pytest.mark.parametrize("part", range(4))
def test_every_guidance_is_sampled(generator, part):
    """Every guidance; denoisers, samplers, precisions and layouts in turn."""
    for number, guidance in list(enumerate(EVERY))[part::4]:
        denoiser = DENOISERS[number // 4 % 4]
        conditional = denoiser.startswith("conditional")
        needed = reads.networks(guidance, conditional=conditional) if guidance else {}
        real = guidance is not None and "real" in reads.compared(guidance)
        execution = [{}, {"precision": "bfloat16"}, {"channels_last": True}, {"micro_batch": 3}]
        try:
            found = shard_images(
                denoiser=str(generator / denoiser),
                encoder=str(generator / "encoder.safetensors") if "encoder" in needed else None,
                labeler=str(generator / "labeler.safetensors") if "labeler" in needed else None,
                train=str(generator / "train.npz") if real else None,
                sampler=SAMPLERS[number % len(SAMPLERS)],
                guidance=guidance,
                shape=(1, 8, 8),
                classes=3,
                real=12,
                start=0,
                stop=4,
                batch=4,
                seed=0,
                execution=execution[number % 4],
                device="cpu",
            )
        except InputError as error:  # of an untrained labeler, which no setting mends
            assert "labeler" in needed and "sees one class alone" in str(error), guidance
            continue
        assert found["image"].shape == (4, 8, 8, 1), guidance
        sizes = found["guidance_size"]
        assert (guidance is None) or (sizes > 0).any(), guidance


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("denoiser", DENOISERS)
def test_every_sampler_runs_every_denoiser(generator, denoiser, sampler):
    shared = {"encoder": str(generator / "encoder.safetensors"), "labeler": None, "train": None}
    shared |= {"shape": (1, 8, 8), "classes": 3, "real": 12, "start": 0, "stop": 4, "batch": 4}
    for guidance in (None, {**HNM, "tau_plus": 0.1, "beta": 1.0}):
        found = shard_images(
            denoiser=str(generator / denoiser),
            sampler=sampler,
            guidance=guidance,
            **shared,
            seed=0,
            device="cpu",
        )
        assert found["image"].shape == (4, 8, 8, 1)
