"""What produced a result: settings, seed, commit, package versions, device and precision."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from contrastdp.files import digests

# What sends git to another repository than that of its folder, as a hook's does; most of them are
# listed by `git rev-parse --local-env-vars`.
GIT_VARIABLES = (
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS"),
    *("GIT_CONFIG_COUNT", "GIT_OBJECT_DIRECTORY", "GIT_DIR", "GIT_WORK_TREE"),
    *("GIT_IMPLICIT_WORK_TREE", "GIT_GRAFT_FILE", "GIT_INDEX_FILE", "GIT_NO_REPLACE_OBJECTS"),
    *("GIT_REPLACE_REF_BASE", "GIT_PREFIX", "GIT_INTERNAL_SUPER_PREFIX", "GIT_SHALLOW_FILE"),
    *("GIT_COMMON_DIR", "GIT_CEILING_DIRECTORIES", "GIT_NAMESPACE"),
)
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
    """The checkout's commit, with '+' where files differ from it; 'unknown' outside a checkout.

    Another repository's is none, although this file may lie below it, as an installed copy does.
    """
    file = Path(__file__)
    clean = [part for name in GIT_VARIABLES for part in ("-u", name)]

    def git(*arguments: str) -> str:
        command = ["env", *clean, "git", "-C", str(file.parent), *arguments]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, UnicodeDecodeError, subprocess.CalledProcessError):
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


def content_of(path: str | Path | Sequence[str]) -> str:
    """The digest of a file or model folder, or of several; InputError where there is none."""
    paths = [path] if isinstance(path, str | Path) else path
    return ",".join(digest for one in paths for digest in digests(one).values())


def others(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Names of what differs between two results of made_with."""
    names = sorted(found.keys() | wanted.keys())
    return ", ".join(name for name in names if found.get(name) != wanted.get(name))
