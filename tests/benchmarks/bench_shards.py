"""What the local executor takes for a job that does nothing."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

SHARDS = 2000


def bench_shards(tmp_path):
    shutil.copy2(Path(__file__).parent / "shards" / "Snakefile", tmp_path)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, "--config", f"shards={SHARDS}"], cwd=tmp_path, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"\n{SHARDS} empty shards: {1000 * taken / SHARDS:.0f} ms of processor time each, ", end=""
    )
    print(f"{after.ru_maxrss / 1024:.0f} MiB at most")
