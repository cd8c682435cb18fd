"""What Slurm is given, and what is refused before it is asked."""

import subprocess
from pathlib import Path

import pytest

from common.crew import job_script
from common.crew.allocations import Condition, of_squeue
from common.crew.job_script import JobOrder, ScriptError, limit_s, refusal, refused_words, sbatch_words, script
from common.crew.slurm import ordered
from common.crew.worker_line import read
from common.errors import OperatorError

ORDER = JobOrder(
    name="tradewind-1a2b3c",
    limit="1:00:00",
    cpus=4,
    folder="/home/me/my farm",
    key="/home/me/keys/cluster.key_secret",
    program=["/bin/sh", "-m", "tradewind"],
    words=["work", "--command", "x=echo {} $HOME"],
    typed=frozenset({"modules", "command"}),
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 180),
        ("90", 5400),
        ("4:30", 270),
        ("1:00:00", 3600),
        ("0:03:01", 181),
        ("1-0", 86400),
        ("2-12", 60 * 3600),
        ("2-12:30", 60 * 3600 + 1800),
        ("1-00:00:07", 86407),
    ],
)
def test_a_time_limit_is_read_as_slurm_reads_it(text: str, seconds: int) -> None:
    assert limit_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2", "--time 2: a worker leaves 90 seconds before its time is over; give at least 3 minutes"),
        ("2:59", "at least 3 minutes"),
        ("0", "at least 3 minutes"),
        ("1h", "--time 1h: give it as Slurm does, like 30 .minutes., 1:00:00 or 2-12"),
        ("UNLIMITED", "give it as Slurm does"),
        ("1:2:3:4", "give it as Slurm does"),
        ("3\n#SBATCH --uid=0", "give it as Slurm does"),
    ],
)
def test_a_time_limit_that_is_none(text: str, said: str) -> None:
    with pytest.raises(ScriptError, match=said):
        limit_s(text)


def test_the_script() -> None:
    text = script(ORDER, 7)
    settings = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    assert settings == [
        "--job-name=tradewind-1a2b3c",
        "--array=1-7",
        "--time=1:00:00",
        "--ntasks=1",
        "--cpus-per-task=4",
        "--signal=B:TERM@60",
        "--chdir='/home/me/my farm'",
        "--output=tradewind-1a2b3c-%A_%a.log",
        "--open-mode=append",
    ]
    assert text.splitlines()[-1] == (
        "exec /bin/sh -m tradewind worker --key /home/me/keys/cluster.key_secret"
        ' --name slurm-${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID} --slots "$SLURM_CPUS_PER_TASK"'
        " --exit-when-idle 300 --grace 50 --stop-after 3510 work --command 'x=echo {} $HOME'"
    )


def test_a_worker_is_gone_before_its_time_is_over() -> None:
    """It begins to leave before Slurm's signal and may take its grace, and Slurm is up to a minute early."""
    assert job_script.LEAVES_BEFORE_S - job_script.GRACE_S >= job_script.AFTER_GRACE_S
    assert job_script.SIGNAL_BEFORE_S - job_script.GRACE_S > 0
    assert job_script.LEAST_S > job_script.LEAVES_BEFORE_S + job_script.GRACE_S


def test_what_was_typed_is_not_said_twice() -> None:
    typed = frozenset({"modules", "slots", "exit_when_idle", "grace"})
    last = script(JobOrder(**{**_fields(), "typed": typed}), 1).splitlines()[-1]
    assert not any(option in last for option in ("--slots", "--exit-when-idle", "--grace"))


def test_more_arguments_of_sbatch_are_in_one_line() -> None:
    extra = sbatch_words(["-p long --comment='it is #1'", "--exclusive"])
    assert extra == ["-p", "long", "--comment=it is #1", "--exclusive"]
    assert "#SBATCH -p long '--comment=it is #1' --exclusive" in script(JobOrder(**{**_fields(), "extra": extra}), 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("--time=9", "--sbatch --time=9: that is set by --time"),
        ("-t 9", "--sbatch -t: that is set by --time"),
        ("--arr=1-9", "that is set by --workers"),
        ("-a1-9", "that is set by --workers"),
        ("-c 4", "that is set by --cpus"),
        ("-J x", "that is set by --name"),
        ("-o x", "that is set by the folder in which you type this"),
        ("--signal=INT", "that is set by --time"),
        ("--wrap 'rm -r x'", "that is set by what stands behind --"),
        ("--comment='", "no closing quotation"),
        ("--comment='a\nb'", "must be on one line"),
    ],
)
def test_what_the_rules_rely_on_cannot_be_said_to_sbatch_too(text: str, said: str) -> None:
    with pytest.raises(ScriptError, match=said):
        sbatch_words([text])


