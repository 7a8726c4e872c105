"""What will this run cost? For each rule jobs, hours, disk and FLOPs, before anything runs.

Jobs are those of Snakemake's dry run, so what is done already is not counted; docs/scaling.md.
"""

import argparse
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch

from contrastdp.cost import cost
from contrastdp.cost.dry_run import planned
from contrastdp.cost.flops import basic_passes, flops_per_image
from contrastdp.cost.workload import stored, works
from contrastdp.errors import InputError
from contrastdp.files import read_csv, read_json, write_json
from contrastdp.frames import read_table
from contrastdp.jobs.machine import describe_machine
from contrastdp.plan import experiments
from contrastdp.plan.yaml_files import read_yaml
from contrastdp.report.reference import TIMES

BASE = Path(__file__).resolve().parents[1]


def settings_of(scale):
    return experiments.plan(
        read_yaml,
        partial(read_csv, delimiter="\t"),
        folder=BASE / "config",
        command_line={"scale": scale},
    )


def measured(jobs, path):
    """This machine, a second for each kind of work; what `path` has faster is kept."""
    from contrastdp.cost.throughput import fastest, measure
    from contrastdp.jobs.device import device

    torch.set_num_threads(1)  # as a job has
    place = device("auto")
    importing = "import time, torch, diffusers, sklearn; print(time.process_time())"
    began = subprocess.run([sys.executable, "-c", importing], capture_output=True, check=True)
    name = torch.cuda.get_device_name() if place.type == "cuda" else "one core"
    found = {"device": name, "machine": describe_machine(), "torch": torch.__version__}
    old = read_json(path) if Path(path).is_file() else {}
    if any(old.get(key) != value for key, value in found.items()):
        old = {}
    entries = measure((work for _, of_job, _ in jobs for work in of_job), place)
    return found | {
        "date": time.strftime("%Y-%m-%d"),
        "start": min(float(began.stdout), old.get("start", float("inf"))),
        "entries": fastest(old.get("entries", []), entries),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="demo")
    parser.add_argument("--gpus", type=int, help="jobs side by side, each on a GPU (or core)")
    parser.add_argument("--throughput", help="a file; by default one of config/throughput")
    parser.add_argument("--measure", help="measure this machine now, and keep its throughput here")
    parser.add_argument(
        "--flops", type=float, help="peak FLOP/s to assume in place of a measured one"
    )
    parser.add_argument("--utilisation", type=float, help="likely share of the peak")
    parser.add_argument("--robust", default="0.4,0.7,1", help="share of images AutoAttack leaves")
    parser.add_argument("targets", nargs="*", help="of snakemake; by default the scale's main one")
    given = parser.parse_args()

    plan = settings_of(given.scale)
    default = "a100.json" if given.scale in ("workstation", "paper") else "two_cores.json"
    path = given.measure or given.throughput or BASE / "config" / "throughput" / default
    if not given.measure:
        cost.check_throughput(read_json(path), str(path))  # before the dry run, which takes longer
    found = planned([*given.targets, "--config", f"scale={given.scale}"], folder=BASE)
    jobs = [(rule, works(rule, w, plan), stored(rule, w, plan)) for rule, w in found]
    if given.measure:
        write_json(path, measured(jobs, path))
    throughput = read_json(path)
    throughput = cost.with_assumed(throughput, flops=given.flops, utilisation=given.utilisation)
    times = read_table(BASE / "results" / "reference" / "times.csv", TIMES).set_index("rule")
    earlier = (times["seconds"] / times["jobs"]).to_dict()
    earlier |= {rule: 0.0 for rule, wildcards in found if wildcards is None}
    costs = cost.cost_of_jobs(
        jobs,
        throughput,
        flops_of=flops_per_image,
        parameters_of=lambda model: basic_passes(model)["parameters"],
        earlier=earlier,
        robust_share=cost.shares(given.robust),
    )
    unit = "core" if "entries" in throughput and throughput["device"] == "one core" else "GPU"
    print(cost.table(costs, unit))
    workers = (1 if unit == "GPU" else 2) if given.gpus is None else given.gpus
    wall = cost.in_words(*cost.wall_time(costs, workers))
    print(f"\n{workers} {unit}(s): {wall} if the likely sum holds")
    print(f"throughput: {throughput['device']}, {Path(path).name}; docs/scaling.md explains it")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"plan_run: {error}")
