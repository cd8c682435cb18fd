"""Runs the ssh of each host, and does what the rules for the hosts say."""

import asyncio
import logging
import signal
from collections.abc import Sequence
from contextlib import suppress

from .. import console
from ..errors import ExitCode
from ..log_line import write
from ..plain_text import counted, one_line
from ..transport import clock
from .host import CrewHost
from .remote import Way
from .why import SSH_FAILED

log = logging.getLogger(__name__)

STARTING_MAX = 8
"""How many connections begin at once: an sshd refuses some of more than ten."""
_STARTING_S = 10.0
"""A connection that has said nothing for this long no longer keeps others waiting."""
_LINE_BYTES_MAX = 1024 * 1024


class SshCrew:
    """The workers of all hosts, until they have left."""

    def __init__(self, hosts: Sequence[str], way: Way, words: Sequence[str], key: str) -> None:
        self._way = way
        self._words = (*words, "--stop-with-stdin")
        self._key = key.encode()
        self._hosts = [CrewHost(host, way) for host in hosts]
        self._running: dict[asyncio.subprocess.Process, CrewHost] = {}
        self._starting = asyncio.Semaphore(STARTING_MAX)
        self._leaves = asyncio.Event()

    async def run(self) -> ExitCode:
        """Start the workers and start them again, until all have left or a signal comes."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup has it ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._signalled, number.name)
        await asyncio.gather(*(self._serve(host) for host in self._hosts))
        return ExitCode.WRONG_USE if any(host.has_failed for host in self._hosts) else ExitCode.OK

    def _signalled(self, name: str) -> None:
        workers = counted(sum(host.is_up for host in self._running.values()), "worker")
        if self._leaves.is_set():
            log.warning("%s again: leaving at once, without waiting for %s", name, workers)
            for process in self._running:
                _kill(process)
            return
        log.info("%s: waiting for %s to finish what runs; again to leave at once", name, workers)
        self._leaves.set()
        for process, host in self._running.items():
            _close(process)
            if not host.is_up:
                # Nothing runs there yet.
                _kill(process)

    async def _serve(self, host: CrewHost) -> None:
        while not self._leaves.is_set():
            code = await self._attempt(host)
            if code is not None and (line := host.ended(clock.now(), code, self._leaves.is_set())):
                write(log, line)
            if host.retry_at is None:
                return
            await _wait(self._leaves, host.retry_at - clock.now())

    async def _attempt(self, host: CrewHost) -> int | None:
        """Run the host's ssh to its end; returns its exit code, None when the crew leaves before."""
        is_up = asyncio.Event()
        await self._starting.acquire()
        room = asyncio.create_task(self._hold_room(is_up))
        try:
            if self._leaves.is_set():
                return None
            host.began()
            try:
                process = await self._started(host)
            except OSError as error:
                # This machine may have no process or descriptor left for a moment.
                host.line(clock.now(), f"it cannot be started here: {error.strerror}")
                return SSH_FAILED
            self._running[process] = host
            try:
                return await self._follow(host, process, is_up)
            finally:
                del self._running[process]
        finally:
            is_up.set()
            await room

    async def _started(self, host: CrewHost) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._way.command(host.name, "worker", self._words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES_MAX,
            # Ctrl-C on this terminal is for us alone.
            start_new_session=True,
        )

    async def _hold_room(self, is_up: asyncio.Event) -> None:
        await _wait(is_up, _STARTING_S)
        self._starting.release()

    async def _follow(self, host: CrewHost, process: asyncio.subprocess.Process, is_up: asyncio.Event) -> int:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(self._key)
        if self._leaves.is_set():
            _close(process)
        await asyncio.gather(*(self._read(host, each, is_up) for each in (process.stdout, process.stderr)))
        _pass_on(host.left_out())
        return await process.wait()

    async def _read(self, host: CrewHost, stream: asyncio.StreamReader, is_up: asyncio.Event) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                # Longer than any line of a worker.
                continue
            if not line:
                return
            _pass_on(host.line(clock.now(), line.decode(errors="replace").rstrip("\r\n")))
            if host.is_up:
                is_up.set()


def _pass_on(lines: Sequence[str]) -> None:
    for line in lines:
        console.pass_on(one_line(line))


def _close(process: asyncio.subprocess.Process) -> None:
    """End the standard input of the worker, which then leaves."""
    if process.stdin is not None:
        process.stdin.close()


def _kill(process: asyncio.subprocess.Process) -> None:
    # It may have ended a moment ago.
    with suppress(ProcessLookupError):
        process.kill()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but no longer than this."""
    try:
        await asyncio.wait_for(event.wait(), max(0.0, seconds))
    except TimeoutError:
        return
