"""Settings that fit the schema one by one and not together: refused before any job.

Each check knows resolved settings alone, so it holds for every layer and cell that they come from.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any

from contrastdp.attack.versions import VERSIONS
from contrastdp.errors import InputError
from contrastdp.guidance import reads
from contrastdp.networks.levels import check_levels
from contrastdp.plan.settings import choose, validate
from contrastdp.registry import declared

Settings = Mapping[str, Any]
# what TimeUNet takes where the settings leave it out
TIME_UNET = {"head_size": 64, "groups": 32}
# architectures of h(x_t, t), and settings that belong to the training of one alone
TIME_DEPENDENT = {"time_unet"}
OF_TIME = ("anneal_steps", "attack", "validation_attack", "micro_batch")
# what UNet2DModel takes where the settings leave it out
UNET: Settings = {
    "down_block_types": ["DownBlock2D", *["AttnDownBlock2D"] * 3],
    "up_block_types": [*["AttnUpBlock2D"] * 3, "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "norm_num_groups": 32,
    "attention_head_dim": 8,
    "add_attention": True,
}


# ---------------------------------------------------------------- a data set
def training_images(dataset: str, sizes: Settings) -> int:
    """How many images the training split has at most, by its size or by what the data set has."""
    if sizes["train"] is not None:
        return sizes["train"]
    return declared("data", "READERS")[dataset].about["training"] - sizes["validation"]


def check_dataset(dataset: str, settings: Settings, definitions: Settings, where: str) -> None:
    """Raise InputError where a data set's resolved settings do not go together.

    definitions: the schema's; where: what to name.
    """
    _check_data(dataset, settings, where)
    _check_attack(settings["attack"], f"{where}, attack")
    sampling = settings["sampling"]
    if sampling["shard"] % sampling["batch"]:
        raise InputError(
            f"{where}: sampling.shard {sampling['shard']} is no multiple of sampling.batch "
            f"{sampling['batch']}; a shard holds whole guidance batches"
        )
    asked, has = settings["training"].get("validation_images", 1), settings["sizes"]["validation"]
    if asked > has:
        raise InputError(
            f"{where}: training.validation_images is {asked}; the validation split has {has}"
        )
    images, side = training_images(dataset, settings["sizes"]), settings["image_size"]
    for name, own in settings["classifiers"].items():
        place = f"{where}, classifiers.{name}.network"
        _check_network(own["network"], settings, definitions["networks"], definitions, place)
        _check_batches(own, images, side, f"{where}, classifiers.{name}")
        _check_classifier(own, f"{where}, classifiers.{name}")
    place = f"{where}, training.network"
    network = settings["training"]["network"]
    if takes_t(settings["training"]):
        raise InputError(
            f"{place}: {network['architecture']} takes noisy images and t; a robust training has "
            "images, so name another architecture"
        )
    _check_network(network, settings, definitions["networks"], definitions, place)
    for name, own in settings["denoisers"].items():
        _check_batches(own["training"], images, side, f"{where}, denoisers.{name}.training")
        if own["training"]["warmup"] > own["training"]["steps"]:
            raise InputError(
                f"{where}, denoisers.{name}.training: warmup is {own['training']['warmup']}, of "
                f"{own['training']['steps']} steps; lower it"
            )
        if "pretrained" not in own:
            place = f"{where}, denoisers.{name}.network"
            _check_denoiser(own["network"], settings, definitions, place)
    for name, own in settings["samplers"].items():
        check_sampler(own, settings, f"{where}, samplers.{name}")
    for name, own in settings["guidances"].items():
        check_guidance({"loss": name, **own}, settings, f"{where}, guidances.{name}")
    for name, own in settings["trainers"].items():
        _check_trainer(own, f"{where}, trainers.{name}")
    shown = settings["report"]["samples"]
    if shown > settings["sampling"]["shard"]:
        raise InputError(
            f"{where}: report.samples is {shown}; the grid shows images of one shard, and "
            f"sampling.shard is {settings['sampling']['shard']}"
        )
    for section, names in (("selection", ("labeler", "encoder")), ("labelling", ("classifier",))):
        for name in names:
            place = f"{where}, {section}.{name}"
            choose_classifier(settings[section][name], settings, place)
    for name in ("labeler", "encoder"):
        choose_classifier(name, settings, f"{where}, quality")
    quality, test = settings["quality"], settings["sizes"]["test"]
    check_measured(min(quality["images"], test), quality, f"{where}, quality.images")


def _check_data(dataset: str, settings: Settings, where: str) -> None:
    """What a data set says of itself against what its reader knows of it."""
    known = declared("data", "READERS")
    reader = known[choose(dataset, known, "loader of a data set", where)]
    for name in ("classes", "image_size", "channels"):
        if settings[name] != reader.about[name]:
            raise InputError(
                f"{where}: {name} is {settings[name]}; the images of '{dataset}' have "
                f"{reader.about[name]}"
            )
    if settings["archives"].keys() != set(reader.takes):
        raise InputError(
            f"{where}: archives are {', '.join(sorted(settings['archives'])) or 'none'}; its "
            f"loader reads {', '.join(sorted(reader.takes)) or 'none'}"
        )
    sizes = settings["sizes"]
    if "together" in reader.about:
        if sizes["train"] is None:
            raise InputError(f"{where}: sizes.train is null; give it a number")
        parts: dict[str, tuple[str, ...]] = {"together": ("train", "validation", "test")}
    else:
        parts = {"training": ("train", "validation"), "test": ("test",)}
    for part, names in parts.items():
        asked, has = [sizes[name] or 1 for name in names], reader.about[part]
        if sum(asked) > has:
            raise InputError(
                f"{where}: sizes of {' + '.join(names)} are {' + '.join(map(str, asked))}; "
                f"'{dataset}' has {has} images for them"
            )


def _check_batches(training: Settings, images: int, side: int, where: str) -> None:
    """A training's batch against the images that there are, and its moves against their side."""
    if training["batch"] > images:
        raise InputError(
            f"{where}: batch is {training['batch']}; there are {images} images, so choose at most "
            "that"
        )
    if training["shift"] >= side:
        raise InputError(
            f"{where}: shift is {training['shift']}; it must be below the image's side, {side}"
        )


