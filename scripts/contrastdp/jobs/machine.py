"""The machine that a record was made on, in words a stranger can compare with their own."""

import os
import platform
from pathlib import Path


def describe_machine() -> dict[str, str | int | None]:
    """Processor, usable cores, memory in GiB, operating system and Python; no host name."""
    processor = _from_proc("/proc/cpuinfo", "model name") or platform.processor()
    usable = getattr(os, "sched_getaffinity", None)
    return {
        "processor": processor or "unknown",
        "cores": len(usable(0)) if usable else os.cpu_count(),
        "memory_gib": round(_memory_bytes() / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _from_proc(path: str, key: str) -> str:
    """The value of the first line 'key : value' of a file of /proc; '' where there is none."""
    file = Path(path)
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    found = (line.partition(":")[2] for line in lines if line.startswith(key))
    return " ".join(next(found, "").split())


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
