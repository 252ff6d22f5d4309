"""A real Slurm cluster on this machine alone, for tests: one node, fake GPUs, partitions `cpu` and `gpu`.

`python tests/slurm/cluster.py COMMAND ...` brings it up, runs the command, takes it down; without one, runs `sinfo`.
Needs root, Debian's slurm-wlm and munge, and device nodes; no systemd, no cgroups, no accounting, no Slurm database.
All it writes lies in a temporary folder, but for `slurm.conf` and `gres.conf`, which Slurm's own commands look for in
/etc/slurm. Both are marked as its own, and are gone afterwards.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ETC = Path("/etc/slurm")
MARK = "# Written by tests/slurm/cluster.py, which removes it again.\n"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo", "setpriv")
PORT = 16817  # of slurmctld; slurmd takes the next one
GPUS = 2
CPUS = 4  # jobs of one core at a time; Slurm takes our word for how many there are

SLURM_CONF = """\
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmctldPort={port}
SlurmdPort={next_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={folder}/prolog
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
# Finished jobs stay to be looked at
MinJobAge=3600
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} Default=NO MaxTime=INFINITE State=UP
"""

# Run by Slurm beside each task: what the rule's own process (a step; not the batch shell around it) finds of its place
PROLOG = """\
#!/bin/sh
[ -z "$SLURM_STEP_ID" ] || echo "$SLURM_JOB_ID $SLURM_JOB_PARTITION ${{CUDA_VISIBLE_DEVICES:-none}}" >> {folder}/seen
"""


def obstacle() -> str:
    """Why no cluster can be brought up here, in words; empty if nothing is in its way."""
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        return f"not installed: {', '.join(missing)} (apt-get install --no-install-recommends slurm-wlm munge)"
    foreign = [path for path in _files() if path.exists() and not path.read_text().startswith(MARK)]
    if foreign:
        return f"{foreign[0]} is there and not ours: a Slurm of this machine's own is left alone"
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.mknod(Path(folder, "gpu0"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except OSError as error:
            return f"no device nodes can be made here, so no fake GPUs ({error.strerror})"
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            return f"port {PORT} is taken, perhaps by another such cluster"
    return ""


class Cluster:
    """A running cluster, as one asks it.

    Attributes:
        folder: where its logs lie, until it is taken down.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def jobs(self) -> dict[int, dict[str, str]]:
        """Every job so far, the finished ones too: id -> what `scontrol show job` says of it, and its `rule`."""
        lines = ask("scontrol", "--oneliner", "show", "job").splitlines()
        found = {}
        for line in lines:
            fields = dict(re.findall(r"(?:^| )([\w:]+)=(\S*)", line))
            if "JobId" in fields:
                rule = re.match(r"rule_(.*?)(?:_wildcards_|$)", fields.get("Comment", ""))
                found[int(fields["JobId"])] = fields | {"rule": rule[1] if rule else ""}
        return found

    def seen(self) -> dict[int, tuple[str, str]]:
        """What the rules' own processes saw: id -> (partition, GPUs that CUDA may use or `none`)."""
        lines = [line.split() for line in (self.folder / "seen").read_text().splitlines()]
        return {int(job): (partition, gpus) for job, partition, gpus in lines}


def ask(*command: str) -> str:
    """Output of a Slurm command; one that hangs or fails is an error that quotes it."""
    result = subprocess.run(["timeout", "20", *command], capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {result.returncode}: {result.stderr.strip()}")
    return result.stdout


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Bring the cluster up; take it down, with all its jobs, however the block ends.

    Raises:
        RuntimeError: there is an `obstacle`, or the node is not idle within 30 s; what the daemons said is in it.
    """
    if reason := obstacle():
        raise RuntimeError(reason)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)))
        _write(folder)
        for path in _files():
            stack.callback(path.unlink, missing_ok=True)
        daemons = [
            ["munged", "--foreground", "--force", f"--socket={folder}/munge/socket", f"--key-file={folder}/munge/key",
             f"--pid-file={folder}/munge/pid", f"--log-file={folder}/munge/log", f"--seed-file={folder}/munge/seed"],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        ]  # fmt: skip
        for command in daemons:
            stack.enter_context(_daemon(command, folder / f"{command[0]}.out"))
        stack.callback(_end_jobs)
        _await_idle(folder)
        yield Cluster(folder)


def _files() -> list[Path]:
    return [ETC / "slurm.conf", ETC / "gres.conf"]


def _write(folder: Path) -> None:
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool", "munge", "dev"):
        (folder / name).mkdir(mode=0o755)
    folder.chmod(0o755)
    for gpu in range(GPUS):
        os.mknod(folder / "dev" / f"gpu{gpu}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (folder / "munge" / "key").write_bytes(secrets.token_bytes(128))
    (folder / "munge" / "key").chmod(0o400)
    (folder / "seen").touch(mode=0o666)
    (folder / "prolog").write_text(PROLOG.format(folder=folder))
    (folder / "prolog").chmod(0o755)
    ETC.mkdir(exist_ok=True)
    conf, gres = _files()
    values = {"host": host, "folder": folder, "port": PORT, "next_port": PORT + 1, "gpus": GPUS, "cpus": CPUS}
    conf.write_text(MARK + SLURM_CONF.format(**values))
    # A count alone leaves the node invalid: Slurm wants device files
    gres.write_text(f"{MARK}NodeName={host} Name=gpu File={folder}/dev/gpu[0-{GPUS - 1}]\n")


@contextlib.contextmanager
def _daemon(command: list[str], output: Path) -> Iterator[None]:
    """Run a daemon; it gets SIGTERM at the end, and also when this process is killed."""
    with output.open("w") as log:
        process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], stdout=log, stderr=log)
        try:
            time.sleep(0.3)  # munged before slurmctld before slurmd
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_idle(folder: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(RuntimeError):
            if set(ask("sinfo", "--noheader", "--format=%T").split()) == {"idle"}:
                return
        time.sleep(0.2)
    said = [f"{path.name}: {path.read_text()[-1500:]}" for path in sorted(folder.glob("*.out"))]
    raise RuntimeError("the toy cluster's node is not idle:\n" + "\n".join(said))


def _end_jobs() -> None:
    """End what still runs, at once, and see it gone: jobs would outlive the daemons."""
    with contextlib.suppress(RuntimeError):
        ask("scancel", "--signal=KILL", "--full", "--user=root")
        ask("scancel", "--user=root")
        for _ in range(50):
            if not ask("squeue", "--noheader"):
                return
            time.sleep(0.2)


def main() -> int:
    """Bring the cluster up around one command; its exit code is ours."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that SIGTERM unwinds what was brought up
    with cluster():
        return subprocess.run(sys.argv[1:] or ["sinfo"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
