"""A command's talk with the sink: question and answer, one at a time."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import zmq

from ..errors import SinkGone
from ..protocol.messages import FromSink, Message, Welcome
from ..protocol.settings import Timing
from . import clock, polling, sockets
from .key_files import load_one_of
from .sink_link import SinkLink, sink_addresses

Answer = TypeVar("Answer", bound=FromSink)


class SinkTalk:
    """Joins the sink with a key file of one of these roles. A question is asked again when the sink was away.

    Raises OperatorError when the sink cannot be joined within `join_s` seconds, or refuses.
    """

    def __init__(
        self, key: Path, roles: tuple[str, ...], override: str | None, join_s: float = Timing().voice_s
    ) -> None:
        certificate = load_one_of(key, roles)
        self.options = shlex.join(["--key", str(key), *(["--sink", override] if override else [])])
        """With which options another command asks the same sink."""
        self._timing = Timing()
        self._join_by = clock.now() + join_s
        self._context = zmq.Context()
        self._poll = polling.Poll()
        self._question: Message | None = None
        self._ask_at = float("inf")
        self._received: list[FromSink] = []
        addresses = sink_addresses(certificate, override)
        name = f"{certificate.role}.{sockets.process_tag()}"
        self._link = SinkLink(self._context, certificate, addresses, name, self._receive, self._timing)
        self._link.register(self._poll)

    @property
    def welcome(self) -> Welcome | None:
        """The sink's last welcome."""
        return self._link.welcome

    def begin(self, question: Message) -> None:
        """Send the question that is asked next, to do something else until then."""
        self._question = question
        self._send()

    def ask(
        self, question: Message, kind: type[Answer], is_answer: Callable[[Answer], bool] = bool, by: float | None = None
    ) -> Answer:
        """The answer to the question. Once joined it is waited for without end, unless `by` says until when."""
        if question != self._question:
            self.begin(question)
        while True:
            for message in self._received:
                if isinstance(message, kind) and is_answer(message):
                    self._received.clear()
                    self._question = None
                    return message
            self._received.clear()
            give_up_at = self._join_by if self._link.welcome is None else by
            if give_up_at is not None and clock.now() >= give_up_at:
                raise SinkGone(self._link.waiting_for())
            instants = (give_up_at, self._ask_at, self._link.deadline())
            self._poll.wait(min(instant for instant in instants if instant is not None))
            self._link.tick()
            if clock.now() >= self._ask_at and not self._received:
                self._send()

    def ask_once(self, question: Message, kind: type[Answer]) -> Answer:
        """The answer to the question. Raises OperatorError when none comes in 5 seconds."""
        return self.ask(question, kind, by=clock.now() + self._timing.voice_s)

    def watch(self, what: Any, call: Callable[[], object]) -> None:
        """Call `call` when `what`, something with a `fileno`, is readable; `ask` raises what it raises."""
        self._poll.register(what, call)

    def unwatch(self, what: Any) -> None:
        """No longer do so."""
        self._poll.unregister(what)

    def _send(self) -> None:
        self._ask_at = float("inf")
        if self._question is not None and self._link.welcome is not None:
            self._link.send(self._question)
            self._ask_at = clock.now() + self._timing.silence_s

    def _receive(self, message: FromSink) -> None:
        if isinstance(message, Welcome):
            self._send()
        self._received.append(message)

    def close(self) -> None:
        """Leave."""
        self._link.close()
        self._context.term()


def ask_sink(key: Path, roles: tuple[str, ...], override: str | None, question: Message, kind: type[Answer]) -> Answer:
    """Join the sink, ask one question and wait for its answer. Raises OperatorError when none comes in 5 seconds."""
    talk = SinkTalk(key, roles, override)
    try:
        return talk.ask_once(question, kind)
    finally:
        talk.close()
