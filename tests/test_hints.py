"""What a message tells to do is done here, where it was printed, and it helps."""

import os
import re
import shlex
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import TOP, Pipeline, Process, wait_until

FREE = {f"TRADEWIND_{name}": "0" for name in ("PORT", "CONTROL_PORT", "RESULTS_PORT")} | {
    "TRADEWIND_LISTEN": "127.0.0.1"
}
"""Commands are run as they are printed; this keeps them to free ports of the loopback interface."""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Pipeline]:
    """A folder whose name has a space."""
    folder = tmp_path / "my farm"
    folder.mkdir()
    with closing(Pipeline(folder)) as made:
        made.env |= FREE
        made.module("squares", "def square(n):\n    return n * n\n")
        yield made


def told(here: Pipeline, by: Process, pattern: str) -> Process:
    """Start the command of ours that the message tells to run; the pattern's group is that command."""
    python, script, *arguments = shlex.split(by.wait_for(pattern)[1])
    assert Path(script).parent == TOP, "the same checkout"
    assert os.access(python, os.X_OK)
    return here.start(Path(script).stem, *arguments)


def test_from_an_empty_folder_to_the_results(here: Pipeline) -> None:
    ventilator = here.start("ventilator", "squares:square", "--range", "3", "--job", "j")
    told(here, ventilator, r"no key file \S+ yet: start the sink in this folder \((.*)\), or give one with --key")
    told(here, ventilator, r"no worker exposes squares:square: start one with `(.*)`; waiting")
    assert ventilator.wait() == 0
    results = told(here, ventilator, "results: (.*)\n")
    assert (results.wait(), results.out.count("\n")) == (0, 3)


def test_a_key_folder_and_a_ledger_of_other_names(here: Pipeline) -> None:
    sink = told(
        here,
        here.run("sink", "roster", "--keys", "my keys"),
        r"there is no key folder my keys: start the sink in this folder first \((.*)\), or name",
    )
    sink.wait_for("listening")
    assert (here.folder / "my keys" / "sink.key_secret").exists()
    sink.kill()
    reading = here.run("sink", "results", "--ledger", "my results.db")
    sink = told(here, reading, r"there is no ledger my results.db: start the sink here \((.*)\), or name another")
    sink.wait_for("ledger my results.db")
    reading = here.run("sink", "results", "nosuch", "--ledger", "my results.db")
    listing = told(here, reading, "there is no job nosuch in my results.db: `(.*)` lists them")
    assert (listing.wait(), listing.out) == (0, "no job yet\n")


def test_a_job_that_was_interrupted_and_one_that_is_unknown(here: Pipeline) -> None:
    here.sink()
    command = ["squares:square", "--range", "3"]
    waiting = here.start("ventilator", *command)
    wait_until(lambda: here.query("SELECT 1 FROM jobs"), "the job is open")
    waiting.signal(signal.SIGINT)
    assert waiting.wait() == 130
    job = waiting.wait_for("to go on with it, run the same command with (--job .*)\n")[1]
    here.worker("squares")
    assert here.run("ventilator", *command, *shlex.split(job)).wait() == 0
    listing = told(here, here.run("sink", "cancel", "nosuch"), "there is no job nosuch: `(.*)` lists them")
    assert (listing.wait(), listing.out.count("\tdone\t")) == (0, 1), listing.err


def test_new_tasks_for_a_job_that_was_killed(here: Pipeline) -> None:
    here.module(
        "names",
        "import os, time\n"
        "def name(text):\n"
        "    while text == 'slow' and not os.path.exists('open'):\n        time.sleep(0.01)\n"
        "    return text\n",
    )
    here.sink()
    here.worker("names", "--slots", "1")
    (here.folder / "in.txt").write_text("a\nslow\nc\nd\n")
    (here.folder / "more.txt").write_text("c\ne\na\n")
    command = ["names:name", "--job", "j", "--batch", "1"]
    killed = here.start("ventilator", *command, "in.txt")
    wait_until(lambda: here.query("SELECT 1 FROM results"), "the first task is recorded")
    killed.kill()
    refused = here.run("ventilator", *command, "more.txt", "--append")
    said = "only its own input has their arguments: run this command with that input and without --append first, then"
    assert (refused.wait(), said in refused.err) == (2, True), refused.err
    (here.folder / "open").touch()
    assert here.run("ventilator", *command, "in.txt").wait() == 0
    again = here.run("ventilator", *command, "more.txt", "--append")
    assert (again.wait(), "2 tasks of the input were skipped" in again.err) == (0, True)
    rows = here.query("SELECT task, argument, value FROM task_results ORDER BY task")
    assert rows == [(task, name, name) for task, name in enumerate(["a", "slow", "c", "d", "e"])]
    assert here.query("SELECT state, done, total FROM jobs") == [("done", 5, 5)]


def test_key_files(here: Pipeline) -> None:
    here.sink()
    key = here.folder / "keys" / "observer.key_secret"
    (here.folder / "my keys").mkdir(mode=0o700)
    moved = here.folder / "my keys" / "observer.key_secret"
    moved.write_bytes(key.read_bytes())
    moved.chmod(0o644)
    status = ["status", "--key", str(moved)]
    change = here.run("sink", *status).wait_for("others can read the secret in .*: run `(.*)`\n")[1]
    assert shlex.split(change)[:2] == ["chmod", "600"]
    Path(shlex.split(change)[2]).chmod(0o600)
    assert here.run("sink", *status).wait() == 3, "the sink answers, and no worker is here"

    enrol = here.run("sink", "enrol", "observer", "desk")
    asked = re.search("copy it to that machine and ask there with `(status .*)`\n", enrol.out)
    assert asked, enrol.out
    said = "for another address revoke desk, remove the file, enrol with --address"
    assert said in enrol.out
    assert here.run("sink", "enrol", "observer", "desk").wait() == 2
    assert here.run("sink", "revoke", "desk").wait() == 0
    (here.folder / "desk.key_secret").unlink()
    port = re.search(r"127.0.0.1:\d+", key.read_text())
    assert port
    assert here.run("sink", "enrol", "observer", "desk", "--address", port[0]).wait() == 0
    assert here.run("sink", *shlex.split(asked[1])).wait() == 3, "the sink answers, and no worker is here"


def test_an_option_before_its_command(here: Pipeline) -> None:
    wrong = here.run("sink", "--keys", "keys", "results")
    help_page = told(here, wrong, "--keys stands before results: put it after, if `(.*)` has it")
    assert help_page.wait() == 0
    assert "Print the results of a job" in help_page.out
