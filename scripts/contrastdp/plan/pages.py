"""Pages of the report: the tables and figures of each, with their captions, and their files."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from contrastdp.errors import InputError
from contrastdp.files import read_csv
from contrastdp.plan.captions import FIGURES, GRADIENTS, THEORY, THEORY_FIGURES, THEORY_TABLE
from contrastdp.plan.experiments import Plan
from contrastdp.plan.needs import Needs
from contrastdp.plan.settings import parse_rows
from contrastdp.plan.yaml_files import read_yaml

CELL = ("table", "angle", "d", "source", "n")
# What names a row of each file of config/reported
REPORTED = {"contrastive_dp": ("id",), "gaussian": CELL, "gaussian_version1": CELL}
REPORTED |= {"robust_guidance": ("table", "dataset", "method", "setting", "metric")}
MAY_LACK = ("setting",)  # of a name, where the method says all


def read_claims(path: str | Path) -> list[dict[str, Any]]:
    """The list `claims` of a YAML file; judge_claims checks all but their scopes.

    Raises InputError as read_yaml does, and where there is no such list.
    """
    found = read_yaml(path).get("claims")
    if not isinstance(found, list) or not all(
        isinstance(claim, dict) and isinstance(claim.get("scope"), str) for claim in found
    ):
        raise InputError(f"{path}: holds no list 'claims', each with a scope; restore it")
    return found


def read_reported(folder: str | Path) -> dict[str, list[dict[str, str]]]:
    """The paper's values by file, as rows of text; the jobs that read them check their numbers.

    Raises InputError as read_csv does, and for a row that lacks its name or stands twice.
    """
    found = {}
    for name, key in REPORTED.items():
        path = Path(folder) / f"{name}.csv"
        found[name] = read_csv(path)
        columns = dict.fromkeys((*key, *(found[name][0] if found[name] else ())), str)
        parse_rows(found[name], columns, key, str(path), may_lack=MAY_LACK)
    return found


class Pages:
    """What each page shows, and the files behind it."""

    def __init__(self, plan: Plan, needs: Needs, claims: Iterable[Mapping[str, Any]]):
        """claims: as in config/claims.yaml; their scopes are tables, or parts of section 3."""
        self.plan, self.needs, self.paths = plan, needs, needs.paths
        scopes = {claim["scope"] for claim in claims}
        self.claimed = [table for table in plan.tables if table in scopes]
        # The page of the main table, the sheet's first, is the report.
        self.main = next(iter(plan.tables))
        self.names = {"report" if table == self.main else table: table for table in plan.tables}

    def file(self, table: str) -> str:
        """A table's page; InputError where this scale has no arm of the table."""
        if not self.plan.table(table):
            raise InputError(
                f"scale '{self.plan.scale}' has no arm of table '{table}' in config/arms.tsv; "
                f"choose another with --config scale=..., or add a row"
            )
        name = next(page for page, shown in self.names.items() if shown == table)
        return f"{self.paths.results}/{name}.html"

    def files(self) -> list[str]:
        """The pages of the scale's main target."""
        return [self.file(table) for table in self.plan.pages]

    # ---------------------------------------------------------------- what a page shows
    def with_theory(self, table: str) -> bool:
        """Whether a table's page shows section 3 too."""
        reports = (self.plan.datasets[name]["report"] for name in self.plan.of_dataset(table))
        return THEORY in self._figures(table) and any(report["theory"] for report in reports)

    def tables(self, table: str) -> list[dict[str, str]]:
        """Tables of a page: title, CSV, and the Markdown twin or, without one, the caption."""
        row = self.plan.tables[table]
        named = {row["title"]: table}
        if "guidance" in self._figures(table):
            named["Size of the guidance"] = "guidance_size"
        if row["kind"] == "paper":
            quality = {"Quality of the synthetic images": f"{table}_quality"}
            named = {row["title"]: f"{table}_paper"} | quality
        if self.plan.measured.of_table(table):
            named["Quality of the images by setting"] = f"{table}_measured"
        if GRADIENTS in self._figures(table):
            named["Alignment of the classifiers' gradients"] = f"{table}_gradients"
        if row["audited"]:
            named["Audit for false robustness"] = f"{table}_audit"
        folder = self.paths.tables
        found = [
            {"title": title, "csv": f"{folder}/{name}.csv", "markdown": f"{folder}/{name}.md"}
            for title, name in named.items()
        ]
        if not self.with_theory(table):
            return found
        words = {name: THEORY_TABLE[name] for name in ("title", "caption")}
        return [*found, words | {"csv": f"{self.paths.theory}/tables/{THEORY_TABLE['file']}.csv"}]

    def figures(self, table: str) -> list[dict[str, str]]:
        """Figures of a page: title, caption and file."""
        found = []
        for dataset in self.plan.of_dataset(table):
            title = self.plan.datasets[dataset]["title"]
            for name in self._figures(table):
                if name != THEORY:
                    figure, names = FIGURES[name], {"dataset": dataset, "table": table}
                    shown = figure | {"title": f"{title}: {figure['title']}"}
                    found.append(_placed(shown, self.paths.figures, **names))
        if self.with_theory(table):
            found += [_placed(f, f"{self.paths.theory}/figures") for f in THEORY_FIGURES]
        return found

    def _figures(self, table: str) -> list[str]:
        return (self.plan.tables[table]["figures"] or "").split()

    def sizes_from(self, table: str) -> list[str]:
        """Tables whose arms a figure of synthetic sizes shows: the main one, and its own."""
        return list(dict.fromkeys([self.main, table]))

    def inputs(self, wildcards: Any) -> dict[str, Any]:
        """write_report: what a page reads or shows; `needs` is what it only shows."""
        table = self.names[wildcards.page]
        shown = [figure["png"] for figure in self.figures(table)]
        shown += _paths(self.tables(table))
        details = self.needs.details(table)
        inputs: dict[str, Any] = {"evaluations": self.needs.evaluations(table)}
        if self.with_theory(table):
            inputs["claims"] = f"{self.paths.theory}/claims.csv"
            details = [*details, f"{self.paths.theory}/toy/training.json"]
        elif table in self.claimed:
            inputs["claims"] = f"{self.paths.tables}/{table}_claims.csv"
        return inputs | {"details": details, "needs": shown}

    def all_figures(self) -> list[str]:
        """Figures of all pages of the scale's main target."""
        return [figure["png"] for table in self.plan.pages for figure in self.figures(table)]

    # ---------------------------------------------------------------- claims and recorded runs
    def runs(self, table: str) -> str:
        """Runs of a table, one an arm and seed."""
        kind = "paper_runs" if self.plan.tables[table]["kind"] == "paper" else "runs"
        return f"{self.paths.tables}/{table}_{kind}.csv"

    def evidence(self, table: str) -> dict[str, str]:
        """What the claims on a table are judged by: its name in claims.yaml -> file."""
        found = {table: self.runs(table)}
        if self.plan.measured.of_table(table):
            found["measured"] = f"{self.paths.tables}/{table}_measured_runs.csv"
        if GRADIENTS in self._figures(table):
            found["gradients"] = f"{self.paths.tables}/{table}_gradients_runs.csv"
        return found

    def claimed_pages(self) -> list[str]:
        """Tables of this scale's main target that claims are about."""
        return [table for table in self.plan.pages if table in self.claimed]

    def judged(self) -> list[str]:
        """Judged claims of this scale's main target."""
        found = [f"{self.paths.tables}/{table}_claims.csv" for table in self.claimed_pages()]
        theory = any(map(self.with_theory, self.plan.pages))
        return [f"{self.paths.theory}/claims.csv", *found] if theory else found

    def links(self) -> dict[str, list[str]]:
        """What shows the evidence of each claimed scope, made with the claims or before them."""
        theory = self.paths.theory
        shown = {
            table: [self.tables(table)[0]["markdown"], f"{self.paths.tables}/{table}_claims.md"]
            for table in self.claimed_pages()
        }
        simulated = {"theory": f"{theory}/tables/gaussian.md", "toy": f"{theory}/toy/measures.csv"}
        return shown | {scope: [path, f"{theory}/claims.md"] for scope, path in simulated.items()}

    def recorded(self, table: str) -> list[str]:
        """The files of a table that the repository keeps."""
        names = [f"{table}_{name}" for name in ("claims.csv", "claims.md") if table in self.claimed]
        if self.plan.tables[table]["kind"] == "paper":
            paper = ("paper.md", "paper_cells.csv", "paper_comparisons.csv", "paper_runs.csv")
            rest = ("quality.csv", "quality.md", "audit.csv", "audit.md")
            names = [f"{table}_{name}" for name in (*paper, *rest)] + names
            return [f"{self.paths.tables}/{name}" for name in names]
        shown = _paths(self.tables(table))
        return list(dict.fromkeys([*shown, *(f"{self.paths.tables}/{name}" for name in names)]))


def _paths(tables: Iterable[Mapping[str, str]]) -> list[str]:
    """CSV files of tables, each with its Markdown twin where it has one."""
    return [table[kind] for table in tables for kind in ("csv", "markdown") if kind in table]


def _placed(figure: Mapping[str, str], folder: str, **names: str) -> dict[str, str]:
    """A figure with the path of its file."""
    words = {name: figure[name] for name in ("title", "caption")}
    return words | {"png": f"{folder}/{figure['file'].format(**names)}.png"}
