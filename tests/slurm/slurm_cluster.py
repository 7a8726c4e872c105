"""A real SLURM of two nodes on the loopback, for tests: all its daemons, and files, in one folder.

Nothing of it is installed, no unit is started and no file outside the folder is written. It needs
no root. The nodes have more processors, memory and GPUs than the machine (their GPUs are /dev/null
and the like), so that jobs of a real profile fit. With accounting it has a database, too.
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

# sacct: the plugin wants the program, also where there is nothing that it could ask.
PROGRAMS = (
    *("munged", "slurmctld", "slurmd", "munge", "setpriv"),
    *("sbatch", "srun", "squeue", "sinfo", "scancel", "scontrol", "sacct"),
)
PACKAGES = "munge slurmctld slurmd slurm-client"
ACCOUNTING_PROGRAMS = ("slurmdbd", "sacctmgr", "mariadbd", "mariadb", "mariadb-install-db")
ACCOUNTING_PACKAGES = "slurmdbd mariadb-server-core mariadb-client-core"
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
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
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
# A node that does not answer is given up soon, and taken back when it does again.
SlurmdTimeout=6
# srun asks this long later again for what it was refused while the controller came up.
SlurmctldTimeout=10
ReturnToService=2
GresTypes=gpu
NodeName=DEFAULT CPUs=8 RealMemory=200000 Gres=gpu:{gpus}
NodeName=n1 NodeHostname={host} NodeAddr={address} Port={ports[1]}
NodeName=n2 NodeHostname={host} NodeAddr={address} Port={ports[2]}
PartitionName=main Nodes=ALL Default=YES MaxTime=7-0 PriorityTier=1 GraceTime={grace}
# Whoever comes here takes the node; jobs on it that allow it are sent back to the queue.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=0
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF
"""
# Appended to the above; only users of an account may send jobs.
ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={address}
AccountingStoragePort={ports[3]}
AccountingStoragePass={root}/munge/socket
AccountingStorageEnforce=associations
AccountingStoreFlags=job_comment
AccountingStorageTRES=gres/gpu
"""
DATABASE = """\
AuthInfo=socket={root}/munge/socket
CommunicationParameters={communication}
DbdHost={host}
DbdAddr={address}
DbdPort={ports[3]}
SlurmUser={user}
LogFile={root}/slurmdbd.log
PidFile={root}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct_db
"""
NODES = ("n1", "n2")
GPUS = ("/dev/null", "/dev/zero", "/dev/full")
ACCOUNT = "research"


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
    node: str
    name: str


class Cluster:
    """Up between `start` and `stop`; `environment` is what its programs, and its jobs, need."""

    def __init__(self, *, accounting: bool = False, grace: int = 0) -> None:
        """accounting: with slurmdbd and MariaDB, and none but the account ACCOUNT may run jobs.
        grace: seconds between a preempted job's SIGTERM and its end."""
        self.accounting, self._grace = accounting, grace
        needed = (PROGRAMS, PACKAGES)
        if accounting:
            needed = (PROGRAMS + ACCOUNTING_PROGRAMS, f"{PACKAGES} {ACCOUNTING_PACKAGES}")
        missing = [name for name in needed[0] if not shutil.which(name, path=PATH)]
        if missing:
            raise NoCluster(
                f"no {', '.join(missing)}; Debian, Ubuntu: apt-get install --no-install-recommends "
                f"{needed[1]}"
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
            if self.accounting:
                self._start_accounting()
            self.start_controller()
            for node in NODES:
                self.start_node(node)
            wait_for(lambda: self.states() == {"idle"}, "slurmd", 30)
        except (OSError, TimeoutError, subprocess.SubprocessError) as error:
            logs = [path.read_text(errors="replace")[-600:] for path in self.root.glob("*.log")]
            self.stop()
            raise NoCluster(f"SLURM does not come up ({error}): {' '.join(logs)}") from error

    def _write(self) -> None:
        for name in ("munge", "state", "bin", *(f"spool-{node}" for node in NODES)):
            (self.root / name).mkdir(mode=0o755)
        key = self.root / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        ports = free_ports(4)
        facts = {
            "root": self.root,
            "host": socket.gethostname().partition(".")[0],
            "address": LOOPBACK,
            "user": getpass.getuser(),
            "ports": ports,
            "gpus": len(GPUS),
            "grace": self._grace,
        }
        try:
            own = socket.gethostbyname(socket.gethostname()) == LOOPBACK
        except OSError:
            own = False
        # SLURM binds to the host name's own address or to all: to the loopback where that is it.
        bound = ("NoInAddrAny", "NoInAddrAny,NoCtldInAddrAny") if own else ("", "")
        text = CONFIGURATION.format(communication=bound[1], **facts)
        if self.accounting:
            text += ACCOUNTING.format(**facts)
            database = self.root / "slurmdbd.conf"
            database.touch(mode=0o600)
            database.write_text(DATABASE.format(communication=bound[0], **facts))
        (self.root / "slurm.conf").write_text(text)
        gres = [f"NodeName={n} Name=gpu File={device}\n" for n in NODES for device in GPUS]
        (self.root / "gres.conf").write_text("".join(gres))
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

    def _start_accounting(self) -> None:
        """A database that listens on a socket alone, slurmdbd, and in it the account ACCOUNT."""
        folder, user = self.root / "db", getpass.getuser()
        folder.mkdir(mode=0o700)
        files = ("--no-defaults", f"--user={user}", f"--datadir={folder}")
        rights = "--auth-root-authentication-method=normal"
        self.order("mariadb-install-db", *files, rights, "--skip-test-db", seconds=60)
        self._daemon("mariadbd", *files, f"--socket={folder}/socket", "--skip-networking")
        root = ("mariadb", "--no-defaults", f"--socket={folder}/socket", "--user=root", "-e")
        wait_for(lambda: self._answers(*root, "select 1"), "mariadbd", 30)
        for statement in (
            "create database slurm_acct_db",
            "create user slurm@localhost",
            "grant all on slurm_acct_db.* to slurm@localhost",
        ):
            self.order(*root, statement)
        self._daemon("slurmdbd", "-D", MYSQL_UNIX_PORT=f"{folder}/socket")
        wait_for(lambda: self._answers("sacctmgr", "-n", "show", "cluster"), "slurmdbd", 60)
        for what in (
            ("cluster", "toy"),
            ("account", ACCOUNT, "cluster=toy"),
            ("user", user, f"account={ACCOUNT}", f"defaultaccount={ACCOUNT}"),
        ):
            self.order("sacctmgr", "-i", "add", *what)

    # ---------------------------------------------------------------- daemons
    def _daemon(self, program: str, *arguments: str, name: str = "", **environment: str) -> None:
        """Start a daemon in the foreground; the kernel kills it where this process dies.

        name: where there are several of the program.
        """
        name = name or program
        with (self.root / f"{name}.out.log").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, *arguments],
                env=os.environ | self.environment | environment,
                cwd=self.root,  # a core file, where one dies, goes there
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
        controller = self._daemons.pop("slurmctld")
        controller.kill()
        controller.wait()

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node; it is there once the controller has heard of it."""
        self._daemon("slurmd", "-D", "-N", node, name=node, SLURMD_NODENAME=node)

    def kill_node(self, node: str) -> None:
        """End a node as a loss of power would: SIGKILL to its slurmd and to all jobs on it."""
        self._kill(f"SLURMD_NODENAME={node}\0")
        del self._daemons[node]

    def ended(self) -> list[str]:
        """The daemons that ended though nobody told them to."""
        return [name for name, daemon in self._daemons.items() if daemon.poll() is not None]

    def states(self) -> set[str]:
        """The states that the nodes are in."""
        return set(self._ask("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split())

    # ---------------------------------------------------------------- questions and orders
    def run(self, *command: str, seconds: float = 10) -> subprocess.CompletedProcess[str]:
        """Run a client of SLURM, ten seconds at most unless told."""
        return subprocess.run(
            command,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def _answers(self, *command: str) -> bool:
        return self.run(*command).returncode == 0

    def _ask(self, *command: str) -> str:
        return self.run(*command).stdout.strip()

    def order(self, *command: str, seconds: float = 10) -> str:
        """Run a client of SLURM that must succeed; returns what it says."""
        done = self.run(*command, seconds=seconds)
        if done.returncode:
            raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

    def jobs(self) -> dict[str, Job]:
        """Every job that the controller knows, by id."""
        lines = self._ask("squeue", "-h", "--states=all", "-o", "%i|%T|%l|%m|%N|%k").splitlines()
        found = (line.split("|", 5) for line in lines)
        return {number: Job(*columns) for number, *columns in found}

    def saved(self) -> float:
        """When the controller last wrote down its jobs, in seconds since 1970."""
        return (self.root / "state" / "job_state").stat().st_mtime

    # ---------------------------------------------------------------- the end
    def processes(self, mark: str = "") -> list[int]:
        """Ids of all that was started for this cluster, jobs included: they have its folder in
        their environment; mark: what else must be in it."""
        marks, found = (str(self.root).encode(), mark.encode()), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                environment = path.read_bytes()
            except OSError:  # gone, or another user's
                continue
            if all(each in environment for each in marks):
                found.append(int(path.parent.name))
        return found

    def _kill(self, mark: str = "", seconds: float = 20) -> None:
        """Kill all processes with this mark until none is left; raises TimeoutError."""

        def gone() -> bool:
            left = self.processes(mark)
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            for daemon in self._daemons.values():
                daemon.poll()
            return not left

        wait_for(gone, f"end of what belongs to {self.root} {mark}", seconds)

    def stop(self) -> None:
        """Kill every process of the cluster and remove its folder.

        Raises TimeoutError where one of them stays.
        """
        self._kill()
        shutil.rmtree(self.root)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