@pytest.mark.parametrize("text", ["--time-min=5", "--open-mode=truncate", "--array-x", "--nice", "--mem=4G", "-A x"])
def test_other_arguments_pass(text: str) -> None:
    assert sbatch_words([text]) == text.split()


def test_a_key_from_standard_input_is_refused_as_each_worker_reads_its_own() -> None:
    with pytest.raises(OperatorError, match=r"^--key -: each worker reads the key by itself, so give a file$"):
        ordered(read(["work"]), "1:00:00", None, [], None, Path("-"))


def test_what_cannot_be_in_a_script_is_said_in_one_line() -> None:
    """Also by what prints the script: a folder whose name has a line break gave a traceback."""
    assert issubclass(ScriptError, OperatorError)


@pytest.mark.parametrize("field", ["folder", "key"])
def test_a_name_with_a_line_break_makes_no_new_line(field: str) -> None:
    with pytest.raises(ScriptError, match="has a line break or the like in its name"):
        script(JobOrder(**{**_fields(), field: "/home/me\n#SBATCH --uid=0"}), 1)


@pytest.mark.parametrize(
    ("typed", "grace_s", "said"),
    [
        (frozenset({"name"}), 30.0, "each worker has the name of its allocation"),
        (frozenset({"stop_after"}), 30.0, "--time says it, less 90 seconds"),
        (frozenset({"grace"}), 75.5, "--grace 76: give at most 75"),
        (frozenset({"grace"}), 75.0, None),
        (frozenset({"modules"}), 300.0, None),
    ],
)
def test_words_that_no_worker_of_an_array_can_have(typed: frozenset[str], grace_s: float, said: str | None) -> None:
    found = refused_words(typed, grace_s)
    assert found is None if said is None else said in (found or "")


def test_a_node_that_cannot_read_the_key_says_so(tmp_path: Path) -> None:
    path = tmp_path / "job"
    path.write_text(script(JobOrder(**{**_fields(), "key": f"{tmp_path}/it's.key_secret"}), 1))
    ended = subprocess.run(["sh", str(path)], capture_output=True, text=True)
    assert ended.returncode == 2
    assert f"cannot read {tmp_path}/it's.key_secret: put it on a file system that all nodes have" in ended.stderr


def test_one_farm_has_one_name() -> None:
    one, other = job_script.job_name("a" * 40), job_script.job_name("b" * 40)
    assert one == job_script.job_name("a" * 40) != other
    assert one.startswith("tradewind-")


def test_what_squeue_prints() -> None:
    lines = " 12_1 PD\n12_2 R \n13_1 CG\n14_1 CD\n15_1 F\n16_1 TO\n17_1 CA\n18_1 OOM\n19_1 XX\n\nnonsense\n"
    assert of_squeue(lines) == {
        "12_1": Condition.QUEUED,
        "12_2": Condition.RUNS,
        "13_1": Condition.RUNS,
        "14_1": Condition.LEFT,
        "15_1": Condition.BROKEN,
        "16_1": Condition.ENDED,
        "17_1": Condition.ENDED,
        "18_1": Condition.BROKEN,
        "19_1": Condition.RUNS,
    }


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (
            "sbatch: error: invalid partition specified: x\nallocation failure: Invalid partition name specified\n",
            "invalid partition specified: x; allocation failure: Invalid partition name specified",
        ),
        ("sbatch: fatal: no\n\n", "no"),
        ("", "it says nothing"),
    ],
)
def test_errors_of_slurm_are_one_line(stderr: str, said: str) -> None:
    assert job_script.errors_of(stderr) == said


def _fields() -> dict:
    return {name: getattr(ORDER, name) for name in JobOrder.__slots__}


@pytest.mark.parametrize(
    "said",
    [
        "Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "Could not establish a configuration source",
    ],
)
def test_a_slurm_that_is_not_reached_refuses_nothing(said: str) -> None:
    text = refusal(f"sbatch: error: {said}\n", "; see --time")
    assert text == f"Slurm cannot be reached from here: {said}; try `sinfo`, or go to a login node"
    refused = refusal("sbatch: error: Invalid qos specification\n", "; see --time")
    assert refused == "Slurm refuses the job: Invalid qos specification; see --time"
