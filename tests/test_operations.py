"""The page on operations: its units are valid, and what it says to type is typed, while jobs run."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TOP, Pipeline, Process, wait_until
from tests.test_readme import COMMANDS, blocks, lines, parse, typed

PAGE = TOP / "docs" / "OPERATIONS.md"
[UNIT] = blocks(PAGE, "As a service", "ini")
GATE = """
import os, time
def wait(n):
    with open("ran", "a") as ran:
        ran.write(f"{n}\\n")
    while not os.path.exists(f"open{n // 20}"):
        time.sleep(0.01)
    return n
"""


def said(heading: str) -> list[list[str]]:
    """The commands of a section of the page."""
    return [typed(line) for block in blocks(PAGE, heading) for line in lines(block)]


def test_a_unit_starts_a_command() -> None:
    [command] = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    path, role, *arguments = command.split()
    assert path.startswith("/")
    parse(COMMANDS[role], role, arguments)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_has_nothing_to_say_about_a_unit(tmp_path: Path) -> None:
    path = tmp_path / "tradewind-test.service"
    path.write_text(UNIT.replace("/opt/tradewind/bin/tradewind", sys.executable))
    found = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True)
    # For a word that it does not know it says so, and exits with 0.
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="logrotate is not installed")
def test_logrotate_takes_what_the_page_says(tmp_path: Path) -> None:
    log, config = tmp_path / "sink.log", tmp_path / "config"
    config.write_text(blocks(PAGE, "Logs", "logrotate")[0].replace("/srv/farm", str(tmp_path)))
    config.chmod(0o600)
    with log.open("a") as opened:
        opened.write("before\n")
        opened.flush()
        subprocess.run(["logrotate", "--force", "--state", str(tmp_path / "state"), str(config)], check=True)
        opened.write("after\n")
    assert log.read_text() == "after\n"


def test_keys_are_changed_while_a_job_runs(pipeline: Pipeline) -> None:
    pipeline.module("mine", GATE)
    port = pipeline.sink().wait_for(r"ports (\d+)")[1]

    def with_key(name: str) -> list[str]:
        return ["--key", f"{name}.key_secret", "--sink", f"127.0.0.1:{port}"]

    def recorded(count: int) -> None:
        wait_until(lambda: pipeline.query("SELECT 1 FROM jobs WHERE done>=?", count), f"{count} tasks are recorded")

    for role, name in (("worker", "lab1"), ("ventilator", "desk"), ("ventilator", "desk-b")):
        assert pipeline.run("sink", "enrol", role, name).wait() == 0
    old = pipeline.worker("mine", "--slots", "2", *with_key("lab1"))
    run = ["mine:wait", "--range", "60", "--batch", "1", "--job", "big"]
    first = pipeline.ventilator(*run, *with_key("desk"))
    (pipeline.folder / "open0").touch()
    recorded(20)

    enrol, _, start, revoke = said("Change a key")
    assert pipeline.run(*enrol).wait() == 0
    assert start[-1] == "~/lab1-b.key_secret"
    new = pipeline.worker(*start[1:-2], "--slots", "2", *with_key("lab1-b"))
    new.wait_for("joined the sink")
    check_what_is_watched(pipeline)
    old.signal(signal.SIGTERM)
    (pipeline.folder / "open1").touch()
    assert old.wait() == 0
    assert pipeline.run(*revoke).wait() == 0
    # Then all are cut off and connect again, and the new worker sees that.
    new.wait_for("(?s)pulling the tasks of job big.*pulling the tasks of job big")

    first.signal(signal.SIGINT)
    first.wait_for("SIGINT")
    (pipeline.folder / "open2").touch()
    assert first.wait() == 130
    assert pipeline.run("sink", "revoke", "desk").wait() == 0
    assert pipeline.ventilator(*run, *with_key("desk-b")).wait() == 0
    assert pipeline.query("SELECT count(*), sum(status='ok') FROM results") == [(60, 60)]
    ran = (pipeline.folder / "ran").read_text().split()
    assert sorted(map(int, ran)) == list(range(60)), "each task ran once"
    refused = pipeline.worker("mine", *with_key("lab1"))
    assert (refused.wait(), "revoked" in refused.err) == (2, True)


def check_what_is_watched(pipeline: Pipeline) -> None:
    """The commands that the page watches with, and that JSON has what its table names."""

    def printed(command: list[str]) -> Process:
        return pipeline.run(*command)

    status, jobs, failed, status_json, jobs_json, *_ = said("Watch it")
    shown = printed(status)
    assert (shown.wait(), "big 2" in shown.out) == (0, True)
    assert "\topen\t20\t0\t" in printed(jobs).out
    assert printed(failed).out == ""
    report, [job] = json.loads(printed(status_json).out), map(json.loads, printed(jobs_json).out.splitlines())
    assert (job["job"], job["state"], job["done"]) == ("big", "open", 20)
    table = PAGE.read_text().split("| what to watch |")[1].split("\n\n")[0]
    fields = {*report, *report["counters"], *report["jobs"][0]}
    named = {word for row in table.splitlines()[2:] for word in re.findall(r"`(\w+)`", row)} - {"status", "df"}
    assert named == {"workers", "counters", "is_stuck", "rate", "longest", "workers_lost", "ledger_bytes"} <= fields