# ---------------------------------------------------------------- classifiers of x_t and t
def takes_t(own: Settings) -> bool:
    """Whether a classifier, or a training's network, is time-dependent."""
    return own["network"]["architecture"] in TIME_DEPENDENT


def choose_classifier(name: str, settings: Settings, where: str, *, with_t: bool = False) -> str:
    """`name`, a classifier of the data set, or an InputError; with_t: it may be time-dependent."""
    known = settings["classifiers"]
    choose(name, known, "classifier", where)
    if takes_t(known[name]) and not with_t:
        raise InputError(
            f"{where}: classifier '{name}' is time-dependent, and here it would see images without "
            "t; name another"
        )
    return name


def check_same_kind(settings: Settings, other: Settings, where: str) -> None:
    """Raise InputError where a classifier of two data sets is time-dependent in one of them alone.

    Its name says which rule trains it.
    """
    for name in settings["classifiers"].keys() & other["classifiers"].keys():
        if takes_t(settings["classifiers"][name]) != takes_t(other["classifiers"][name]):
            raise InputError(
                f"{where}: classifier '{name}' is time-dependent in one of them alone; give it "
                "another name there"
            )


def _check_classifier(own: Settings, where: str) -> None:
    """Settings of a time-dependent classifier's training against its network and one another."""
    if not takes_t(own):
        for name in OF_TIME:
            if name in own:
                raise InputError(
                    f"{where}: {name} is a setting of time-dependent classifiers, and "
                    f"{own['network']['architecture']} is none; remove it"
                )
    elif own.get("anneal_steps", own["steps"]) < own["steps"]:
        raise InputError(
            f"{where}: anneal_steps is {own['anneal_steps']}, of {own['steps']} steps; it must not "
            "be below them"
        )


def _check_trainer(trainer: Settings, where: str) -> None:
    if trainer["beta"] and "beta" not in declared("training", "LOSSES")[trainer["loss"]].takes:
        raise InputError(
            f"{where}: beta is {trainer['beta']}, and loss {trainer['loss']} has no use for one; "
            "write 0"
        )


