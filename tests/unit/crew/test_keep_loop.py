"""The loop of a crew that is kept: when a report counts, and what is shown of a log."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from common.crew import keep_loop
from common.crew.allocations import Condition
from common.crew.keep_loop import KeepLoop, last_lines
from common.errors import OperatorError
from common.log_line import LogLine
from common.protocol.reports import Report


class Recorder:
    """In place of the rules."""

    def __init__(self) -> None:
        self.looks: list[tuple[float, Any, Any]] = []

    def look(self, now: float, seen: Any, report: Any) -> list[LogLine]:
        self.looks.append((now, seen, report))
        return []


class SlowPool:
    """Slurm takes half a minute for an answer, or gives none."""

    def __init__(self, instants: list[float], answers: bool) -> None:
        self._instants = instants
        self._answers = answers

    def conditions(self) -> Mapping[str, Condition]:
        self._instants[0] += 30.0
        if not self._answers:
            raise OperatorError("squeue has not answered")
        return {"a": Condition.RUNS}


@pytest.mark.parametrize(("answers", "seen"), [(True, {"a": Condition.RUNS}), (False, "squeue has not answered")])
def test_a_report_counts_when_it_came_however_long_slurm_takes(
    answers: bool, seen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    instants, rules, report = [100.0], Recorder(), Report([], [])
    monkeypatch.setattr(keep_loop.clock, "now", lambda: instants[0])
    monkeypatch.setattr(keep_loop.polling, "Signals", lambda: 0)
    monkeypatch.setattr(KeepLoop, "_report", lambda loop: report)
    loop = KeepLoop(rules, SlowPool(instants, answers), Path("key"), None, 30.0)  # type: ignore[arg-type]
    loop._look()
    assert rules.looks == [(100.0, seen, report)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"one\n\ntwo\nthree\nfour\n", "its log {path} ends:\ntwo\nthree\nfour"),
        (b"one", "its log {path} ends:\none"),
        (b"\n\n", "its log {path} is empty"),
        (b"x" * 9_000 + b"\nred \x1b[31m\xff\n", "its log {path} ends:\n" + "x" * 4_084 + "\nred \\x1b[31m\ufffd"),
    ],
    ids=["last", "short", "empty", "long"],
)
def test_the_last_lines_of_a_log_are_few_and_harmless(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    assert last_lines(path) == said.format(path=path)


def test_a_log_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "log") == f"its log {tmp_path / 'log'} cannot be read: No such file or directory"
