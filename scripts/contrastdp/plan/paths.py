"""Where the workflow's files lie: patterns with {names} in braces, as Snakemake's wildcards."""

from collections.abc import Iterable
from typing import Any


class Paths:
    """The patterns of a scale's files; what all scales share lies beside them."""

    def __init__(self, scale: str):
        """scale: its name, which is that of its folder."""
        self.results = f"results/{scale}"
        self.archives = "results/archives/{dataset}"
        self.theory = "results/theory"
        self.reference = f"results/reference/{scale}"
        self.figures = f"{self.results}/figures"
        self.tables = f"{self.results}/tables"
        of_data = f"{self.results}/{{dataset}}"
        of_model, of_arm = "n{real}/seed{seed}", "{arm}/seed{seed}"
        self.split = f"{of_data}/data/{{split}}.npz"
        self.origin = f"{of_data}/data/origin.json"
        self.classifier = f"{of_data}/classifier/{{classifier}}/{of_model}"
        self.diffusion = f"{of_data}/diffusion/{{denoiser}}/{of_model}"
        self.samples = f"{of_data}/samples/{{generator}}/{of_model}"
        self.labelled = f"{of_data}/labelled/{{generator}}/{of_model}"
        self.quality = f"{of_data}/quality/{{generator}}/{of_model}"
        self.measured = f"{of_data}/measured/{{generator}}/{of_model}"
        self.gradients = f"{of_data}/gradients/{of_model}"
        self.selected = f"{of_data}/selected/{of_arm}"
        self.robust = f"{of_data}/robust/{of_arm}"
        self.attacks = f"{of_data}/attacks/{of_arm}"
        self.held_out = f"{of_data}/held_out/{of_arm}"
        self.audit = f"{of_data}/audit/{of_arm}"
        self.trace = f"{of_data}/traces/{of_arm}/image{{image}}"

    def split_of(self, name: str) -> str:
        """The pattern of one split: train, validation or test."""
        return self.split.replace("{split}", name)

    def network(self, name: str) -> str:
        """The pattern of a classifier's weights: labeler or encoder."""
        return f"{self.classifier.replace('{classifier}', name)}/model.safetensors"

    def log(self, rule: str, *names: str, root: str | None = None) -> str:
        """The log of a rule's job, a folder for each name; root: in the place of the scale's."""
        return f"{_of_job(root or self.results, 'logs', rule, names)}.log"

    def benchmark(self, rule: str, *names: str, root: str | None = None) -> str:
        """Snakemake's benchmark of a rule's job, beside its log."""
        return f"{_of_job(root or self.results, 'benchmarks', rule, names)}.tsv"

    def theory_figures(self, **names: str) -> dict[str, str]:
        """Outputs of a rule that plots section 3, PNG and PDF of each: key -> its file's name."""
        return {
            f"{key}_{kind}": f"{self.theory}/figures/{name}.{kind}"
            for key, name in names.items()
            for kind in ("png", "pdf")
        }


def filled(pattern: str, rows: Iterable[dict[str, Any]]) -> list[str]:
    """The pattern's files for each row of names, each file once, in order."""
    return list(dict.fromkeys(pattern.format(**row) for row in rows))


def _of_job(root: str, kind: str, rule: str, names: tuple[str, ...]) -> str:
    return "/".join((root, kind, rule, *names))
