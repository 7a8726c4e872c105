"""A real SLURM of one node on the loopback, for tests: munged, slurmctld, slurmd in one folder.

Nothing of it is installed, no unit is started and no file outside the folder is written. It needs
no root. The node has more processors, memory and GPUs than the machine (its GPUs are /dev/null and
the like), so that jobs of a real profile fit.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

DAEMONS = ("munged", "slurmctld", "slurmd")
# sacct: the plugin wants the program, though there is nothing here that it could ask.
CLIENTS = ("munge", "sbatch", "srun", "squeue", "scancel", "scontrol", "sacct", "setpriv")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
LOOPBACK = "127.0.0.1"
CONFIGURATION = """\
ClusterName=toy
SlurmctldHost={host}({address})
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={root}/munge/socket
CommunicationParameters={communication}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
# Every second the memory of each step is looked at, and one over its limit is killed.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
EnforcePartLimits=ALL
MinJobAge=3600
KillWait=5
ReturnToService=2
GresTypes=gpu
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr={address} Port={ports[1]} CPUs=8 RealMemory=200000 Gres=gpu:{gpus}
PartitionName=main Nodes=ALL Default=YES MaxTime=7-0
"""
GPUS = ("/dev/null", "/dev/zero", "/dev/full")


class NoCluster(Exception):
    """The cluster cannot be had here; the message says why."""


def wait_for(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until `condition()`; raises TimeoutError where it takes longer than `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


class Job(NamedTuple):
    """What squeue says of a job; name: the plugin's comment, rule_{rule}_wildcards_{wildcards}."""

    state: str
    time_limit: str
    memory: str
    name: str


class Cluster:
    """Up between `start` and `stop`; `environment` is what its programs, and its jobs, need."""

    def __init__(self) -> None:
        missing = [name for name in (*DAEMONS, *CLIENTS) if not shutil.which(name, path=PATH)]
        if missing:
            raise NoCluster(
                f"no {', '.join(missing)}; Debian, Ubuntu: apt-get install --no-install-recommends "
                "slurmctld slurmd slurm-client munge"
            )
        # Short: a socket's path may have some hundred characters. munged wants it open to all.
        self.root = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.root.chmod(0o755)
        self.environment = {
            "SLURM_CONF": str(self.root / "slurm.conf"),
            "PATH": f"{self.root}/bin:{PATH}",
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Bring it up; raises NoCluster, with the logs' ends, where it does not come."""
        try:
            self._write()
            self._daemon("munged", "--foreground", *self._munge_files())
            wait_for(lambda: self._answers("munge", "-n", f"-S{self._socket}"), "munged", 10)
            self.start_controller()
            self._daemon("slurmd", "-D")
            wait_for(lambda: self._ask("sinfo", "-h", "-o", "%T") == "idle", "slurmd", 30)
        except (OSError, TimeoutError, subprocess.SubprocessError) as error:
            logs = [path.read_text(errors="replace")[-600:] for path in self.root.glob("*.log")]
            self.stop()
            raise NoCluster(f"SLURM does not come up ({error}): {' '.join(logs)}") from error

    def _write(self) -> None:
        for name in ("munge", "state", "spool", "bin"):
            (self.root / name).mkdir(mode=0o755)
        key = self.root / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        host, user = socket.gethostname().partition(".")[0], getpass.getuser()
        try:
            own = socket.gethostbyname(socket.gethostname()) == LOOPBACK
        except OSError:
            own = False
        # SLURM binds to the host name's own address or to all: to the loopback where that is it.
        (self.root / "slurm.conf").write_text(
            CONFIGURATION.format(
                root=self.root,
                host=host,
                address=LOOPBACK,
                user=user,
                ports=free_ports(2),
                gpus=len(GPUS),
                communication="NoInAddrAny,NoCtldInAddrAny" if own else "",
            )
        )
        gres = "".join(f"NodeName={host} Name=gpu File={device}\n" for device in GPUS)
        (self.root / "gres.conf").write_text(gres)
        # Else slurmd wants a usable tree of cgroups, which nothing here uses.
        (self.root / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        # The plugin clears SLURM_CONF before it calls srun in a job.
        srun = self.root / "bin" / "srun"
        conf, real = self.environment["SLURM_CONF"], shutil.which("srun", path=PATH)
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={conf} exec {real} "$@"\n')
        srun.chmod(0o755)

    @property
    def _socket(self) -> Path:
        return self.root / "munge" / "socket"

    def _munge_files(self) -> list[str]:
        folder = self.root / "munge"
        return [
            f"--key-file={folder}/key",
            f"--socket={self._socket}",
            f"--pid-file={folder}/pid",
            f"--log-file={self.root}/munged.log",
            f"--seed-file={folder}/seed",
        ]

    # ---------------------------------------------------------------- daemons
    def _daemon(self, name: str, *arguments: str) -> None:
        """Start a daemon in the foreground; the kernel kills it where this process dies."""
        log = (self.root / f"{name}.out.log").open("ab")
        with log:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", name, *arguments],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_controller(self) -> None:
        """Start slurmctld and wait until it answers; it takes up the state of one before."""
        self._daemon("slurmctld", "-D")
        wait_for(lambda: self._answers("scontrol", "ping"), "slurmctld", 20)

    def kill_controller(self) -> None:
        """End slurmctld with SIGKILL."""
        self._daemons["slurmctld"].kill()
        self._daemons["slurmctld"].wait()

    # ---------------------------------------------------------------- questions and orders
    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a client of SLURM, ten seconds at most."""
        return subprocess.run(
            command,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )

    def _answers(self, *command: str) -> bool:
        return self.run(*command).returncode == 0

    def _ask(self, *command: str) -> str:
        return self.run(*command).stdout.strip()

    def jobs(self) -> dict[str, Job]:
        """Every job that the controller knows, by id."""
        lines = self._ask("squeue", "-h", "--states=all", "-o", "%i|%T|%l|%m|%k").splitlines()
        found = (line.split("|", 4) for line in lines)
        return {number: Job(*columns) for number, *columns in found}

    def saved(self) -> float:
        """When the controller last wrote down its jobs, in seconds since 1970."""
        return (self.root / "state" / "job_state").stat().st_mtime

    # ---------------------------------------------------------------- the end
    def processes(self) -> list[int]:
        """Ids of all that was started for this cluster, jobs included: they have its folder in
        their environment."""
        mark, found = str(self.root).encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:  # gone, or another user's
                continue
        return found

    def stop(self, seconds: float = 20) -> None:
        """Kill every process of the cluster and remove its folder.

        Raises TimeoutError where one of them stays.
        """

        def gone() -> bool:
            left = self.processes()
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            for daemon in self._daemons.values():
                daemon.poll()
            return not left

        wait_for(gone, f"end of what belongs to {self.root}", seconds)
        shutil.rmtree(self.root)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
