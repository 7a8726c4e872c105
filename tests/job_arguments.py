"""Whether each job of a scale gives its script's function the arguments that it takes, unrun.

    python tests/job_arguments.py SCALE [TARGET ...]

Builds Snakemake's graph of the jobs in this folder's workflow, and binds the files and parameters
of each job to the function of its script. Prints a line a fault, then the number of jobs.
"""

import importlib
import inspect
import sys
from pathlib import Path
from types import SimpleNamespace

from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
    StorageSettings,
)

OF_RUN = {"resume": {"minutes": 1}, "mirror": None}


def main() -> None:
    scale, *targets = sys.argv[1:]
    folder = Path.cwd()
    sys.path.insert(0, str(folder / "scripts"))
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config={"scale": scale}),
            storage_settings=StorageSettings(),
            snakefile=folder / "Snakefile",
            workdir=folder,
        )
        graph = workflow.dag(dag_settings=DAGSettings(targets=set(targets), forceall=True))
        # the interface runs a graph or prints it, and has no name for its jobs
        inside = workflow._workflow
        inside.dag_settings = graph.dag_settings
        inside._prepare_dag(forceall=True, ignore_incomplete=True, lock_warn_only=True)
        inside._build_dag()
        jobs = [job for job in inside.dag.jobs if job.rule.script]
        print("\n".join(sorted({fault for job in jobs if (fault := fault_of(job))})))
        print(f"{len(jobs)} jobs of {len({job.rule.name for job in jobs})} rules")


def fault_of(job) -> str:
    """What does not fit of a job's arguments, in a line; nothing where all do."""
    from contrastdp.jobs.run import arguments_of

    name = Path(str(job.rule.script)).stem
    function = getattr(importlib.import_module(name), name)
    given = SimpleNamespace(input=job.input, output=job.output, params=job.params, config=OF_RUN)
    try:
        arguments = arguments_of(function, given)
        arguments.pop("code", None)
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        return f"{job.rule.name}: {error}"
    return ""


if __name__ == "__main__":
    main()
