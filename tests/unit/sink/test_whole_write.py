"""A command that waits for one write says what it waits for."""

import os
from collections.abc import Iterator

import pytest

from common.sink import whole_write
from common.sink.store import Completion, Tidying
from common.sink.whole_write import write_and_wait


class SlowLedger:
    """A `Store` whose write has ended when all of these reasons were asked for."""

    def __init__(self, reasons: list[str]) -> None:
        self._reasons = reasons
        self._read, self._write = os.pipe()

    def submit(self, write: Tidying) -> None:
        pass

    def completed(self) -> Completion | None:
        return None if self._reasons else Completion(Tidying(), False)

    @property
    def waits_for(self) -> str:
        return self._reasons.pop(0)

    def fileno(self) -> int:
        return self._read

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowLedger]:
    monkeypatch.setattr(whole_write, "LATE_S", 0.01)
    ledger = SlowLedger(["", "the server is away", "the server is away", "the server does not answer"])
    yield ledger
    ledger.close()


def test_what_a_write_waits_for_is_said_once(slow: SlowLedger, capsys: pytest.CaptureFixture[str]) -> None:
    assert write_and_wait(slow, Tidying()) is False  # type: ignore[arg-type]
    assert capsys.readouterr() == (
        "",
        "sink: the server is away; waiting for it\nsink: the server does not answer; waiting for it\n",
    )
