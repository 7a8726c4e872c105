"""What produced a result: settings, seed, commit, package versions, device and precision."""

import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "diffusers", "numpy", "pyautoattack", "scikit-learn", "safetensors")


def provenance(
    *, seed: int | None, settings: Mapping[str, Any], device: str, precision: str
) -> dict[str, Any]:
    """What produced a result: settings, seed, commit, package versions, device and precision.

    precision: that its networks really computed in (float32, bfloat16).
    """
    return {
        "seed": seed,
        "settings": dict(settings),
        "commit": commit(),
        "versions": versions(),
        "device": str(device),
        "precision": precision,
    }


def versions() -> dict[str, str]:
    """Python's version and those of the packages that decide a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def commit() -> str:
    """The checkout's commit, with '+' where files differ from it; 'unknown' outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
