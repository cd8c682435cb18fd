"""Pages for users: their ports, bounds and other numbers are those of the code."""

import re

import pytest

from common import descriptors, log_writer
from common.crew import host, job_script, recipes, ssh_loop
from common.protocol import fields, settings
from common.sink import commits, keepers, outputs, relay, roster_watch, sqlite_file, sqlite_writes, turns
from common.transport import doorstep
from common.worker import command_run
from tests.conftest import TOP


def table(page: str, head: str) -> str:
    """The rows of the table that begins with this head."""
    text = (TOP / "docs" / page).read_text(encoding="utf-8")
    return text.split(f"\n{head}\n")[1].split("\n\n")[0]


@pytest.mark.parametrize(
    ("option", "port"),
    [
        ("--tasks-port", settings.RELAYED_TASKS_PORT),
        ("--relay-port", settings.RELAY_PORT),
        ("--port", settings.TASKS_PORT),
        ("--results-port", settings.RESULTS_PORT),
        ("--control-port", settings.CONTROL_PORT),
    ],
)
def test_the_ports_for_a_firewall(option: str, port: int) -> None:
    rows = table("several-machines.md", "| port | who listens | who connects | other port |")
    assert re.findall(rf"^\| (\d+) \| .*\| `{option}` \|$", rows, re.MULTILINE) == [str(port)]


def test_more_ports_of_ventilators() -> None:
    text = (TOP / "docs" / "several-machines.md").read_text(encoding="utf-8")
    first, last = re.findall(r"the first free port from (\d+) to (\d+)", text)[0]
    assert range(int(first), int(last) + 1) == settings.MORE_TASKS_PORTS


@pytest.mark.parametrize(
    ("row", "numbers"),
    [
        ("largest frame that is taken before the key is known", [settings.FRAME_BYTES_MAX // 1024]),
        ("time for a handshake", [doorstep.HANDSHAKE_S]),
        ("connections of a process that have not shown a key", [doorstep.WAITING_MAX]),
        ("time until a connection of the control link must say", [doorstep.GREETING_S]),
        ("connections of one key on one link", [settings.HANDSHAKES_A_MINUTE_MAX]),
        (
            "lines in the sink's log about unknown keys",
            [roster_watch._UNKNOWN_LINES_A_MINUTE, roster_watch._KNOWN_LINES_A_MINUTE, 1],
        ),
        ("lines in the sink's log that one enrolled key can cause", [outputs.LogLimiter.A_MINUTE_MAX]),
        ("what waits for the ledger and came with one key", [commits.WAITING_BYTES_MAX // 1024**2]),
        ("requests that wait for the ledger", [turns._WAITING_MAX]),
        (
            "what the relay holds of one ventilator's key",
            [relay.BYTES_OF_A_KEY_MAX // 1024**2, settings.Timing().lease_s],
        ),
        ("batches that one worker is counted for", [2 * fields.ROOM_MAX, fields.ROOM_MAX, fields.ROOM_MAX]),
        ("descriptors", [descriptors._WANTED, doorstep.RESERVE]),
    ],
)
def test_the_bounds_of_what_attacks_cost(row: str, numbers: list[float]) -> None:
    [value] = re.findall(rf"^\| {row}[^|]*\| (.*) \|$", table("SECURITY.md", "| bound | value |"), re.MULTILINE)
    assert [float(each.replace(",", "")) for each in re.findall(r"\d[\d,]*(?:\.\d+)?", value)] == numbers


@pytest.mark.parametrize(
    ("page", "pattern", "number"),
    [
        ("results.md", r"values of more than ([\d,]+) bytes\s+in `large_values`", sqlite_writes.LARGE_BYTES),
        ("OPERATIONS.md", r"reads all of a ledger up to (\d+) MB", sqlite_file._CHECKED_BYTES / 1024**2),
        ("OPERATIONS.md", r"about (\d+) MB is kept; what comes after that", log_writer.WAITING_BYTES_MAX / 1e6),
        ("OPERATIONS.md", r"can\s+cause at most (\d+) lines a minute", outputs.LogLimiter.A_MINUTE_MAX),
        ("your-functions.md", r"Of more than (\d+) MiB of\s+standard output", command_run.STDOUT_KEPT / 1024**2),
        ("your-functions.md", r"or (\d+) KiB of standard error", command_run.STDERR_KEPT / 1024),
        ("CLUSTERS.md", r"has had no task for (\d+) minutes \(`--exit", job_script.IDLE_S / 60),
        ("CLUSTERS.md", r"and (\d+) s before its time is over", job_script.LEAVES_BEFORE_S),
        ("CLUSTERS.md", r"for up to (\d+) s \(`--grace`\)", job_script.GRACE_S),
        ("CLUSTERS.md", r"\(`--signal=B:TERM@(\d+)`\)", job_script.SIGNAL_BEFORE_S),
        ("CLUSTERS.md", r"At most (\d+) connections begin at a time", ssh_loop.STARTING_MAX),
        ("CLUSTERS.md", r"at most ([\d,]+) lines a minute\s+of each", host.LINES_A_MINUTE_MAX),
        ("CLUSTERS.md", r"worker's `--grace` and (\d+) s for its last results", recipes.AFTER_GRACE_S),
        ("SECURITY.md", r"The key gets no tasks of that job for (\d+) s", keepers.SENTENCE_S),
        ("PROTOCOL.md", r"gets none of that job for (\d+) s", keepers.SENTENCE_S),
        ("CLUSTERS.md", r"a limit of less than (\d+) minutes", job_script.LEAST_S / 60),
        ("your-functions.md", r"the last (\d+) lines of standard error", command_run._ERROR_LINES),
    ],
)
def test_numbers(page: str, pattern: str, number: float) -> None:
    [found] = re.findall(pattern, (TOP / "docs" / page).read_text(encoding="utf-8"))
    assert float(found.replace(",", "")) == number
