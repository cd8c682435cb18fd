"""A ledger is looked after while its sink runs: jobs forgotten, copies made, damage found."""

import re
import subprocess

from tests.conftest import Pipeline, wait_until
from tests.test_operations import said

GATE = """
import os, time
def wait(n):
    while n > 50 and not os.path.exists("open"):
        time.sleep(0.01)
    return n
"""


def test_jobs_are_forgotten_while_another_one_runs(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE)
    sink = pipeline.sink()
    pipeline.worker("gate", "squares", "--slots", "2")
    for job in ("first", "second"):
        assert pipeline.ventilator("squares:square", "--range", "20000", "--job", job).wait() == 0
    running = pipeline.ventilator("gate:wait", "--range", "100", "--batch", "1", "--job", "running")
    wait_until(lambda: pipeline.query("SELECT 1 FROM jobs WHERE name='running' AND done>20"), "it has begun")

    asked = pipeline.run("sink", "forget", "first")
    assert (asked.wait(), "nobody can be asked: add --yes" in asked.err) == (2, True)
    refused = pipeline.run("sink", "forget", "running", "--yes")
    assert (refused.wait(), "job running is run by a ventilator" in refused.err) == (2, True)
    in_use = pipeline.run("sink", "forget", "first", "--yes", "--ledger", "results.db")
    assert (in_use.wait(), "in use by another sink" in in_use.err) == (2, True)

    forgotten = pipeline.run("sink", "forget", "--done", "--yes")
    assert (forgotten.wait(), forgotten.out) == (0, "forgot first\nforgot second\nforgot 2 jobs\n")
    sink.wait_for("job first with 20,000 results was forgotten by ventilator")
    assert pipeline.query("SELECT name FROM jobs") == [("running",)]
    # The sink is ended in the middle of giving the room back, and goes on with it.
    sink.kill()
    pipeline.sink()
    wait_until(lambda: pipeline.query("SELECT count(*) FROM results WHERE job<3") == [(0,)], "no row is left")
    (pipeline.folder / "open").touch()
    assert pipeline.ventilator("squares:square", "--range", "3", "--job", "first").wait() == 0
    assert running.wait() == 0
    assert pipeline.query("SELECT name, done FROM jobs ORDER BY job") == [("running", 100), ("first", 3)]
    sound = pipeline.run("sink", "verify")
    assert (sound.wait(), sound.out) == (0, "results.db is sound\n")


def test_a_sink_whose_machine_is_gone_goes_on_from_copies(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE)
    (pipeline.folder / "in.txt").write_text("".join(f"{number}\n" for number in range(100)))
    pipeline.module("lines", "import gate\ndef wait(line):\n    return gate.wait(int(line))\n")
    sink = pipeline.sink()
    worker = pipeline.worker("lines", "--slots", "2")
    first = pipeline.ventilator("lines:wait", "in.txt", "--batch", "1", "--job", "job")
    wait_until(lambda: pipeline.query("SELECT 1 FROM jobs WHERE done>=20"), "some tasks are recorded")
    forget, forget_old, backup, copy_keys, *restore, start, verify = said("The ledger's care")
    copied = pipeline.run(*backup)
    assert copied.wait() == 0, copied.err
    assert re.fullmatch(r"wrote monday\.db \([\d,]+ bytes\): a sink started with --ledger monday\.db .*\n", copied.out)
    subprocess.run(copy_keys, cwd=pipeline.folder, check=True)
    wait_until(lambda: pipeline.query("SELECT 1 FROM jobs WHERE done>=51"), "more are recorded after that")
    sink.kill()
    (pipeline.folder / "keys").rename(pipeline.folder / "gone.keys")
    for left in pipeline.folder.glob("results.db*"):
        left.rename(left.with_name(f"gone-{left.name}"))

    for command in restore:
        subprocess.run(command, cwd=pipeline.folder, check=True)
    assert start == ["sink"]
    pipeline.sink()
    worker.wait_for("(?s)joined the sink.*joined the sink")
    assert first.wait() == 2
    assert "another ledger" in first.err, "it would have missed what was recorded after the copy"
    (pipeline.folder / "open").touch()
    assert pipeline.ventilator("lines:wait", "in.txt", "--batch", "1", "--job", "job").wait() == 0
    assert pipeline.query("SELECT count(*), count(DISTINCT task), sum(value) FROM results") == [(100, 100, 4950)]
    assert pipeline.run(*forget_old).out == "no job to forget\n", "it is not that old"
    named = [word if word not in ("first", "second") else "job" for word in forget]
    assert pipeline.run(*dict.fromkeys(named), "--yes").out == "forgot job\n"
    sound = pipeline.run(*verify)
    assert (sound.wait(), sound.out) == (0, "results.db is sound\n")
