"""The links to ventilators: which of them are up, and what is said of those that are not. No socket, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from ..log_line import LogLine
from ..plain_text import host_port
from ..protocol.handshake import LinkEvent
from ..protocol.messages import Obstacle, Unreachable
from ..protocol.settings import Timing

_OBSTACLES: dict[LinkEvent, Obstacle] = {
    LinkEvent.NOBODY: "silence",
    LinkEvent.CUT: "silence",
    LinkEvent.NO_SUCH_NAME: "name",
    LinkEvent.KEY_REFUSED: "handshake",
    LinkEvent.BAD_HANDSHAKE: "handshake",
    LinkEvent.NO_TRADEWIND: "handshake",
}
_WORDS: dict[Obstacle, str] = {
    "silence": "nothing answers there, or a firewall is in between",
    "name": "that name has no address here",
    "handshake": "something else answers there, or does not know this worker's key",
}
_SAY_MAX_S = 600.0
"""The longest time between two lines about one link; it begins with `voice_s` and doubles."""

Address = tuple[str, int]
"""Host and port."""


def _is_name(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return True
    return False


@dataclass(slots=True)
class _Link:
    jobs: list[str]
    say_at: float | None
    """When to say that it is not up; None while it is."""
    wait_s: float
    obstacle: Obstacle = "silence"


class TasksLinks:
    """A link that is not up is mentioned, to the log and to the job's ventilator, and again while that lasts."""

    def __init__(self, timing: Timing, worker: str) -> None:
        self._voice_s = timing.voice_s
        # By then the sink has noticed that a ventilator is gone, and names its place no longer.
        self._cut_s = timing.gone_s + timing.voice_s
        self._worker = worker
        self._links: dict[Address, _Link] = {}

    def connect(self, now: float, address: Address, job: str) -> None:
        """The tasks of this job are pulled from there too."""
        known = self._links.setdefault(address, _Link([], now + self._voice_s, self._voice_s))
        known.jobs.append(job)

    def serve(self, address: Address, jobs: Sequence[str]) -> list[LogLine]:
        """The tasks of these jobs, and of no others, are pulled from there. Those of the relay share one link."""
        link = self._links[address]
        more = [job for job in jobs if job not in link.jobs]
        link.jobs = list(jobs)
        return [self._up(address, more)] if more and link.say_at is None else []

    def disconnect(self, address: Address) -> None:
        """Nothing is pulled from there any more."""
        self._links.pop(address, None)

    def event(self, now: float, address: Address, event: LinkEvent) -> list[LogLine]:
        """Take what the monitor has seen."""
        if address not in self._links:
            address = self._named(address)
        link = self._links.get(address)
        if link is None:
            return []
        if event is LinkEvent.CONNECTED:
            was_down, link.say_at, link.wait_s = link.say_at is not None, None, self._voice_s
            return [self._up(address, link.jobs)] if was_down else []
        if link.say_at is None and event is LinkEvent.CUT:
            link.say_at = now + self._cut_s
        link.obstacle = _OBSTACLES[event]
        return []

    def _named(self, address: Address) -> Address:
        """The link at this port whose host is a name, which is the sink's: after a cut it is seen by its address."""
        return next((each for each in self._links if each[1] == address[1] and _is_name(each[0])), address)

    def tick(self, now: float) -> list[LogLine | Unreachable]:
        """Say which links are not up, when that is due."""
        outputs: list[LogLine | Unreachable] = []
        for address, link in self._links.items():
            if link.say_at is None or now < link.say_at:
                continue
            link.say_at, link.wait_s = now + 2 * link.wait_s, min(2 * link.wait_s, _SAY_MAX_S / 2)
            for job in link.jobs:
                outputs.append(Unreachable(job, self._worker, *address, link.obstacle))
                where = f"the tasks of job {job} at {host_port(*address)}"
                text = f"cannot reach {where}: {_WORDS[link.obstacle]}; its ventilator is told so; still trying"
                outputs.append(LogLine("warning", text))
        return outputs

    def _up(self, address: Address, jobs: Sequence[str]) -> LogLine:
        return LogLine("info", f"pulling the tasks of job {', '.join(jobs)} from {host_port(*address)}")

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        return min((link.say_at for link in self._links.values() if link.say_at is not None), default=None)
