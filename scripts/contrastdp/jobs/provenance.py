"""What produced a result: settings, seed, commit, package versions, device and precision."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from contrastdp.files import digests

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


# ---------------------------------------------------------------- the same result again
def made_with(code: str, settings: Any, files: Mapping[str, str]) -> dict[str, str]:
    """Digests of all that decides a result, by name.

    code: of code_digest; settings: as JSON would take them; files: content_of what is read.
    """
    texts = {
        "settings": json.dumps(settings, sort_keys=True, default=str),
        "package versions": json.dumps(versions(), sort_keys=True),
    }
    found = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    return found | {"code": code} | dict(files)


def content_of(path: str | Path) -> str:
    """The digest of a file or model folder; InputError where there is none."""
    return ",".join(digests(path).values())


def others(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Names of what differs between two results of made_with."""
    names = sorted(found.keys() | wanted.keys())
    return ", ".join(name for name in names if found.get(name) != wanted.get(name))
