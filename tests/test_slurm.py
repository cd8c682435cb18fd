"""Crews on Slurm: a cluster of one node, whose daemons are real, as are the ends of its allocations."""

import re
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import Pipeline, Process, wait_until
from tests.slurm_cluster import SlurmCluster, cluster_of

GATE = """
import os, time
def wait(n):
    with open("ran", "a") as ran:
        ran.write(f"{n}\\n")
    while not os.path.exists("open"):
        time.sleep(0.01)
    return n
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with cluster_of(tmp_path_factory.mktemp("slurm"), cpus=8) as made:
        yield made


class Farm:
    """A sink and ventilators on the cluster's node, and the command `crew`."""

    def __init__(self, pipeline: Pipeline, cluster: SlurmCluster) -> None:
        self.pipeline = pipeline
        self.cluster = cluster
        pipeline.env |= cluster.env
        self.sink = pipeline.sink("--listen", cluster.address, inside=cluster.inside)
        port = re.findall(r"ports (\d+)", self.sink.err)[0]
        self.address = f"{cluster.address}:{port}"
        enrolled = pipeline.run("sink", "enrol", "worker", "cluster", "--address", f"tcp://{self.address}")
        assert enrolled.popen.returncode == 0, enrolled.err

    def ventilator(self, *arguments: str) -> Process:
        more = ["--sink", self.address, "--port", "0"]
        return self.pipeline.start("ventilator", *arguments, *more, inside=self.cluster.inside)

    def crew(self, *arguments: str) -> Process:
        tag = f"crew-{len(self.pipeline.processes)}"
        command = [*self.cluster.inside, sys.executable, "-m", "tradewind", "crew", *arguments]
        process = Process(command, self.pipeline.folder, tag, self.pipeline.env, None)
        self.pipeline.processes.append(process)
        return process

    def ran(self) -> list[int]:
        """The tasks that were begun."""
        path = self.pipeline.folder / "ran"
        return sorted(map(int, path.read_text().split())) if path.exists() else []

    def jobs(self) -> list[str]:
        """The numbers of the jobs in Slurm that have had a log."""
        return [path.stem.split("-")[-1].partition("_")[0] for path in self.pipeline.folder.glob("tradewind-*.log")]

    def log(self, allocation: str) -> str:
        """What the worker of an allocation has said."""
        [path] = self.pipeline.folder.glob(f"tradewind-*-{allocation}.log")
        return path.read_text()


@pytest.fixture
def farm(programs: Pipeline, cluster: SlurmCluster) -> Iterator[Farm]:
    programs.module("gate", GATE)
    yield Farm(programs, cluster)
    cluster.run("scancel", "--me", "--signal=KILL", "--full")


def test_what_slurm_refuses_is_one_line(farm: Farm) -> None:
    words = ["slurm", "--time", "10", "--key", "cluster.key_secret", "--submit", "--sbatch"]
    for argument, said in (("--partition=nope", "invalid partition specified: nope"), ("--exclusive=x", "exclusive")):
        refused = farm.crew(*words, argument, "--", "gate")
        assert refused.wait() == 2
        assert refused.out == ""
        [line] = refused.err.splitlines()
        assert line.startswith("tradewind: Slurm refuses the job: ")
        assert said in line


def test_a_worker_that_is_cancelled_and_one_that_is_out_of_time_lose_no_task_and_burn_no_attempt(farm: Farm) -> None:
    cluster = farm.cluster
    submitted = farm.crew(
        *("slurm", "--workers", "3", "--cpus", "2", "--time", "10", "--key", "cluster.key_secret", "--submit"),
        *("--sbatch", "--comment='it is #1'", "--", "gate", "--grace", "1"),
    )
    assert submitted.wait() == 0, submitted.err
    [job] = re.findall(r"^job (\d+) has been submitted", submitted.out, re.MULTILINE)
    shown = cluster.run("scontrol", "show", "job", f"{job}_1")
    assert "Comment=it is #1" in shown
    assert "secret-key" not in cluster.run("scontrol", "write", "batch_script", f"{job}", "-")
    ventilator = farm.ventilator("gate:wait", "--range", "12", "--batch", "1", "--job", "j")
    farm.sink.wait_for(r"(?s)(worker slurm-\d+_\d\.\S+ at \S+ joined.*){3}")
    wait_until(lambda: len(farm.ran()) == 6, "all workers run what they can")
    # Slurm looks after time limits each 30 seconds. The signal is due a minute before the end: now.
    cluster.run("scontrol", "update", f"JobId={job}_2", "TimeLimit=1")
    cluster.run("scancel", f"{job}_1")
    farm.sink.wait_for(rf"worker slurm-{job}_1\S* has left")
    farm.sink.wait_for(rf"worker slurm-{job}_2\S* has left")
    (farm.pipeline.folder / "open").touch()
    assert ventilator.wait() == 0, ventilator.err
    rows = farm.pipeline.query("SELECT task, attempt, worker FROM results ORDER BY task")
    assert [(task, attempt) for task, attempt, _ in rows] == [(task, 1) for task in range(12)]
    assert all(worker.startswith(f"slurm-{job}_3.") for _, _, worker in rows)
    # What they ran is run once more, and nothing else.
    assert len(farm.ran()) == 16
    assert farm.pipeline.query("SELECT done, failed, state FROM jobs") == [(12, 0, "done")]
    said = farm.log(f"{job}_2")
    assert "SIGTERM: returning what has not started" in said
    assert "killed its process" not in said, "its children get no signal"


KEEP = ["keep", "slurm", "--time", "10", "--every", "0.3", "--key", "cluster.key_secret"]


def test_a_crew_grows_from_nothing_with_its_job_and_goes_when_it_is_done(farm: Farm) -> None:
    keep = farm.crew(*KEEP, "--max", "2", "--within", "1", "--", "gate", "--exit-when-idle", "1")
    keep.wait_for("no task is left: 0 workers wanted, 0 started, 0 in the queue")
    ventilator = farm.ventilator("gate:wait", "--range", "6", "--batch", "1", "--job", "j")
    farm.sink.wait_for(r"(?s)(worker slurm-\d+_1\.\S+ at \S+ joined.*){2}")
    (farm.pipeline.folder / "open").touch()
    assert ventilator.wait() == 0, ventilator.err
    keep.wait_for("(?s)starting.*no task is left: 0 workers wanted, 0 started, 0 in the queue")
    assert farm.cluster.run("squeue", "--noheader", "--me") == ""
    assert (
        max(int(runs) + int(waits) for runs, waits in re.findall(r"(\d+) started, (\d+) in the queue", keep.err)) == 2
    )
    keep.signal(signal.SIGTERM)
    assert keep.wait() == 0


def test_after_three_allocations_without_a_worker_no_more_are_started_and_their_log_is_shown(farm: Farm) -> None:
    keep = farm.crew(*KEEP, "--min", "1", "--", "no_such_module")
    keep.wait_for(r"(?s)third in a row: nothing is started for 1 min 00 s.*ends:\n.*module no_such_module not found")
    keep.signal(signal.SIGTERM)
    assert keep.wait() == 0
    assert len(farm.jobs()) == keep.err.count("starting 1") >= 3
    assert "starting" not in keep.err[keep.err.index("third in a row") :]
