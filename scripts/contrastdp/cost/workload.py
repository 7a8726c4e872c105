"""What a job computes, as images that pass networks in the ways its algorithm says.

A job is a rule and its wildcards; the plan has every setting. Imports torch only in functions.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from contrastdp.attack.versions import VERSIONS
from contrastdp.guidance import reads
from contrastdp.plan.experiments import Plan
from contrastdp.registry import declared


@dataclass(frozen=True)
class Work:
    """`images` images through one pass of `kind`.

    kind: a key of contrastdp.cost.flops.PASSES. model: the network as JSON: its architecture and
    sizes, channels, classes, image_size. batch: images of a call. options: as JSON, what else the
    time of a pass depends on (precision, attack_steps, micro_batch, ...). robust: whether the
    images are those that an attack has not broken yet, whose number is not known beforehand;
    `images` then counts all.
    """

    kind: str
    model: str
    batch: int
    options: str
    images: float
    robust: bool = False

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What decides the time of an image."""
        return self.kind, self.model, self.batch, self.options


def canonical(value: Mapping[str, Any]) -> str:
    """A mapping as JSON with sorted keys, so that equal settings are equal text."""
    return json.dumps(value, sort_keys=True)


def works(rule: str, wildcards: Mapping[str, str], plan: Plan) -> list[Work]:
    """The passes of a job; none for a rule that runs no network of its own."""
    find = RULES.get(rule)
    return [work for work in find(plan, wildcards) if work.images > 0] if find else []


# ---------------------------------------------------------------- networks
def _shape(plan: Plan, dataset: str) -> dict[str, Any]:
    settings = plan.datasets[dataset]
    return {name: settings[name] for name in ("channels", "classes", "image_size")}


def _classifier(plan: Plan, dataset: str, classifier: str) -> str:
    network = plan.datasets[dataset]["classifiers"][classifier]["network"]
    return canonical(network | _shape(plan, dataset))


def _robust(plan: Plan, arm: str) -> str:
    return canonical(plan.training(arm)["network"] | _shape(plan, plan.arms[arm]["dataset"]))


def _denoiser(plan: Plan, dataset: str, denoiser: str) -> str:
    settings = plan.datasets[dataset]["denoisers"][denoiser]
    shape = _shape(plan, dataset)
    if not settings["conditional"]:
        shape["classes"] = None
    return canonical(settings["network"] | shape)


def _options(settings: Mapping[str, Any], *names: str, **more: Any) -> str:
    return canonical({name: settings[name] for name in names if name in settings} | more)


def _parts(settings: Mapping[str, Any], batch: int) -> dict[str, int]:
    """micro_batch, where the images of a batch do not pass at once."""
    size = settings.get("micro_batch")
    return {"micro_batch": size} if size and size < batch else {}