def _check_attack(attack: Settings, where: str) -> None:
    first, ablations = VERSIONS[attack["version"]], attack["ablations"]
    if VERSIONS[ablations][: len(first)] != first:
        raise InputError(
            f"{where}.ablations: {ablations} does not begin with the attacks of version "
            f"{attack['version']}, whose tables hold some of the same arms; use worst"
        )
    if attack.get("budget") and "mt" not in VERSIONS[attack["version"]] + VERSIONS[ablations]:
        raise InputError(
            f"{where}.budget: neither version nor ablations spends it; remove it or use aa+mt"
        )


def check_measured(images: int, quality: Settings, where: str) -> None:
    """Raise InputError where too few images are measured for quality's groups and neighbours."""
    least = max(2 * quality["groups"], quality["neighbours"] + 2)
    if images < least:
        raise InputError(
            f"{where}: {images} images are measured; {quality['groups']} groups and "
            f"{quality['neighbours']} neighbours need {least}"
        )


# ---------------------------------------------------------------- networks
def _check_sizes(network: Settings, known: Settings, definitions: Settings, where: str) -> None:
    """A network's sizes against those that the schema gives its architecture."""
    own = known[choose(network["architecture"], known, "architecture", where)]
    properties = {"architecture": {"type": "string"}, **own["properties"]}
    whole = {"$defs": definitions, "type": "object", "additionalProperties": False}
    validate(network, whole | own | {"properties": properties}, where)


def _check_network(
    network: Settings, settings: Settings, known: Settings, definitions: Settings, where: str
) -> None:
    _check_sizes(network, known, definitions, where)
    channels, side = settings["channels"], settings["image_size"]
    for name in ("mean", "std"):
        if len(network.get(name, range(channels))) != channels:
            raise InputError(f"{where}.{name} is {network[name]}; write {channels} numbers")
    if network["architecture"] == "wide_resnet" and network["depth"] % 6 != 4:
        raise InputError(f"{where}.depth is {network['depth']}; make it 10, 16, 22, 28 and so on")
    if network["architecture"] == "mnist_cnn" and side < 16:
        raise InputError(f"{where}: mnist_cnn needs images of 16 pixels a side, these have {side}")
    if network["architecture"] == "time_unet":
        sizes = {name: network[name] for name in network if name not in ("architecture", "depth")}
        check_levels(where, image_size=side, **{**TIME_UNET, **sizes})


def _check_denoiser(
    network: Settings, settings: Settings, definitions: Settings, where: str
) -> None:
    _check_sizes(network, definitions["noise_predictors"], definitions, where)
    if network["architecture"] == "small_denoiser":
        patch, groups = network.get("patch", 1), network.get("groups", 8)
        if settings["image_size"] % (2 * patch):
            raise InputError(
                f"{where}.patch is {patch}; twice that must divide the image's side, "
                f"{settings['image_size']}"
            )
        for name in ("width", "inner"):
            if network.get(name, groups) % groups:
                raise InputError(
                    f"{where}.{name} is {network[name]}; make it a multiple of groups, {groups}"
                )
    if network["architecture"] == "unet2d":
        _check_blocks({**UNET, **network}, where)


def _check_blocks(network: Settings, where: str) -> None:
    """Raise InputError where a UNet2DModel's lists differ in length, or do not divide as they must.

    GroupNorm's groups divide all channels, the heads of attention those of the levels that attend.
    """
    lists = ("down_block_types", "up_block_types", "block_out_channels")
    down, up, channels = (network[name] for name in lists)
    if not len(down) == len(up) == len(channels):
        raise InputError(f"{where}: {', '.join(lists)} differ in length; give each block to all")
    attending = [
        width
        for width, *blocks in zip(channels, down, reversed(up), strict=True)
        if any(block.startswith("Attn") for block in blocks)
    ]
    if network["add_attention"]:
        attending.append(channels[-1])
    for name, widths in (("norm_num_groups", channels), ("attention_head_dim", attending)):
        size = network[name]
        if size is not None and (bad := [width for width in widths if width % size]):
            raise InputError(
                f"{where}.{name} is {size}, which does not divide {bad[0]}, one of "
                "block_out_channels; correct one of them"
            )


# ---------------------------------------------------------------- a generator
def check_sampler(sampler: Settings, settings: Settings, where: str) -> None:
    """Raise InputError where a sampler's chain does not fit the data set's noise schedule."""
    total, chain = settings["noise_schedule"]["num_train_timesteps"], sampler.get("timesteps")
    if chain is None:
        if sampler["steps"] > total:
            raise InputError(f"{where}: steps is {sampler['steps']}; choose 1 to {total}")
    elif chain[0] >= total or any(a <= b for a, b in pairwise(chain)):
        raise InputError(f"{where}: timesteps must fall strictly and lie below {total}; correct it")


