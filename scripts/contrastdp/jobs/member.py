"""One of the processes of a job that has several: a script's function, called with its Group."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from contrastdp.errors import InputError
from contrastdp.jobs.parallel import joined
from contrastdp.jobs.processes import Lost, member
from contrastdp.jobs.run import finish_in_peace, let_see, logger, set_up_log, set_up_torch


def take_part() -> None:
    """Be the process, until its end; the task is told by contrastdp.jobs.run."""
    member(_take_part)


def _take_part(task: dict[str, Any]) -> None:
    set_up_log(task["log"], mode="a", rank=task["rank"])
    if task["gpu"]:
        let_see(task["gpu"])
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # all on one machine, whatever its name
    set_up_torch(task["threads"])
    script = Path(task["script"])
    sys.path.insert(0, str(script.parent))
    function = getattr(importlib.import_module(script.stem), task["function"])
    try:
        with joined(task["rank"], task["size"], task["meeting"]) as group:
            function(**task["arguments"], group=group)
            finish_in_peace()
    except (InputError, Lost):
        raise  # one line will do
    except BaseException:
        logger.exception("%s failed", task["function"])
        raise
