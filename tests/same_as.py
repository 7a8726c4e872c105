"""Whether this checkout plans and makes what another does, for a refactor: exits with 1 if not.

    python tests/same_as.py OTHER [SCALE ...]

OTHER is a checkout of the code before. Compares the jobs of a dry run at each scale and, where both
have results of the smoke scale, every file of these but for what a clock or a commit is part of.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from contrastdp.files import read_csv

ROOT = Path(__file__).parents[1]
PLUGIN = "snakemake_logger_plugin_jobs"
SCALES = ("smoke", "demo", "reduced", "workstation", "paper")
RESULTS = ("results/smoke", "results/theory")
# Of JSON and histories: what says when and by which code something was made.
UNLIKE = {"provenance", "seconds"}
COMPARED = {".csv", ".md", ".tex", ".npz", ".safetensors", ".png", ".json"}
RUNS = "import sys; sys.path.append(sys.argv.pop(1)); from snakemake.cli import main; main()"


def jobs(folder: Path, scale: str) -> list[str]:
    """The jobs of a dry run of everything, a line each: rule, wildcards, outputs and log."""
    with tempfile.TemporaryDirectory() as place:
        # a copy: beside the plugin lies this checkout's library, which the other must not find
        shutil.copytree(ROOT / "scripts" / PLUGIN, Path(place) / PLUGIN)
        events = Path(place) / "events.jsonl"
        words = [sys.executable, "-c", RUNS, place, "--dry-run", "--forceall", "--cores", "1"]
        words += ["--config", f"scale={scale}", "--logger", "jobs", "--logger-jobs-file", events]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{folder}, scale {scale}:\n{done.stdout}{done.stderr}")
        found = map(json.loads, events.read_text(encoding="utf-8").splitlines())
        names = ("rule_name", "wildcards", "output", "log")
        return sorted(
            json.dumps({name: event.get(name) for name in names}, sort_keys=True)
            for event in found
            if event.get("rule_name")
        )


def results(folder: Path) -> Iterator[str]:
    """Paths of results that are compared, from the checkout's folder."""
    for place in RESULTS:
        for path in (folder / place).rglob("*"):
            inside = path.relative_to(folder)
            hidden = any(part.startswith(".") for part in inside.parts)  # kept for a failed rerun
            left_out = hidden or {"logs", "benchmarks"} & set(inside.parts)
            if path.suffix in COMPARED and not left_out:
                yield str(inside)


def content(path: Path) -> Any:
    """A file's bytes; of JSON and histories, what is the same whenever they are made."""
    if path.suffix == ".json":
        return lasting(json.loads(path.read_bytes()))
    if path.name == "history.csv":
        return lasting(read_csv(path))
    return path.read_bytes()


def lasting(value: Any) -> Any:
    """A value of JSON without the keys of UNLIKE, at any depth."""
    if isinstance(value, dict):
        return {key: lasting(inner) for key, inner in value.items() if key not in UNLIKE}
    return [lasting(inner) for inner in value] if isinstance(value, list) else value


def main() -> None:
    if not sys.argv[1:]:
        sys.exit(__doc__)
    other, *scales = sys.argv[1:]
    faults = []
    for scale in scales or SCALES:
        before, now = jobs(Path(other), scale), jobs(ROOT, scale)
        unlike = sorted(set(before) ^ set(now))
        print(f"scale {scale}: {len(before)} jobs before, {len(now)} now, {len(unlike)} differ")
        faults += unlike[:6]
    before, now = set(results(Path(other))), set(results(ROOT))
    both = sorted(before & now)
    unlike = [name for name in both if content(Path(other) / name) != content(ROOT / name)]
    print(f"smoke: {len(both)} files of both compared, {len(unlike)} differ")
    print(f"smoke: {len(before - now)} files of the other alone, {len(now - before)} of this one")
    faults += unlike + (sorted(before ^ now) if both else [])
    sys.exit("\n".join(faults) if faults else 0)


if __name__ == "__main__":
    main()
