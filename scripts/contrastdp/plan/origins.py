"""Where each resolved setting comes from: a layer of YAML, or a row of a sheet."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from contrastdp.guidance.reads import listed as listed_names
from contrastdp.plan.experiments import Plan
from contrastdp.plan.settings import choose, merge

Tree = dict[str, Any]  # name -> Setting, or a tree again


@dataclass(frozen=True)
class Setting:
    """A value and where it stands; two of one value are equal, as `merge` compares them."""

    value: Any
    origin: str = field(compare=False)


def sourced(settings: Mapping[str, Any], origin: str) -> Tree:
    """Nested settings with each value as a Setting of this origin."""
    return {
        key: sourced(value, origin) if isinstance(value, Mapping) else Setting(value, origin)
        for key, value in settings.items()
    }


def of_dataset(plan: Plan, dataset: str) -> Tree:
    """A data set's settings, merged as the plan merges them."""
    return merge(*(sourced(layer, origin) for origin, layer in plan.layers[dataset].items()))


def of_generator(plan: Plan, dataset: str, generator: str) -> Tree:
    """What makes a generator's images of a data set: its cells over the data set's settings."""
    choose(generator, plan.generators, "generator", f"scale {plan.scale}")
    whole, row = of_dataset(plan, dataset), plan.generators[generator]
    origin = _row(plan, "generator", generator)
    if row["images"]:
        names = {name: row[name] for name in ("title", "images")}
        return {"row": sourced(names, origin), "sampling": whole["sampling"]}
    found = {name: whole[name] for name in ("noise_schedule", "sampling")}
    found["denoiser"] = whole["denoisers"][row["denoiser"]]
    own = plan.given(row, "sampler")
    found["sampler"] = whole["samplers"][row["sampler"]] | sourced(own, origin)
    if row["guidance"]:
        defaults = {"loss": Setting(row["guidance"], origin)}
        defaults |= whole["guidances"][row["guidance"]]
        found["guidance"] = defaults | sourced(plan.given(row, "guidance"), origin)
        if "parts" in defaults:
            names = defaults["parts"].value
            found["guidance"]["parts"] = {name: whole["guidances"][name] for name in names}
        for role, read in plan.guidance_networks(dataset, generator).items():
            own = {name: whole["classifiers"][name] for name in listed_names(read)}
            found[role] = own[read] if isinstance(read, str) else own
    names = {name: row[name] for name in ("title", "denoiser", "sampler", "guidance")}
    return {"row": sourced(names, origin), **found}


def of_arm(plan: Plan, arm: str) -> Tree:
    """Everything that decides an arm's numbers, its cells over the data set's settings.

    What is counted out of other settings (steps of epochs, the step of another eps) says so.
    """
    choose(arm, plan.arms, "arm", f"scale {plan.scale}")
    row, origin = plan.arms[arm], _row(plan, "arm", arm)
    whole = of_dataset(plan, row["dataset"])
    counts = (
        *("title", "dataset", "generator", "real", "synthetic", "selection", "candidates"),
        *("trainer", "train_on", "baseline", "tables"),
    )
    found = {"row": {name: Setting(row[name], origin) for name in counts}}
    of_images = ("data_seed", "title", "classes", "image_size", "channels", "sizes")
    found["dataset"] = {name: whole[name] for name in of_images}
    if row["generator"]:
        found["generator"] = of_generator(plan, row["dataset"], row["generator"])
        found["selection"] = whole["selection"]
        found["labeler"] = whole["classifiers"][plan.labeler(row["dataset"])]
    own = sourced(plan.given(row, "training"), origin)
    found["training"] = _resolved(plan.training(arm), whole["training"] | own)
    found["trainer"] = whole["trainers"][row["trainer"]]
    own = {} if row["eps"] is None else {"eps": Setting(row["eps"], origin)}
    found["threat"] = _resolved(plan.threat(arm), whole["threat"] | own)
    of_threat = {name: found["threat"][name] for name in ("norm", "eps")}
    found["attack"] = _resolved(plan.attack(arm), of_threat | whole["attack"])
    return found


def listed(tree: Tree, section: str = "") -> Iterator[tuple[str, Any, str]]:
    """(name, value, origin) of each setting of a tree, in its order, a dot a level."""
    for key, entry in tree.items():
        name = f"{section}.{key}" if section else key
        if isinstance(entry, Setting):
            yield name, entry.value, entry.origin
        else:
            yield from listed(entry, name)


def _row(plan: Plan, sheet: str, name: str) -> str:
    written = name in plan.places[sheet]
    return f"{sheet}s.tsv row {name}" if written else "the twins of this scale"


def _resolved(used: Mapping[str, Any], tree: Tree) -> Tree:
    """The tree with the values that are used, where the plan counts them out of others."""
    counted = {
        key: Setting(value, "counted out of the others")
        for key, value in used.items()
        if not isinstance(value, Mapping) and tree.get(key) != Setting(value, "")
    }
    return tree | counted