# ---------------------------------------------------------------- training
def _train_classifier(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    settings = plan.datasets[w["dataset"]]["classifiers"][w["classifier"]]
    model, batch = _classifier(plan, w["dataset"], w["classifier"]), settings["batch"]
    return [Work("classifier_step", model, batch, "{}", settings["steps"] * batch)]


def _train_time_classifier(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    # accuracy by band of t, at the end, is small beside it
    settings = plan.datasets[w["dataset"]]["classifiers"][w["classifier"]]
    model, batch = _classifier(plan, w["dataset"], w["classifier"]), settings["batch"]
    options = canonical({"attack_steps": settings.get("attack", {"steps": 0})["steps"]})
    return [Work("time_classifier_step", model, batch, options, settings["steps"] * batch)]


def _train_diffusion(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    own = plan.datasets[w["dataset"]]["denoisers"][w["denoiser"]]
    if own.get("pretrained"):
        return []
    settings = own["training"]
    options = _options(settings, "precision", **_parts(settings, settings["batch"]))
    images = settings["steps"] * settings["batch"]
    model = _denoiser(plan, w["dataset"], w["denoiser"])
    return [Work("diffusion_step", model, settings["batch"], options, images)]


def _train_robust(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    from contrastdp.training.recipe import recipe_of

    settings, trainer = plan.training(w["arm"]), plan.trainer(w["arm"])
    model, steps = _robust(plan, w["arm"]), settings["steps"]
    batch, more = settings["batch"], {"attack_steps": trainer["attack_steps"]}
    options = _options(settings, "precision", **more, **_parts(settings, batch))
    trained = Work(f"{trainer['loss']}_step", model, batch, options, steps * batch)
    sizes = plan.datasets[w["dataset"]]["sizes"]
    flat = {name: value for name, value in (settings | trainer).items() if name != "network"}
    recipe = recipe_of(flat | {"eps": 0.0, "step_size": 0.0})  # no time depends on these two
    validation, averaging = recipe.validation, recipe.averaging
    held_out = validation.validation_images or sizes["validation"]
    times = -(-steps // validation.validate_every)
    options = canonical({"attack_steps": validation.validation_steps})
    validated = Work("validation", model, min(held_out, 1000), options, times * held_out)
    recomputed = averaging.averaged_statistics == "recomputed"
    seen = averaging.statistics_batches if recomputed else 0
    return [trained, validated, Work("forward", model, batch, "{}", times * seen * batch)]


# ---------------------------------------------------------------- synthetic images
def _sample_images(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    from contrastdp.diffusion.schedulers import subsequence

    dataset, generator = w["dataset"], w["generator"]
    settings, sampler = plan.datasets[dataset], plan.sampler(dataset, generator)
    sampling, guidance = settings["sampling"], plan.guidance(dataset, generator)
    chain = settings["noise_schedule"]["num_train_timesteps"]
    timesteps = sampler.get("timesteps") or subsequence(chain, sampler["steps"], sampler["spacing"])
    batch, execution, shard = sampling["batch"], sampling["execution"], _in_shard(plan, w)
    executed = {name: execution[name] for name in ("precision",) if name in execution}
    executed |= _parts(execution, batch)
    denoiser = plan.generators[generator]["denoiser"]
    model, options = _denoiser(plan, dataset, denoiser), canonical(executed)
    passes = 1 if sampler.get("guidance_scale", 1.0) == 1.0 else 2
    found = [Work("denoise", model, batch, options, shard * len(timesteps) * passes)]
    for part in guidance.get("parts", {"": guidance}).values() if guidance else ():
        # the first state has no previous one, so there are no pairs
        seen = timesteps[1:] if "now" in reads.compared(part) else timesteps
        guided = sum(part["window_low"] <= t <= part["window_high"] for t in seen)
        options = _options(part, "loss", "head", **executed)
        networks = reads.networks(part, conditional=plan.conditional(dataset, generator))
        read = {role: _classifier(plan, dataset, name) for role, name in networks.items()}
        if "encoder" in read:
            found.append(Work("guide", read["encoder"], batch, options, shard * guided))
        if "labeler" in read:  # classes of the predicted x_0, at every step
            found.append(Work("forward", read["labeler"], batch, "{}", shard * len(timesteps)))
    return found


def _in_shard(plan: Plan, w: Mapping[str, str]) -> int:
    """Images of a shard that sample_images makes."""
    start = int(w["shard"]) * plan.datasets[w["dataset"]]["sampling"]["shard"]
    own = w["dataset"], w["generator"], int(w["real"])
    return plan.sampled_until(*own, int(w["shard"])) - start


def _label_images(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    images = _in_shard(plan, w)
    labeler = _classifier(plan, w["dataset"], plan.labeler(w["dataset"]))
    return [Work("forward", labeler, 1000, "{}", images)]


def _select_images(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    rule, images = plan.arms[w["arm"]]["selection"], plan.candidates(w["arm"])
    if rule == "none":
        return []
    declaration = declared("synthesis", "RULES")[rule]
    names = plan.selection_networks(w["dataset"])
    read = {role: _classifier(plan, w["dataset"], name) for role, name in names.items()}
    if not declaration.about.get("gradients"):
        used = (read[role] for role in read if role in declaration.takes)
        return [Work("forward", model, 1000, "{}", images) for model in used]
    found = [Work("gradient_norm", read["encoder"], 1000, "{}", images)]
    if "attack" in declaration.takes:
        steps = plan.datasets[w["dataset"]]["selection"]["attack_steps"]
        found.insert(0, Work("attack_step", read["encoder"], 1000, "{}", images * steps))
    return found


def _measure_samples(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    return _measure(plan, w, plan.datasets[w["dataset"]]["quality"]["images"])


def _measure_generator(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    return _measure(plan, w, plan.measured.images(w["dataset"], w["generator"], int(w["real"])))


def _measure(plan: Plan, w: Mapping[str, str], limit: int) -> list[Work]:
    settings = plan.datasets[w["dataset"]]
    images = limit + min(limit, settings["sizes"]["test"]) + min(limit, int(w["real"]))
    networks = (_classifier(plan, w["dataset"], c) for c in ("labeler", "encoder"))
    return [Work("forward", model, 1000, "{}", images) for model in networks]


def _measure_gradients(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    dataset = w["dataset"]
    settings = plan.datasets[dataset]["gradients"]
    images = min(settings["images"], plan.datasets[dataset]["sizes"]["test"])
    states = images * settings["bands"] * settings["timesteps"]
    pair = plan.gradient_pair(dataset)
    found = [_guided(plan, dataset, row["generator"], images, states) for row in pair.values()]
    names = (plan.generators[pair["robust"]["generator"]]["denoiser"], settings["unconditional"])
    models = (_denoiser(plan, dataset, name) for name in names)
    return found + [Work("denoise", model, images, "{}", states) for model in models]


def _picture_gradients(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    dataset, found = w["dataset"], []
    settings, sampling = (plan.datasets[dataset][name] for name in ("gradients", "sampling"))
    count = settings["pictures"]
    batches = -(-count // sampling["batch"]) * sampling["batch"]  # images of whole ones
    for row in plan.gradient_pair(dataset).values():
        passes = count * (settings["bands"] + settings["attack_steps"])
        found.append(_guided(plan, dataset, row["generator"], count, passes))
        own = {"dataset": dataset, "generator": row["generator"], "real": w["real"], "shard": "0"}
        share = batches / _in_shard(plan, own)
        sampled = _sample_images(plan, own)
        found += [replace(work, images=work.images * share) for work in sampled]
    return found


def _guided(plan: Plan, dataset: str, generator: str, batch: int, images: int) -> Work:
    """Gradients of the classifier that guides a generator."""
    name = plan.guidance_networks(dataset, generator)["encoder"]
    options = canonical({"loss": "classifier"})
    return Work("guide", _classifier(plan, dataset, name), batch, options, images)


# ---------------------------------------------------------------- attacks
def _attack(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    from contrastdp.attack.autoattack import BUDGET, ITERATIONS, TARGETS

    attack, model = plan.attack(w["arm"]), _robust(plan, w["arm"])
    settings = plan.datasets[w["dataset"]]
    first = int(w["shard"]) * attack["shard"]
    images = min(attack["shard"], settings["sizes"]["test"] - first)
    batch, classes = min(attack["batch"], images), settings["classes"]
    options = canonical(_parts(attack, batch))
    targets, spent = min(TARGETS, classes - 1), BUDGET | (attack.get("budget") or {})
    passes = {
        "apgd-ce": ("apgd", ITERATIONS["apgd-ce"]),
        "apgd-t": ("apgd", targets * ITERATIONS["apgd-t"]),
        "fab-t": ("fab", targets * ITERATIONS["fab-t"]),
        "square": ("square", ITERATIONS["square"]),
        "apgd-ce-restarts": ("apgd", spent["apgd_restarts"] * spent["apgd_steps"]),
        "apgd-dlr-restarts": ("apgd", spent["apgd_restarts"] * spent["apgd_steps"]),
        "mt": ("attack_step", spent["mt_restarts"] * (classes - 1) * spent["mt_steps"]),
    }
    return [
        Work(kind, model, batch, options, images * count, robust=place > 0)
        for place, (kind, count) in enumerate(passes[name] for name in VERSIONS[attack["version"]])
    ]


def _audit_network(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    settings, model = plan.datasets[w["dataset"]]["audit"], _robust(plan, w["arm"])
    images, sizes = settings["images"], len(settings["factors"]) + 1
    # each size of the ladder, and beside them eps 0, the other loss and the transferred images
    white = images * settings["steps"] * (sizes + 3)
    return [
        Work("apgd", model, images, "{}", white),
        Work("square", model, images, "{}", images * settings["queries"]),
    ]


def _extract_features(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    images = plan.datasets[w["dataset"]]["sizes"]["test"]
    return [Work("forward", _robust(plan, w["arm"]), 1000, "{}", images)]


def _validate_network(plan: Plan, w: Mapping[str, str]) -> list[Work]:
    settings = plan.datasets[w["dataset"]]["search"]
    options = canonical({"attack_steps": settings["steps"]})
    model, images = _robust(plan, w["arm"]), settings["images"]
    return [Work("validation", model, min(images, 1000), options, images)]


# ---------------------------------------------------------------- disk
RECORD_BYTES = 24  # beside an image's pixels: index, label, confidence and a score or size


@dataclass(frozen=True)
class Stored:
    """What a job leaves on disk: bytes of images, and the networks (model, copies) in float32."""

    image_bytes: int = 0
    networks: tuple[tuple[str, int], ...] = ()


def stored(rule: str, wildcards: Mapping[str, str], plan: Plan) -> Stored:
    """What a job leaves; nothing worth counting (tables, figures) for the other rules.

    Of an attack the stored images are those that it broke; all are counted, an upper bound.
    """
    w = wildcards
    if rule in ("train_classifier", "train_time_classifier"):
        return Stored(networks=((_classifier(plan, w["dataset"], w["classifier"]), 1),))
    if rule == "train_diffusion":
        return Stored(networks=((_denoiser(plan, w["dataset"], w["denoiser"]), 1),))
    if rule == "train_robust":
        return Stored(networks=((_robust(plan, w["arm"]), 2),))
    if rule not in (
        "sample_images",
        "label_images",
        "select_images",
        "attack_shard",
        "attack_last",
    ):
        return Stored()
    settings = plan.datasets[w["dataset"]]
    pixels = settings["channels"] * settings["image_size"] ** 2
    if rule == "select_images":
        return Stored(plan.arms[w["arm"]]["synthetic"] * (pixels + RECORD_BYTES))
    if rule.startswith("attack"):
        size = plan.attack(w["arm"])["shard"]
        images = min(size, settings["sizes"]["test"] - int(w["shard"]) * size)
        return Stored(images * 4 * pixels)  # float32
    return Stored(_in_shard(plan, w) * (pixels + RECORD_BYTES))


RULES: dict[str, Callable[[Plan, Mapping[str, str]], list[Work]]] = {
    "train_classifier": _train_classifier,
    "train_time_classifier": _train_time_classifier,
    "train_diffusion": _train_diffusion,
    "train_robust": _train_robust,
    "sample_images": _sample_images,
    "label_images": _label_images,
    "select_images": _select_images,
    "measure_samples": _measure_samples,
    "measure_generator": _measure_generator,
    "measure_gradients": _measure_gradients,
    "picture_gradients": _picture_gradients,
    "attack_shard": _attack,
    "attack_last": _attack,
    "audit_network": _audit_network,
    "extract_features": _extract_features,
    "validate_network": _validate_network,
}
