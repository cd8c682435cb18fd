"""The README's commands, typed as they stand (with `.venv/bin/python` as this Python, and free ports)."""

import re
import shlex
import shutil
import sqlite3
import sys

from tests.conftest import TOP, Pipeline

README = (TOP / "README.md").read_text()


def blocks(heading: str) -> list[str]:
    """The fenced blocks below a heading."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```\w*\n(.*?)```", section, re.DOTALL)


def test_the_three_terminals(pipeline: Pipeline) -> None:
    (pipeline.folder / "examples").symlink_to(TOP / "examples")
    sink, worker, ventilator, after = blocks("Three terminals")

    def arguments(command: str) -> list[str]:
        program, script, *rest = shlex.split(command)
        assert program == ".venv/bin/python"
        assert (TOP / script).is_file()
        return [script.removesuffix(".py"), *rest]

    assert arguments(sink) == ["sink"]
    pipeline.sink()
    pipeline.start(*arguments(worker))
    assert pipeline.start(*arguments(ventilator), TRADEWIND_PORT="0").wait() == 0
    outputs = [pipeline.run(*arguments(command)) for command in after.strip().splitlines()]
    assert [process.wait() for process in outputs] == [0, 0, 0]
    assert outputs[0].out.count("\n") == 1_000_000
    assert "\tdone\t1000000\t0\t1000000\t" in outputs[1].out
    assert "examples.squares" not in outputs[2].err

    query = re.fullmatch(r"sqlite3 results.db \"(.*)\"\n", blocks("The ledger")[0])
    assert query
    with sqlite3.connect(pipeline.folder / "results.db") as db:
        assert db.execute(query[1]).fetchall() == [(0, 0), (1, 1), (2, 4)]


def test_another_machine(pipeline: Pipeline) -> None:
    pipeline.sink()
    enrol, start, *_ = blocks("Another machine")
    assert pipeline.run(*shlex.split(enrol.replace("python sink.py", "sink"))).wait() == 0
    command = shlex.split(start)
    assert command[0] == "tradewind-worker"
    port = re.search(r"127.0.0.1:(\d+)", (pipeline.folder / "keys" / "worker.key_secret").read_text())
    assert port
    worker = pipeline.worker(*command[1:], "--sink", f"127.0.0.1:{port[1]}")
    worker.wait_for("joined the sink")


def test_files_that_the_readme_names_exist() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (TOP / path).is_file(), path
    assert shutil.which(sys.executable)
