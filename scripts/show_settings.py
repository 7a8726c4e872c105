"""Every resolved setting of an arm or a generator, and where it comes from.

make show ARM=contrastive_hnm SCALE=demo
make show GENERATOR=contrastive_hnm
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from contrastdp.errors import InputError
from contrastdp.files import read_csv
from contrastdp.plan import experiments, origins, settings_page
from contrastdp.plan.yaml_files import command_line, read_yaml

BASE = Path(__file__).resolve().parents[1]


def table(tree):
    """Lines of name, value and origin, in columns."""
    rows = [(name, str(value), origin) for name, value, origin in origins.listed(tree)]
    names, values = (max(len(row[k]) for row in rows) for k in range(2))
    values = min(values, 30)  # a longer one pushes its own origin alone
    return [f"{name:{names}}  {value:{values}}  {origin}" for name, value, origin in rows]


def shown(plan, arm, generator):
    """The lines of what was asked for."""
    if arm:
        return [f"arm {arm}, scale {plan.scale}", *table(origins.of_arm(plan, arm))]
    rows = plan.arms.values()
    used = {row["dataset"] for row in rows if row["generator"] == generator}
    lines = []
    for dataset in sorted(used or plan.datasets):
        lines += [f"generator {generator}, data set {dataset}, scale {plan.scale}"]
        lines += [*table(origins.of_generator(plan, dataset, generator)), ""]
    return lines[:-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--arm")
    asked.add_argument("--generator")
    asked.add_argument("--page", metavar="FILE", help="write what each setting is, as Markdown")
    parser.add_argument("--scale", default="demo")
    parser.add_argument("--config", nargs="*", default=[], metavar="KEY=VALUE", help="as snakemake")
    given = parser.parse_args()
    if given.page:
        definitions = read_yaml(BASE / "config" / "schema.yaml")["$defs"]
        Path(given.page).write_text(settings_page.page(definitions), encoding="utf-8")
        return
    plan = experiments.plan(
        read_yaml,
        partial(read_csv, delimiter="\t"),
        folder=BASE / "config",
        command_line={"scale": given.scale} | command_line(given.config),
    )
    print("\n".join(shown(plan, given.arm, given.generator)))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"show_settings: {error}")
