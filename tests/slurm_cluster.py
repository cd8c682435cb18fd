"""A Slurm cluster of one node for tests, in a network namespace of its own; its files are in one folder."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S
from tests.namespaces import network_of

_NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "nsenter")
_CONFIG = """\
ClusterName=tradewind
SlurmctldHost={host}({address})
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
KillWait=5
MinJobAge={remembers_s}
NodeName={host} NodeAddr={address} CPUs={cpus}
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE
"""
REMEMBERS_S = 2
"""The shortest that Slurm takes: for how long it knows an allocation that has ended."""


class SlurmCluster:
    """Its daemons; commands that begin with `inside` run on its node, with `env`."""

    def __init__(self, folder: Path, address: str, namespace: str, cpus: int) -> None:
        self.address = address
        # Not `ip netns exec`, which mounts another /sys without the control groups that slurmd looks for.
        self.inside = ["nsenter", f"--net=/run/netns/{namespace}"]
        self.env = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._folder = folder
        self._cpus = cpus
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        folder = self._folder
        for each in ("state", "spool"):
            (folder / each).mkdir()
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        names = {"host": socket.gethostname().partition(".")[0], "address": self.address, "folder": folder}
        text = _CONFIG.format(**names, cpus=self._cpus, remembers_s=REMEMBERS_S)
        (folder / "slurm.conf").write_text(text)
        own = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log", "seed-file": "munge.seed"}
        files = [f"--{option}={folder / name}" for option, name in own.items()]
        self._daemon("munged", "--foreground", "--force", f"--key-file={key}", *files)
        self._wait_for(lambda: (folder / "munge.socket").exists())
        self._daemon("slurmctld", "-D", "-c")
        self._daemon("slurmd", "-D", "-c")
        self._wait_for(lambda: self.run("sinfo", "--noheader", "--format=%t") == "idle")

    def run(self, *command: str) -> str:
        """What a command prints on the node."""
        ended = subprocess.run(
            [*self.inside, *command], env=os.environ | self.env, capture_output=True, text=True, timeout=PATIENCE_S
        )
        return ended.stdout.strip()

    def _daemon(self, *command: str) -> None:
        with (self._folder / f"{command[0]}.out").open("wb") as out:
            started = subprocess.Popen(
                [*self.inside, *command], env=os.environ | self.env, stdout=out, stderr=out, start_new_session=True
            )
        self._daemons.append(started)

    def _wait_for(self, condition: object) -> None:
        assert callable(condition)
        ends_at = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > ends_at or any(each.poll() is not None for each in self._daemons):
                said = {path.name: path.read_text()[-500:] for path in self._folder.glob("*.out")}
                pytest.fail(f"the Slurm cluster does not start: {said}")
            time.sleep(0.05)

    def close(self) -> None:
        if self._daemons:
            self.run("scancel", "--quiet", "--signal=KILL", "--full", "--me")
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


@contextmanager
def cluster_of(folder: Path, cpus: int) -> Iterator[SlurmCluster]:
    """A cluster that is ready; the test is skipped, in words, where there can be none."""
    if missing := [each for each in _NEEDED if shutil.which(each) is None]:
        pytest.skip(f"a Slurm cluster needs {', '.join(missing)} (Debian: slurm-wlm, slurmctld, slurmd, munge)")
    with network_of("slurm") as network:
        made = SlurmCluster(folder, network.addresses["slurm"], network.name("slurm"), cpus)
        try:
            made.start()
            yield made
        finally:
            made.close()
