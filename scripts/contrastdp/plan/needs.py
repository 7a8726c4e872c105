"""What each job reads: input functions of the rules, over the plan and its paths.

Those that take `wildcards` are given to Snakemake as they are; `wildcards` has attributes and can
be unpacked. All return paths: by name, or a list.
"""

from collections.abc import Mapping
from typing import Any

from contrastdp.errors import InputError
from contrastdp.guidance.reads import listed
from contrastdp.plan.experiments import Plan
from contrastdp.plan.paths import Paths, filled
from contrastdp.plan.places import named_model

Files = dict[str, Any]


class Needs:
    """Input functions; each method is the input of the rules that its first line names."""

    def __init__(self, plan: Plan, paths: Paths):
        self.plan, self.paths = plan, paths

    # ---------------------------------------------------------------- data
    def archives(self, wildcards: Any) -> dict[str, str]:
        """prepare_data: the data set's archives by name, where they were downloaded."""
        archives = self.plan.datasets[wildcards.dataset]["archives"]
        folder = self.paths.archives.format(dataset=wildcards.dataset)
        return {name: f"{folder}/{archive['file']}" for name, archive in archives.items()}

    def archive_files(self, wildcards: Any) -> list[str]:
        """prepare_data: the paths of archives alone."""
        return list(self.archives(wildcards).values())

    def archive_origins(self, wildcards: Any) -> list[str]:
        """prepare_data: the origin of each archive, in their order."""
        return [f"{path}.json" for path in self.archive_files(wildcards)]

    # ---------------------------------------------------------------- diffusion models
    def pretrained(self, wildcards: Any) -> list[str]:
        """train_diffusion: the folder of the model that is taken over in the place of training."""
        source = self.plan.denoiser(wildcards.dataset, wildcards.denoiser).get("pretrained")
        where = f"data set {wildcards.dataset}, denoisers.{wildcards.denoiser}.pretrained"
        return named_model(source, where) if source else []

    # ---------------------------------------------------------------- synthetic images
    def sampling(self, wildcards: Any) -> Files:
        """sample_images: the generator's diffusion model, and what its guidance reads."""
        return self.generator(**wildcards)

    def generator(self, dataset: str, generator: str, **names: Any) -> Files:
        """Files of a generator by name; names: real and seed."""
        row = self.plan.generators[generator]
        model = self.paths.diffusion.replace("{denoiser}", row["denoiser"])
        inputs = {"denoiser": f"{model}/model"}
        if "train" in self.plan.guidance_files(dataset, generator):
            inputs["train"] = self.paths.split_of("train")
        found: Files = {
            name: path.format(dataset=dataset, **names) for name, path in inputs.items()
        }
        for role, read in self.plan.guidance_networks(dataset, generator).items():
            files = [
                self.paths.network(name).format(dataset=dataset, **names) for name in listed(read)
            ]
            found[role] = files[0] if isinstance(read, str) else files
        return found

    def of_arm(self, wildcards: Any, name: str) -> str:
        """A classifier trained on the arm's real images."""
        real = self.plan.arms[wildcards.arm]["real"]
        return self.paths.network(name).format(real=real, **wildcards)

    def labeler(self, wildcards: Any) -> str:
        """label_images: the classifier that labels the data set's synthetic images."""
        name = self.plan.labeler(wildcards.dataset)
        return self.paths.network(name).format(**wildcards)

    def shards(self, pattern: str, arm: str, seed: Any) -> list[str]:
        """Files of the arm's generator, one a shard, that hold its candidates."""
        row = self.plan.arms[arm]
        rows = (row | {"seed": seed, "shard": shard} for shard in self.plan.sample_shards(arm))
        return filled(f"{pattern}/shard{{shard}}.npz", rows)

    def selecting(self, wildcards: Any) -> Files:
        """select_images: labelled shards, and networks and images that the selection rule reads."""
        shards = self.shards(self.paths.labelled, wildcards.arm, wildcards.seed)
        return {"shards": shards} | self._judges(wildcards)

    def _judges(self, wildcards: Any) -> Files:
        if self.plan.arms[wildcards.arm]["selection"] == "none":
            return {}
        named = self.plan.selection_networks(wildcards.dataset)
        networks = {role: self.of_arm(wildcards, name) for role, name in named.items()}
        return networks | {"train": self.paths.split_of("train").format(**wildcards)}

    def traced(self) -> list[str]:
        """The target trace: files of the trace that was asked for; InputError where none was."""
        trace = self.plan.trace
        if trace is None:
            raise InputError(
                "say which synthetic image: "
                """--config 'trace={"arm": "contrastive_hnm", "seed": 0, "image": 0}'"""
            )
        dataset = self.plan.arms[trace["arm"]]["dataset"]
        place = self.paths.trace.format(dataset=dataset, **trace)
        return [f"{place}.{kind}" for kind in ("json", "png")]

    def tracing(self, wildcards: Any) -> Files:
        """trace_image: the arm's images, and whatever they were made, labelled and chosen by."""
        row = self.plan.arms[wildcards.arm]
        names = {name: row[name] for name in ("dataset", "generator", "real")}
        found = {
            "selected": f"{self.paths.selected}/images.npz".format(**wildcards),
            "train": self.paths.split_of("train").format(**wildcards),
            "labeler": self.of_arm(wildcards, self.plan.labeler(wildcards.dataset)),
        }
        made_by = self.generator(**names, seed=wildcards.seed)
        for use, files in (("guidance", made_by), ("selection", self._judges(wildcards))):
            for role, path in files.items():
                found[role if found.setdefault(role, path) == path else f"{use}_{role}"] = path
        return found

    def measuring(self, wildcards: Any) -> Files:
        """measure_samples: the generator's first shards, real images, and networks to see both."""
        settings = self.plan.datasets[wildcards.dataset]
        size, limit = settings["sampling"]["shard"], settings["quality"]["images"]
        sampled = max(
            len(self.plan.sample_shards(arm))
            for arm, row in self.plan.arms.items()
            if (row["dataset"], row["generator"]) == (wildcards.dataset, wildcards.generator)
            and row["real"] == int(wildcards.real)
        )
        return self._measured(wildcards, range(min(-(-limit // size), sampled)))

    def measuring_row(self, wildcards: Any) -> Files:
        """measure_generator: likewise, of a row of measured.tsv."""
        own = wildcards.dataset, wildcards.generator, int(wildcards.real)
        return self._measured(wildcards, self.plan.measured_shards(*own))

    def _measured(self, wildcards: Any, shards: range) -> Files:
        folder = self.paths.labelled.format(**wildcards)
        names = ("encoder", "labeler")
        return {
            "shards": [f"{folder}/shard{shard}.npz" for shard in shards],
            **{name: self.paths.network(name).format(**wildcards) for name in names},
            **{name: self.paths.split_of(name).format(**wildcards) for name in ("train", "test")},
        }

    # ---------------------------------------------------------------- gradients
    def gradients(self, wildcards: Any) -> Files:
        """measure_gradients, picture_gradients: both classifiers, both denoisers, real images."""
        names = {**wildcards}
        model_of = {name: names[name] for name in ("real", "seed")}
        pair = self.plan.gradient_pair(wildcards.dataset)
        inputs: Files = {}
        for role, row in pair.items():
            files = self.generator(row["dataset"], row["generator"], **model_of)
            inputs |= {role: files["encoder"], "conditional": files["denoiser"]}
        other = self.plan.datasets[wildcards.dataset]["gradients"]["unconditional"]
        model = self.paths.diffusion.replace("{denoiser}", other).format(**names)
        inputs["unconditional"] = f"{model}/model"
        splits = {name: self.paths.split_of(name).format(**names) for name in ("train", "test")}
        return inputs | splits

    def picturing(self, wildcards: Any) -> Files:
        """picture_gradients: as for measure_gradients, without what only that one reads."""
        left_out = ("unconditional", "train")
        found = self.gradients(wildcards)
        return {name: path for name, path in found.items() if name not in left_out}

    def all_gradients(self, table: str) -> list[str]:
        """make_gradients_table: measures of each data set and seed."""
        pairs = [self.plan.measured.pair(table, name) for name in self.plan.of_dataset(table)]
        each = (p["robust"] | {"seed": k} for p in pairs for k in range(p["robust"]["seeds"]))
        return filled(f"{self.paths.gradients}/measures.json", each)

    def pictures(self, dataset: str) -> str:
        """plot_gradient_pictures: the pictures of seed 0."""
        row = self.plan.gradient_pair(dataset)["robust"]
        return f"{self.paths.gradients}/pictures.npz".format(**row | {"seed": 0})

    def measured_table(self, table: str) -> list[str]:
        """make_measured_table: measures of each row of measured.tsv and seed."""
        rows = self.plan.measured.of_table(table)
        each = (row | {"seed": k} for row in rows for k in range(row["seeds"]))
        return filled(f"{self.paths.measured}.json", each)

    # ---------------------------------------------------------------- robust networks
    def training(self, wildcards: Any) -> Files:
        """train_robust: real images, and the arm's synthetic ones where it has any."""
        names = ("train", "validation")
        inputs = {name: self.paths.split_of(name).format(**wildcards) for name in names}
        if self.plan.arms[wildcards.arm]["synthetic"]:
            inputs["synthetic"] = f"{self.paths.selected}/images.npz".format(**wildcards)
        return inputs

    def attacks(self, wildcards: Mapping[str, Any]) -> list[str]:
        """gather_attacks: attacked shards of the test split; wildcards: dataset, arm, seed."""
        folder = self.paths.attacks.format(**wildcards)
        shards = self.plan.attack_shards({**wildcards}["dataset"])
        return [f"{folder}/shard{shard}.json" for shard in shards]

    def last_attacks(self, wildcards: Mapping[str, Any]) -> list[str]:
        """gather_attacks: the last checkpoint's; none where the data set does not attack it."""
        names = {**wildcards}
        if not self.plan.datasets[names["dataset"]]["attack"]["last"]:
            return []
        folder = self.paths.attacks.format(**names)
        shards = self.plan.attack_shards(names["dataset"])
        return [f"{folder}/last/shard{shard}.json" for shard in shards]

    def auditing(self, wildcards: Any) -> Files:
        """audit_network: a robust network, the arm's whose images are tried on it, and images."""
        model = f"{self.paths.robust}/best.safetensors"
        found = {
            "model": model.format(**wildcards),
            "validation": self.paths.split_of("validation").format(**wildcards),
        }
        if other := self.plan.transfer_arm(wildcards.arm, int(wildcards.seed)):
            found["other"] = model.format(**{**wildcards} | {"arm": other})
        return found

    # ---------------------------------------------------------------- tables
    def of_arms(self, pattern: str, table: str) -> list[str]:
        """`pattern` for each arm of a table and each seed that it has there."""
        return [
            pattern.format(dataset=self.plan.arms[arm]["dataset"], arm=arm, seed=seed)
            for arm in self.plan.table(table)
            for seed in self.plan.seeds(arm, table)
        ]

    def evaluations(self, table: str) -> list[str]:
        """Evaluations of a table's arms: attacked, or on held-out images to choose by."""
        chosen_by = self.plan.tables[table]["chosen_by"]
        folder = self.paths.held_out if chosen_by else self.paths.attacks
        return self.of_arms(f"{folder}/evaluation.json", table)

    def table(self, table: str) -> Files:
        """make_table, make_paper_table: evaluations; but to choose by, outcomes and measures."""
        found = {"evaluations": self.evaluations(table)}
        if self.plan.tables[table]["chosen_by"]:
            return found
        outcomes = self.of_arms(f"{self.paths.attacks}/outcomes.csv", table)
        return found | {"outcomes": outcomes, "measures": self.quality(table)}

    def quality(self, table: str) -> list[str]:
        """make_quality_table: measures of each generator, number of real images and seed."""
        rows = (self.plan.arms[arm] for arm in self.plan.table(table))
        return filled(
            f"{self.paths.quality}.json",
            (
                row | {"seed": seed}
                for row in rows
                if row["generator"]
                for seed in self.plan.seeds(row["arm"], table)
            ),
        )

    def guided_shards(self) -> list[tuple[str, tuple[str, int]]]:
        """make_guidance_table: labelled shards of its arms, (path, (arm, seed)) each."""
        return [
            (path, (arm, seed))
            for arm in self.plan.guided_arms()
            for seed in self.plan.seeds(arm, self.plan.showing("guidance"))
            for path in self.shards(self.paths.labelled, arm, seed)
        ]

    def details(self, table: str) -> list[str]:
        """write_report: further JSON of a table: trainings, attacked shards, models' metrics."""
        attacked = [] if self.plan.tables[table]["chosen_by"] else self.plan.table(table)
        shards = [
            path
            for arm in attacked
            for seed in self.plan.seeds(arm, table)
            for names in [{"dataset": self.plan.arms[arm]["dataset"], "arm": arm, "seed": seed}]
            for path in (*self.attacks(names), *self.last_attacks(names))
        ]
        trainings = self.of_arms(f"{self.paths.robust}/training.json", table)
        return trainings + shards + self._metrics(table)

    def _metrics(self, table: str) -> list[str]:
        found = set()
        for arm in self.plan.table(table):
            row = self.plan.arms[arm]
            if not row["generator"]:
                continue
            generator = self.plan.generators[row["generator"]]
            for seed in self.plan.seeds(arm, table):
                names = {"dataset": row["dataset"], "real": row["real"], "seed": seed}
                used = {self.plan.labeler(row["dataset"])}
                read = self.plan.guidance_networks(row["dataset"], row["generator"])
                used |= {name for names in read.values() for name in listed(names)}
                models = [self.paths.classifier.format(classifier=name, **names) for name in used]
                if row["generator"] in self.plan.external():
                    found.add(f"{self.paths.samples}/shard0.json".format(**row | names))
                else:
                    models += [self.paths.diffusion.format(denoiser=generator["denoiser"], **names)]
                found |= {f"{model}/metrics.json" for model in models}
        return sorted(found)

    # ---------------------------------------------------------------- figures
    def sample_grid(self, dataset: str) -> dict[str, list[str]]:
        """plot_samples: first shards by title, of the plain generator, then of each guided one."""
        shown = self.plan.datasets[dataset]["report"]
        real = self.plan.arms[shown["reference"]]["real"]
        names = {"dataset": dataset, "real": real, "seed": 0, "shard": 0}
        return {
            self.plan.generators[generator]["title"]: filled(
                f"{self.paths.labelled}/shard{{shard}}.npz", [names | {"generator": generator}]
            )
            for generator in (shown["plain"], *shown["guided"])
        }

    def guided_grid(self, dataset: str) -> dict[str, list[str]]:
        """plot_guided_samples: first shards by title, unguided first, then each classifier's."""
        rows = self.plan.measured.quality(self.plan.showing("guided_samples"), dataset)
        return {
            self.plan.generators[row["generator"]]["title"]: filled(
                f"{self.paths.labelled}/shard{{shard}}.npz", [row | {"seed": 0, "shard": 0}]
            )
            for row in rows.values()
        }

    def features(self, dataset: str) -> list[str]:
        """plot_tsne: features of the two arms that the report shows, of seed 0."""
        arms = self.plan.datasets[dataset]["report"]["features"]
        rows = ({"dataset": dataset, "arm": arm, "seed": 0} for arm in arms)
        return filled(f"{self.paths.robust}/features.npz", rows)
