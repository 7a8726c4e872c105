"""Plot accuracy against the number of real images, synthetic ones filling up (paper: Fig. 3)."""

from collections.abc import Mapping, Sequence
from typing import Any

from contrastdp.errors import InputError
from contrastdp.jobs.run import run
from contrastdp.report import figures
from contrastdp.report.tables import check_evaluations, read_evaluations


def plot_real_sizes(
    *,
    evaluations: Sequence[str],
    arms: Sequence[Mapping[str, Any]],
    generators: Mapping[str, str],
    total: int,
    png: str,
    pdf: str,
) -> None:
    """Draw clean and robust accuracy, a column an eps, a line a generator and one without any.

    evaluations: evaluation.json files, one for each arm and seed; arms: rows as make_table's, of
    one data set, with eps where there are several; generators: name -> title of the lines, in
    order (arms of others are left out); total: images in all. At `total` real images a generator's
    arm is expected to train on synthetic images alone (train_on: synthetic).
    Raises InputError for a generator without arm, two arms at one place, or an arm that does not
    fill up to `total`.
    """
    found = read_evaluations(evaluations)
    check_evaluations(found, arms)
    titles = {None: "real images alone"} | dict(generators)
    panels: dict[str, dict[str, dict[int, list[dict[str, float]]]]] = {}
    chosen = {name: [arm for arm in arms if arm["generator"] == name] for name in titles}
    for name, title in titles.items():
        if name is not None and not chosen[name]:
            raise InputError(f"generator {name}: no arm has it; name another or add an arm")
        for arm in chosen[name]:
            own = 0 if arm.get("train_on") == "synthetic" else arm["real"]
            if name is not None and own + arm["synthetic"] != total:
                raise InputError(
                    f"arm {arm['arm']}: trains on {own} real and {arm['synthetic']} synthetic "
                    f"images, not {total} in all; leave it out of the figure"
                )
            contents = [found[arm["arm"], seed] for seed in arm["seeds"]]
            line = panels.setdefault(f"ε = {contents[0]['attack']['eps']}", {})
            line = line.setdefault(title, {})
            if arm["real"] in line:
                raise InputError(f"arm {arm['arm']}: another has its generator and real images")
            line[arm["real"]] = [
                {kind: 100 * content[f"{kind}_accuracy"] for kind in ("clean", "robust")}
                for content in contents
            ]
    if not panels:
        raise InputError("plot_real_sizes: no arm to draw; add arms to the table")
    figures.save(figures.real_size_curves(panels, total=total), png=png, pdf=pdf)


if "snakemake" in globals():
    run(plot_real_sizes, snakemake)
