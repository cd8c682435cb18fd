"""The command `forget`: through the running sink, or in a ledger that no sink has open."""

import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer

from ..errors import OperatorError
from ..plain_text import counted
from ..protocol.messages import Forget, Forgotten
from ..protocol.settings import Timing
from ..protocol.users import VENTILATOR
from ..transport import clock
from ..transport.sink_talk import SinkTalk
from .forgetting import chosen, question
from .ledgers import open_ledger, open_reader
from .remote_reader import RemoteReader
from .store import Forgetting, JobSummary, LedgerStuck, Tidying
from .whole_write import write_and_wait


@dataclass(frozen=True, slots=True)
class Choice:
    """The command line: which jobs, and whether to ask."""

    names: list[str]
    done: bool
    older_than: str | None
    yes: bool

    def of(self, jobs: list[JobSummary]) -> list[str]:
        """The names of those that are to be forgotten, once somebody has agreed. Raises OperatorError."""
        found = chosen(jobs, self.names, self.done, self.older_than, datetime.now(UTC))
        if not found:
            print("no job to forget")
        elif not self.yes:
            if not sys.stdin.isatty():
                raise OperatorError("this is not a terminal, so nobody can be asked: add --yes")
            typer.confirm(question(found), abort=True)
        return [job.name for job in found]


def ask_to_forget(key: Path, sink: str | None, choice: Choice) -> None:
    """Have the running sink forget the jobs. Raises OperatorError."""
    with closing(SinkTalk(key, (VENTILATOR,), sink)) as talk:

        def forget(name: str) -> None:
            answer_by = clock.now() + Timing().voice_s
            talk.ask(Forget(name), Forgotten, lambda answer: answer.job == name, by=answer_by)

        _forget_each(choice.of(RemoteReader(talk).jobs()), forget)


def forget_here(place: str, choice: Choice) -> None:
    """Forget the jobs of a ledger that no sink has open, and give all of their room back. Raises OperatorError."""
    with closing(open_reader(place)) as reader:
        names = choice.of(reader.jobs())
    if not names:
        return
    with closing(open_ledger(place)) as ledger:
        try:
            # Another command may have been as fast.
            still_there = [name for name in names if ledger.job(name) is not None]
            _forget_each(still_there, lambda name: write_and_wait(ledger, Forgetting(name)))
            while write_and_wait(ledger, Tidying()):
                pass
        except LedgerStuck as error:
            left = "what was not said to be forgotten is still there"
            raise OperatorError(f"the ledger {place} accepts no change now: {error}; {left}") from None


def _forget_each(names: Iterable[str], forget: Callable[[str], object]) -> None:
    count = 0
    for name in names:
        forget(name)
        count += 1
        print(f"forgot {name}")
    if count > 1:
        print(f"forgot {counted(count, 'job')}")