def check_scale_of_labels(sampler: Settings, denoiser: Settings, where: str) -> None:
    """Raise InputError where classifier-free guidance lacks a label for 'no class'."""
    scale = sampler.get("guidance_scale", 1.0)
    if scale != 1.0 and not (denoiser["conditional"] and "pretrained" in denoiser):
        raise InputError(
            f"{where}: guidance_scale is {scale}, and the denoiser has no label for 'no class'; "
            "use 1, or a pretrained conditional denoiser that has one"
        )


def check_guidance(guidance: Settings, settings: Settings, where: str) -> None:
    """Raise InputError where a guidance's settings are of another loss, missing or out of range."""
    loss = choose(guidance["loss"], reads.kinds(), "loss of a guidance", where)
    known, required = reads.takes(loss)
    for name in guidance:
        if name not in known:
            raise InputError(f"{where}: {name} is no setting of guidance '{loss}'; clear the cell")
    if missing := sorted(required - guidance.keys()):
        raise InputError(f"{where}: guidance has no {missing[0]}; add it to its defaults")
    if "pairs" in guidance:
        choose(guidance["pairs"], declared("guidance", "PAIRS"), "pairs", where)
    for name in sorted(reads.NAMED.keys() & guidance.keys()):
        choose_classifier(guidance[name], settings, where, with_t=name == "classifier")
    if guidance["window_low"] > guidance["window_high"]:
        raise InputError(f"{where}: window_low is above window_high; exchange them")
    total = settings["noise_schedule"]["num_train_timesteps"]
    for name, most in (("window_low", total - 1), ("window_high", total)):
        if guidance[name] > most:
            raise InputError(f"{where}: {name} is {guidance[name]}; choose at most {most}")
    if guidance.get("target", 0) >= settings["classes"]:
        raise InputError(
            f"{where}: target is {guidance['target']}; classes are 0 to {settings['classes'] - 1}"
        )


# ---------------------------------------------------------------- an arm
def check_training(
    training: Settings, loss: str, *, mixed: bool, images: int, side: int, where: str
) -> None:
    """Raise InputError where the resolved settings of a robust training do not go together.

    loss: of its trainer; mixed: whether it has both real and synthetic images; images: how many
    there are, of which a batch holds no more; side: theirs, in pixels.
    """
    _check_batches(training, images, side, where)
    if training["validate_every"] > training["steps"]:
        raise InputError(
            f"{where}: validate_every is {training['validate_every']}, of {training['steps']} "
            "steps; lower it"
        )
    if training.get("cutmix") and not declared("training", "LOSSES")[loss].about.get(
        "mixed_labels", True
    ):
        raise InputError(
            f"{where}: cutmix mixes labels, but loss {loss} needs one class an image; set it to 0"
        )
    share, batch = training["synthetic_share"], training["batch"]
    if mixed and share != "pooled" and not 0 < math.floor(batch * share + 1e-4) < batch:
        raise InputError(
            f"{where}: synthetic_share {share} of a batch of {batch} leaves no room for both real "
            "and synthetic images; choose another"
        )
    cycle = training.get("schedule", "cosine") == "one_cycle"
    epochs = math.ceil(training["steps"] / training.get("epoch_steps", 1))
    if cycle and epochs < 2:
        raise InputError(f"{where}: schedule one_cycle needs 2 epochs or more, here is {epochs}")
    if training.get("cycle_momentum") and not cycle:
        raise InputError(f"{where}: cycle_momentum needs schedule one_cycle; set one of the two")
    if training.get("cutmix") and not training["averaging"]:
        raise InputError(
            f"{where}: cutmix helps averaged weights alone; set averaging above 0, or cutmix 0"
        )


def check_step(threat: Settings, where: str) -> None:
    """Raise InputError where a step, scaled with an arm's own eps, leaves the range."""
    if not 0 < Fraction(threat["step_size"]) < 1:
        raise InputError(
            f"{where}: eps {threat['eps']} makes step_size {threat['step_size']}; it must lie "
            "inside (0, 1), so lower threat.step_size or eps"
        )
