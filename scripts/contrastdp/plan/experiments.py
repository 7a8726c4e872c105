"""The plan of a run: a scale's data sets, generators and arms, with every setting resolved.

Settings come in layers (config.yaml < datasets/<name>.yaml < scales/<scale>.yaml < command line),
experiments as rows (generators.tsv, arms.tsv). All are checked here, before any job. Imports
nothing heavy.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from contrastdp.attack.versions import VERSIONS
from contrastdp.errors import InputError
from contrastdp.guidance import reads
from contrastdp.plan import combinations
from contrastdp.plan.extent import Asked, check_jobs
from contrastdp.plan.settings import (
    Row,
    cells_over,
    check_name,
    choose,
    columns,
    merge,
    parse_rows,
    validate,
)
from contrastdp.plan.tables import read_tables
from contrastdp.plan.twins import with_twins
from contrastdp.registry import declared

IDENTITY = ("dataset", "arm", "generator", "real", "synthetic", "trainer", "selection")
SEEDS = 1000  # of an arm in one table


@dataclass(frozen=True)
class Plan:
    """A scale's data sets (name -> resolved settings), generators and arms (name -> row).

    pages: tables whose pages the scale's main target makes; mirror: where archives are fetched;
    comparable: whether every setting is the paper's, so that its numbers may be held against ours;
    trace: the synthetic image to trace, by arm, seed and its place among the arm's, or None;
    resume: how often a long step keeps its state; cells: section of settings -> the columns of the
    sheets whose cells stand over it; layers: the settings of each data set by the layer that they
    come from, later over earlier; places: where the rows of each sheet stand, by name;
    tables: name -> row of tables.tsv.
    """

    scale: str
    datasets: dict[str, dict[str, Any]]
    generators: dict[str, Row]
    arms: dict[str, Row]
    pages: list[str] = field(default_factory=list)
    mirror: dict[str, Any] | None = None
    comparable: bool = False
    trace: dict[str, Any] | None = None
    resume: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Row] = field(default_factory=dict)
    cells: dict[str, tuple[str, ...]] = field(default_factory=dict)
    layers: dict[str, dict[str, Mapping[str, Any]]] = field(default_factory=dict)
    places: dict[str, dict[str, str]] = field(default_factory=dict)

    def given(self, row: Row, section: str) -> Row:
        """The cells of a row that stand over a section of the settings."""
        return {cell: row[cell] for cell in self.cells[section] if row[cell] is not None}

    def table(self, name: str) -> list[str]:
        """Arms of a table, in the order of arms.tsv."""
        return [arm for arm, row in self.arms.items() if name in row["tables"]]

    def mixed_attacks(self, table: str) -> list[str]:
        """Data sets of a table whose arms may be attacked in different ways."""
        names = {self.arms[arm]["dataset"] for arm in self.table(table)}
        return sorted(name for name in names if self.datasets[name]["report"]["mixed_attacks"])

    def seeds(self, arm: str, table: str) -> list[int]:
        """Seeds of an arm in a table: each covers data subset, diffusion, sampling and training."""
        return self.arms[arm]["tables"][table]

    def tables_of(self, arm: str, seed: int) -> set[str]:
        """The tables that show this arm with this seed."""
        return {table for table, seeds in self.arms[arm]["tables"].items() if seed in seeds}

    def sampler(self, dataset: str, generator: str) -> dict[str, Any]:
        """Steps, spacing, eta, ... of a generator: its cells over the data set's defaults."""
        row = self.generators[generator]
        return self.datasets[dataset]["samplers"][row["sampler"]] | self.given(row, "sampler")

    def guidance(self, dataset: str, generator: str) -> dict[str, Any] | None:
        """Settings of a generator's guidance: its cells over the defaults; None where unguided."""
        row = self.generators[generator]
        if row["guidance"] is None:
            return None
        defaults = self.datasets[dataset]["guidances"][row["guidance"]]
        return {"loss": row["guidance"], **defaults} | self.given(row, "guidance")

    def guidance_networks(self, dataset: str, generator: str) -> dict[str, str]:
        """Classifiers that the generator's guidance reads: its input ('encoder', ...) -> name."""
        guidance = self.guidance(dataset, generator)
        if guidance is None:
            return {}
        return reads.networks(guidance, conditional=self.conditional(dataset, generator))

    def guidance_files(self, dataset: str, generator: str) -> tuple[str, ...]:
        """What the generator's guidance reads: 'encoder', 'labeler', 'train' or some of them."""
        networks = self.guidance_networks(dataset, generator)
        guidance = self.guidance(dataset, generator)
        real = guidance is not None and "real" in reads.compared(guidance)
        return (*networks, "train") if real else (*networks,)

    def selection_networks(self, dataset: str) -> dict[str, str]:
        """Classifiers that the selection rules read: 'labeler' and 'encoder' -> name."""
        chosen = self.datasets[dataset]["selection"]
        return {role: chosen[role] for role in ("labeler", "encoder")}

    def labeler(self, dataset: str) -> str:
        """Name of the classifier that labels synthetic images."""
        return self.datasets[dataset]["labelling"]["classifier"]

    def classifiers(self, *, time_dependent: bool | None = None) -> list[str]:
        """Names of the classifiers of all data sets; only those that take t, or take none."""
        every = (settings["classifiers"] for settings in self.datasets.values())
        named = (
            name
            for classifiers in every
            for name, own in classifiers.items()
            if time_dependent in (None, combinations.takes_t(own))
        )
        return list(dict.fromkeys(named))

    def external(self) -> list[str]:
        """Generators whose images come from elsewhere."""
        return [name for name, row in self.generators.items() if row["images"]]

    def most_candidates(self, dataset: str, generator: str, real: int) -> int:
        """How many images of a generator any arm chooses from."""
        own = {"dataset": dataset, "generator": generator, "real": real}
        return max(
            self.candidates(arm) for arm, row in self.arms.items() if own.items() <= row.items()
        )

    def conditional(self, dataset: str, generator: str) -> bool:
        """Whether a generator's images carry their own label."""
        if self.generators[generator]["images"]:
            return True
        denoiser = self.generators[generator]["denoiser"]
        return self.datasets[dataset]["denoisers"][denoiser]["conditional"]

    def denoiser(self, dataset: str, denoiser: str) -> dict[str, Any]:
        """Settings of a denoiser of a data set."""
        return self.datasets[dataset]["denoisers"][denoiser]

    def image_shape(self, dataset: str) -> list[int]:
        """[C, H, W] of a data set's images."""
        settings = self.datasets[dataset]
        return [settings["channels"], settings["image_size"], settings["image_size"]]

    def sampling(self, dataset: str, generator: str, real: int) -> dict[str, Any]:
        """Settings of a generator's images as shard_images has them, but for shard and seed."""
        settings = self.datasets[dataset]
        return {
            "sampler": self.sampler(dataset, generator),
            "guidance": self.guidance(dataset, generator),
            "shape": self.image_shape(dataset),
            "classes": settings["classes"],
            "real": real,
            "batch": settings["sampling"]["batch"],
            "execution": settings["sampling"]["execution"],
        }

    def trace_identity(self, arm: str, seed: int, image: int) -> dict[str, Any]:
        """Which image is traced, and how its arm came to it."""
        row = self.arms[arm]
        cells = {name: row[name] for name in ("dataset", "arm", "generator", "selection")}
        conditional = self.conditional(row["dataset"], row["generator"])
        numbers = {"seed": seed, "image": image}
        return {"scale": self.scale, **cells, **numbers, "conditional": conditional}

    def threat(self, arm: str) -> dict[str, Any]:
        """Norm, eps and step_size that an arm's network is trained against, at its own eps."""
        row = self.arms[arm]
        threat = self.datasets[row["dataset"]]["threat"]
        if row["eps"] is None:
            return dict(threat)
        return threat | {"eps": row["eps"], "step_size": self.step_size(arm, row["eps"])}

    def step_size(self, arm: str, eps: str) -> str:
        """The step of PGD at `eps`, in ratio to the data set's; fractions as text."""
        threat = self.datasets[self.arms[arm]["dataset"]]["threat"]
        return str(Fraction(threat["step_size"]) / Fraction(threat["eps"]) * Fraction(eps))

    def attack(self, arm: str) -> dict[str, Any]:
        """How an arm's network is attacked: norm and eps, then the data set's attack.

        eps is the arm's threat's where the attack has none of its own. An arm of an ablation table
        is attacked by the ablations' version.
        """
        row, threat = self.arms[arm], self.threat(arm)
        attack = dict(self.datasets[row["dataset"]]["attack"])
        ablations = attack.pop("ablations")
        attack.pop("last")  # which networks are attacked, not how
        if any(self.tables[table]["attack"] == "ablations" for table in row["tables"]):
            attack["version"] = ablations
        elif "mt" in VERSIONS[ablations] and "mt" not in VERSIONS[attack["version"]]:
            attack.pop("budget", None)  # the ablations' own
        return {"norm": threat["norm"], "eps": threat["eps"]} | attack

    def version(self, table: str) -> str:
        """The attack's version that a table of one data set shows."""
        attack = self.datasets[next(iter(self.of_dataset(table)))]["attack"]
        return attack[self.tables[table]["attack"]]

    def training(self, arm: str) -> dict[str, Any]:
        """Settings of an arm's robust training, epochs counted out as steps of its batch.

        Steps of the arm's own stand in the place of the data set's epochs.
        """
        row = self.arms[arm]
        settings = self.datasets[row["dataset"]]["training"] | self.given(row, "training")
        epochs, images = settings.pop("epochs", None), settings.pop("epoch_images", None)
        if epochs is not None:
            settings["epoch_steps"] = -(-images // settings["batch"])
            if row["steps"] is None:
                settings["steps"] = epochs * settings["epoch_steps"]
        return settings

    def trained_on(self, arm: str) -> int:
        """Real images that an arm's robust network is trained on."""
        row = self.arms[arm]
        return 0 if row["train_on"] == "synthetic" else row["real"]

    def trainer(self, arm: str) -> dict[str, Any]:
        """Loss, beta and attack steps of an arm's robust training."""
        row = self.arms[arm]
        return self.datasets[row["dataset"]]["trainers"][row["trainer"]]

    def identity(self, arm: str, seed: int) -> dict[str, Any]:
        """What an evaluation says of itself: the arm's row, without what only lays out tables."""
        return {name: self.arms[arm][name] for name in IDENTITY} | {"seed": seed}

    def guidance_identity(self, arm: str) -> dict[str, Any]:
        """An arm's row as the table of the guidance's size reads it, with all that guides it."""
        row = self.arms[arm]
        guidance = self.guidance(row["dataset"], row["generator"]) or {}
        own = {name: row[name] for name in ("arm", "title", "dataset", "generator")}
        own["sampler"] = self.generators[row["generator"]]["sampler"]
        batch = self.datasets[row["dataset"]]["sampling"]["batch"]
        seeds = self.seeds(arm, self.showing("guidance"))
        return guidance | own | {"seeds": seeds, "batch": batch}

    def swept(self, arms: Sequence[str], setting: str) -> list[list[str]]:
        """Those of `arms` that differ by one setting of their guidance alone, a list each."""
        alike: dict[str, list[str]] = {}
        for arm in arms:
            identity = self.guidance_identity(arm)
            if "loss" in identity:
                rest = {k: v for k, v in identity.items() if k not in ("arm", "title", "generator")}
                alike.setdefault(str(rest | {setting: None}), []).append(arm)
        return [found for found in alike.values() if len(found) > 1]

    def laid_out(self, table: str) -> list[Row]:
        """Rows of a table as make_table reads them: identity, title, and the list of seeds."""
        return [
            {name: self.arms[arm][name] for name in (*IDENTITY, "title", "baseline")}
            | {"seeds": self.seeds(arm, table)}
            for arm in self.table(table)
        ]

    def paper_rows(self, table: str, dataset: str | None = None) -> list[Row]:
        """Rows of a table of the paper as make_paper_table reads them, of one data set or all."""
        return [
            row
            | {
                "train_on": self.arms[row["arm"]]["train_on"],
                "eps": self.attack(row["arm"])["eps"],
                "reported": (self.arms[row["arm"]]["reported"] or "").split(),
            }
            for row in self.laid_out(table)
            if dataset in (None, row["dataset"])
        ]

    def most_real(self, table: str, dataset: str) -> int:
        """Real images of that arm of a table and data set which has most."""
        return max(row["real"] for row in self.paper_rows(table, dataset))

    def of_dataset(self, table: str) -> dict[str, list[str]]:
        """Arms of a table by data set."""
        found: dict[str, list[str]] = {}
        for arm in self.table(table):
            found.setdefault(self.arms[arm]["dataset"], []).append(arm)
        return found

    def references(self, table: str) -> list[str]:
        """Arms of a table that differences are taken against, one a data set."""
        named = [settings["report"]["reference"] for settings in self.datasets.values()]
        return [arm for arm in named if arm in self.table(table)]

    def sized_generators(self, dataset: str, tables: Sequence[str]) -> dict[str, str]:
        """Generators (name -> title) with unselected images in `tables`, in order of the arms."""
        reference = self.reference(dataset)
        rows = (self.arms[arm] for table in tables for arm in self.table(table))
        return {
            row["generator"]: self.generators[row["generator"]]["title"]
            for row in rows
            if row["dataset"] == dataset
            and row["selection"] == "none"
            and row["trainer"] == reference["trainer"]
        }

    def paper_tables(self) -> list[str]:
        """Tables that stand beside one of the paper's."""
        return [name for name, row in self.tables.items() if row["kind"] == "paper"]

    def layout(self, table: str, reported: Sequence[Mapping[str, str]]) -> list[str]:
        """Ids of a table's printed rows, in the paper's order; none for a figure.

        reported: the paper's values, as in config/reported.
        """
        row = self.tables[table]
        wanted = {"dataset": row["dataset"], "table": row["printed"], "text_version": "v2"}
        return [line["id"] for line in reported if wanted.items() <= line.items()]

    def generator_titles(self, table: str) -> dict[str, str]:
        """Titles of a table's generators, in the order of its arms."""
        rows = (self.arms[arm] for arm in self.table(table))
        names = [row["generator"] for row in rows if row["generator"]]
        return {name: self.generators[name]["title"] for name in names}

    def reference(self, dataset: str) -> Row:
        """Row of the arm that a data set's differences are taken against."""
        return self.arms[self.datasets[dataset]["report"]["reference"]]

    def guided_arms(self) -> list[str]:
        """Arms of the guidance's table that have synthetic images."""
        return [a for a in self.table(self.showing("guidance")) if self.arms[a]["generator"]]

    def showing(self, figure: str) -> str:
        """The table that a figure of captions.SOLE is of; InputError where none shows it."""
        for table, row in self.tables.items():
            if figure in (row["figures"] or "").split():
                return table
        raise InputError(f"tables.tsv: no table shows the figure '{figure}'; name it in 'figures'")

    def transfer_arm(self, arm: str, seed: int) -> str | None:
        """The arm whose adversarial images an audit tries on `arm`; None where there is none.

        Of the arms of this data set and eps that stand with this seed in every table where `arm`
        does, so that no table needs another's networks: the data set's reference, else the next
        row.
        """
        row = self.arms[arm]
        names = list(self.arms)
        place = names.index(arm)
        alike = [
            name
            for name in names[place + 1 :] + names[:place]
            if self.arms[name]["dataset"] == row["dataset"]
            and self.attack(name)["eps"] == self.attack(arm)["eps"]
            and self.tables_of(arm, seed) <= self.tables_of(name, seed)
        ]
        reference = self.datasets[row["dataset"]]["report"]["reference"]
        return reference if reference in alike else next(iter(alike), None)

    def settings(self) -> dict[str, Any]:
        """Everything that was set, for the report: data sets, generators and arms."""
        return {
            "data sets": self.datasets,
            "generators": list(self.generators.values()),
            "arms": list(self.arms.values()),
        }

    def candidates(self, arm: str) -> int:
        """How many images an arm chooses its synthetic ones from."""
        row = self.arms[arm]
        return round(row["synthetic"] * row["candidates"])

    def sample_shards(self, arm: str) -> range:
        """Shards of the arm's generator that hold its candidates."""
        size = self.datasets[self.arms[arm]["dataset"]]["sampling"]["shard"]
        return range(-(-self.candidates(arm) // size))

    def attack_shards(self, dataset: str) -> range:
        """Fixed shards of the data set's test split."""
        settings = self.datasets[dataset]
        return range(-(-settings["sizes"]["test"] // settings["attack"]["shard"]))


def plan(
    load_yaml: Callable[[Path], dict[str, Any]],
    load_rows: Callable[[Path], list[dict[str, str]]],
    *,
    folder: Path,
    command_line: Mapping[str, Any],
) -> Plan:
    """Read, merge and check everything under `folder`; InputError names file, row or key."""
    schema = load_yaml(folder / "schema.yaml")
    definitions = schema["$defs"]
    base = load_yaml(folder / "config.yaml")
    _check_layer(base, schema, ("scale", "run"), "config/config.yaml")
    of_run = "--config or --configfile"
    _check_layer(command_line, schema, ("scale", "run", "trace", "twins"), of_run)
    command_line = dict(command_line)
    trace, asked = (command_line.pop(key, None) for key in ("trace", "twins"))
    known = sorted(path.stem for path in (folder / "scales").glob("*.yaml"))
    for stem in known:
        check_name(stem, "config/scales, name of a file")
    name = merge(base, command_line).get("scale")
    scale_name = choose(str(name), known, "scale", "config/config.yaml or --config")
    where = f"config/scales/{scale_name}.yaml"
    scale = load_yaml(folder / "scales" / f"{scale_name}.yaml")
    _check_layer(scale, schema, ("run", "scale_file"), where)
    own = {key: scale.pop(key, None) for key in definitions["scale_file"]}
    tables = read_tables(load_rows(folder / "tables.tsv"), "config/tables.tsv")
    pages = own["pages"] or []
    for page in pages:
        choose(page, tables, "table", f"{where}, pages")
    twins, place = (own["twins"] or [], where) if asked is None else (asked, of_run)
    for table in twins:
        choose(table, tables, "table", f"{place}, twins")
    datasets: dict[str, dict[str, Any]] = {}
    layers, mirror, resume = {}, None, {}
    files = sorted(path.stem for path in (folder / "datasets").glob("*.yaml"))
    for stem in files:
        check_name(stem, "config/datasets, name of a file")
    for dataset, overrides in (own["datasets"] or {}).items():
        choose(dataset, files, "data set", where)
        parts = {
            "config.yaml": base,
            f"datasets/{dataset}.yaml": load_yaml(folder / "datasets" / f"{dataset}.yaml"),
            f"scales/{scale_name}.yaml": scale,
            f"scales/{scale_name}.yaml, datasets.{dataset}": overrides or {},
            "command line": command_line,
        }
        own_place = f"config/datasets/{dataset}.yaml"
        _check_layer(parts[f"datasets/{dataset}.yaml"], schema, ("dataset",), own_place)
        _check_layer(overrides or {}, schema, ("dataset",), f"{where}, datasets.{dataset}")
        settings = merge(*parts.values())
        settings.pop("scale")
        validate(settings, _layer_schema(schema, ("dataset", "run"), complete=True), own_place)
        mirror, resume = settings.pop("mirror"), settings.pop("resume")
        combinations.check_dataset(dataset, settings, definitions, own_place)
        for other, others in datasets.items():
            combinations.check_same_kind(settings, others, f"{own_place} and {other}.yaml")
        datasets[dataset], layers[dataset] = settings, parts
    sheets = {sheet: cells_over(definitions, sheet) for sheet in ("generator", "arm")}
    places: dict[str, dict[str, str]] = {}
    made = partial(
        Plan,
        scale_name,
        datasets,
        pages=pages,
        mirror=mirror,
        comparable=bool(own["comparable"]),
        trace=trace,
        resume=resume,
        cells=sheets["generator"] | sheets["arm"],
        layers=layers,
        places=places,
        tables=tables,
    )
    rows = _rows(load_rows, folder / "generators.tsv", definitions, "generator")
    generators = {row["generator"]: row for _, row in rows}
    places["generator"] = {row["generator"]: place for place, row in rows}
    _check_generators(made(generators=generators, arms={}), definitions)
    rows = _rows(load_rows, folder / "arms.tsv", definitions, "arm")
    arms, places["arm"] = _arms(rows, scale_name, known, datasets, generators, tables)
    found = made(generators=generators, arms=arms)
    _check_arms(found)
    arms, generators = with_twins(arms, generators, tables=twins, guidance=found.guidance)
    whole = made(generators=generators, arms=arms)
    check_jobs({arm: _asked(whole, arm) for arm in arms}, places["arm"])
    for dataset in datasets:
        _check_report(whole, dataset, f"data set {dataset}, report")
    if trace is not None:
        _check_trace(whole, "--config trace")
    return whole


def theory(
    load_yaml: Callable[[Path], dict[str, Any]], *, folder: Path
) -> dict[str, dict[str, Any]]:
    """Settings of section 3 by rule, from theory.yaml, checked; InputError names the key."""
    definitions = load_yaml(folder / "schema.yaml")["$defs"]
    sections = definitions["theory"]
    layer = {"type": "object", "additionalProperties": False, "properties": sections}
    layer["required"] = sorted(sections)
    found = load_yaml(folder / "theory.yaml")
    whole = {"$defs": definitions, "type": "object", "additionalProperties": False}
    whole |= {"properties": {"theory": layer}, "required": ["theory"]}
    validate(found, whole, "config/theory.yaml")
    return found["theory"]


# ---------------------------------------------------------------- layers
def _layer_schema(
    schema: Mapping[str, Any], parts: tuple[str, ...], complete: bool = False
) -> dict[str, Any]:
    """Schema of one layer: every section, and the keys of `parts`; complete: all are required."""
    definitions = schema["$defs"]
    properties = dict(definitions["sections"])
    for part in parts:
        properties |= {"scale": {"type": "string"}} if part == "scale" else definitions[part]
    if not complete:
        definitions = _optional(definitions)
        properties = _optional(properties)
    layer = {"$defs": definitions, "type": "object", "additionalProperties": False}
    layer["properties"] = properties
    return layer | ({"required": sorted(properties)} if complete else {})


def _optional(node: Any) -> Any:
    """A schema without its `required`, for a layer that need not be complete."""
    if isinstance(node, Mapping):
        return {key: _optional(value) for key, value in node.items() if key != "required"}
    return node


def _check_layer(
    layer: Mapping[str, Any], schema: Mapping[str, Any], parts: tuple[str, ...], where: str
) -> None:
    validate(layer, _layer_schema(schema, parts), where)


def _asked(found: Plan, arm: str) -> Asked:
    row = found.arms[arm]
    images = (row["dataset"], row["generator"], row["real"]) if row["generator"] else None
    last = found.datasets[row["dataset"]]["attack"]["last"]
    return Asked(
        seeds=set().union(*row["tables"].values()),
        images=images,
        candidates=found.candidates(arm) if images else 0,
        shards=len(found.sample_shards(arm)) if images else 0,
        attacks=len(found.attack_shards(row["dataset"])) * (1 + last),
    )


def _check_report(found: Plan, dataset: str, where: str) -> None:
    shown = found.datasets[dataset]["report"]
    arms = [arm for arm, row in found.arms.items() if row["dataset"] == dataset]
    for arm in (shown["reference"], *shown["features"]):
        choose(arm, arms, "arm", where)
    real = found.arms[shown["reference"]]["real"]
    sampled = {
        row["generator"]
        for row in found.arms.values()
        if row["generator"] and (row["dataset"], row["real"]) == (dataset, real)
    }
    for generator in (shown["plain"], *shown["guided"]):
        choose(generator, sampled, "generator among the arms", where)


def _check_trace(found: Plan, where: str) -> None:
    asked = found.trace or {}
    for name in ("arm", "seed", "image"):
        if name not in asked:
            raise InputError(
                f"{where}: {name} is missing; write "
                """'trace={"arm": "contrastive_hnm", "seed": 0, "image": 0}'"""
            )
    images = {
        arm: row["synthetic"]
        for arm, row in found.arms.items()
        if row["synthetic"] and row["generator"] not in found.external()
    }
    arm = choose(asked["arm"], images, "arm with synthetic images of our own", where)
    if asked["image"] >= images[arm]:
        raise InputError(
            f"{where}: image is {asked['image']}; arm '{arm}' has images 0 to {images[arm] - 1}"
        )
    seeds = sorted(set().union(*found.arms[arm]["tables"].values()))
    if asked["seed"] not in seeds:
        raise InputError(
            f"{where}: seed is {asked['seed']}; arm '{arm}' has seeds {', '.join(map(str, seeds))}"
        )


# ---------------------------------------------------------------- rows
def _rows(
    load_rows: Callable[[Path], list[dict[str, str]]],
    path: Path,
    definitions: Mapping[str, Any],
    sheet: str,
) -> list[tuple[str, Row]]:
    """(place, row) of each row of a sheet, its cells typed and checked by the schema."""
    where, key = f"config/{path.name}", ["scale", "arm"] if sheet == "arm" else [sheet]
    parsed = parse_rows(load_rows(path), columns(definitions, sheet), key, where)
    found = []
    for line, row in enumerate(parsed, 2):
        place = f"{where}, line {line} ({row[sheet]})"
        filled = {cell: value for cell, value in row.items() if value is not None}
        _validate(filled, definitions, {"properties": definitions[sheet]}, place)
        found.append((place, row))
    return found


def _validate(
    settings: Mapping[str, Any], definitions: Mapping[str, Any], part: Mapping[str, Any], where: str
) -> None:
    validate(settings, {"$defs": definitions, **part}, where)


def _check_generators(found: Plan, definitions: Mapping[str, Any]) -> None:
    """Each generator's resolved settings in every data set of the scale."""
    for name, row in found.generators.items():
        place = found.places["generator"][name]
        if row["images"]:
            for cell in row.keys() - {"generator", "title", "images"}:
                if row[cell] is not None:
                    raise InputError(
                        f"{place}: {cell} is set, and images are given; clear one of the cells"
                    )
            continue
        for dataset, settings in found.datasets.items():
            for kind in ("denoiser", "sampler"):
                choose(str(row[kind]), settings[f"{kind}s"], kind, place)
            sampler = found.sampler(dataset, name)
            _validate(sampler, definitions, definitions["sampler"], place)
            combinations.check_sampler(sampler, settings, place)
            denoiser = settings["denoisers"][row["denoiser"]]
            combinations.check_scale_of_labels(sampler, denoiser, place)
            if row["guidance"] is None:
                if cells := found.given(row, "guidance"):
                    raise InputError(
                        f"{place}: {next(iter(cells))} is set without guidance; clear the cell"
                    )
                continue
            choose(row["guidance"], settings["guidances"], "guidance", place)
            guidance = found.guidance(dataset, name) or {}
            _validate(guidance, definitions, definitions["guidance"], place)
            combinations.check_guidance(guidance, settings, place)


def _check_arms(found: Plan) -> None:
    """Each arm's resolved settings."""
    for name, row in found.arms.items():
        place, settings = found.places["arm"][name], found.datasets[row["dataset"]]
        mixed = row["synthetic"] > 0 and row["train_on"] is None
        split = combinations.training_images(row["dataset"], settings["sizes"])
        combinations.check_training(
            found.training(name),
            found.trainer(name)["loss"],
            mixed=mixed,
            images=max(split, found.trained_on(name) + row["synthetic"]),
            side=settings["image_size"],
            where=place,
        )
        combinations.check_step(found.threat(name), place)
        external = row["generator"] in found.external()
        figures = " ".join(found.tables[table]["figures"] or "" for table in row["tables"]).split()
        if external and "guidance" in figures:
            raise InputError(
                f"{place}: the figure 'guidance' of one of its tables shows how large the guidance "
                "is, which images from elsewhere do not say; take the arm out of it"
            )
        if row["synthetic"]:
            sampled = len(found.sample_shards(name)) * settings["sampling"]["shard"]
            measured = min(settings["quality"]["images"], sampled)
            combinations.check_measured(measured, settings["quality"], place)
        choosing = [table for table in row["tables"] if found.tables[table]["chosen_by"]]
        if choosing and row["real"] == settings["sizes"]["train"]:
            raise InputError(
                f"{place}: real is every training image; the table '{choosing[0]}' needs some "
                "held out"
            )


def _arms(
    rows: list[tuple[str, Row]],
    scale: str,
    scales: list[str],
    datasets: Mapping[str, Any],
    generators: Mapping[str, Row],
    tables: Mapping[str, Row],
) -> tuple[dict[str, Row], dict[str, str]]:
    """Arms of the scale, name -> row with its seeds by table, and where each stands."""
    arms, places = {}, {}
    for place, row in rows:
        choose(row["scale"], scales, "scale", place)
        if row["generator"] is not None:
            choose(row["generator"], generators, "generator", place)
        if row["scale"] == scale:
            choose(str(row["dataset"]), datasets, "data set", place)
            _check_arm(row, datasets[row["dataset"]], place)
            arms[row["arm"]] = row | {"tables": _tables(row["tables"], row["seeds"], tables, place)}
            places[row["arm"]] = place
    for arm, row in arms.items():
        if row["baseline"] is not None:
            alike = [
                name
                for name, other in arms.items()
                if (other["dataset"], other["eps"]) == (row["dataset"], row["eps"]) and name != arm
            ]
            choose(row["baseline"], alike, "arm of this data set and eps", places[arm])
            for table in row["tables"]:
                if tables[table]["kind"] != "paper":  # those lay out what they have
                    _check_baseline(row, arms[row["baseline"]], table, places[arm])
    return arms, places


def _check_baseline(row: Row, other: Row, table: str, place: str) -> None:
    if other["tables"].get(table) != row["tables"][table]:
        raise InputError(
            f"{place}: baseline '{other['arm']}' is not in table '{table}' with the same seeds; "
            "add it there or name another"
        )


def _tables(cell: str, seeds: int, known: Mapping[str, Row], place: str) -> dict[str, list[int]]:
    """Seeds by table of a cell such as 'robustness evidence:3-14'; 0 to seeds - 1 where unsaid."""
    found = {}
    for text in cell.split():
        table, _, span = text.partition(":")
        choose(table, known, "table", place)
        edges = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", span or f"0-{seeds - 1}")
        if not edges or int(edges[1]) > int(edges[2]):
            raise InputError(f"{place}: tables has '{text}'; write {table} or {table}:3-14")
        if int(edges[2]) - int(edges[1]) >= SEEDS:
            raise InputError(f"{place}: tables has '{text}'; a table shows at most {SEEDS} seeds")
        if table in found:
            raise InputError(f"{place}: tables names '{table}' twice; remove one")
        found[table] = list(range(int(edges[1]), int(edges[2]) + 1))
    return found


def _check_arm(row: Row, settings: Mapping[str, Any], place: str) -> None:
    for column in ("title", "real", "synthetic", "trainer", "seeds", "tables"):
        if row[column] is None:
            raise InputError(f"{place}: {column} is empty; fill it in")
    choose(row["trainer"], settings["trainers"], "trainer", place)
    available = combinations.training_images(row["dataset"], settings["sizes"])
    if row["real"] > available:
        raise InputError(
            f"{place}: real is {row['real']}; the training split has {available} images"
        )
    if (row["synthetic"] > 0) != (row["generator"] is not None):
        raise InputError(
            f"{place}: synthetic is {row['synthetic']} and generator is "
            f"'{row['generator'] or ''}'; give both or neither"
        )
    if row["generator"] is None:
        if row["train_on"] is not None:
            raise InputError(f"{place}: train_on is set without synthetic images; clear the cell")
        return
    for column in ("selection", "candidates"):
        if row[column] is None:
            raise InputError(f"{place}: {column} is empty; fill it in, such as none and 1")
    choose(row["selection"], ("none", *declared("synthesis", "RULES")), "selection", place)
