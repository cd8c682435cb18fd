"""The key that the workers of a crew get through ssh: a key file of this machine, or one that is lent to the crew."""

import secrets
import socket
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import OperatorError
from ..protocol.messages import Query, Report
from ..protocol.sink_addresses import is_loopback
from ..protocol.users import WORKER
from ..transport import sockets
from ..transport.key_files import Certificate, as_text, load_pair
from ..transport.key_folder import KeyFolder
from ..transport.sink_link import sink_addresses
from ..transport.sink_talk import SinkTalk


@dataclass(frozen=True, slots=True)
class CrewKey:
    """The key, and the folder that has lent it."""

    certificate: Certificate
    lender: KeyFolder | None = None

    @property
    def text(self) -> str:
        """What goes to a worker's standard input."""
        return as_text(self.certificate) + "\n"

    def give_back(self) -> None:
        """Revoke the key, if it was lent. Raises OperatorError."""
        if self.lender is not None:
            self.lender.revoke(self.certificate.name)


def own(path: Path) -> CrewKey:
    """The key in this file. Raises OperatorError."""
    return CrewKey(load_pair(path, WORKER))


def lent(keys: Path) -> CrewKey:
    """A key of the crew's own, from this key folder. Raises OperatorError."""
    folder = KeyFolder(keys).made()
    port = sink_addresses(folder.certificate(WORKER), None)[0][1]
    made = folder.lend(WORKER, f"crew-{secrets.token_hex(4)}", sockets.endpoint(socket.gethostname(), port))
    return CrewKey(made, folder)


def tunnel(asker: Path) -> tuple[tuple[int, str, int], ...]:
    """Which ports of a host lead to the sink, the control port first.

    The sink that the key file `asker` names says which ports these are. Raises OperatorError.
    """
    (host, port), *others = sink_addresses(load_pair(asker, WORKER), None)
    if others:
        raise OperatorError(f"--tunnel leads to one sink, and {asker} names several: leave --tunnel out")
    with closing(SinkTalk(asker, (WORKER,), None)) as talk:
        talk.ask_once(Query(), Report)
        assert talk.welcome is not None
        ports = (port, talk.welcome.results_port, talk.welcome.tasks_port)
    return tuple((each, host, each) for each in ports if each)


def at_own_machine(key: CrewKey, port: int) -> CrewKey:
    """The key for workers that find the sink at this port of their own machine."""
    return replace(key, certificate=replace(key.certificate, sink=sockets.endpoint(sockets.LOOPBACK, port)))


def check_address(key: CrewKey, advice: str) -> None:
    """Refuse an address of the sink that means another machine on each machine. Raises OperatorError."""
    if any(is_loopback(host) for host, _ in sink_addresses(key.certificate, None)):
        raise OperatorError(
            f"the sink's address in {key.certificate.path} is {key.certificate.sink}, which is each machine itself:"
            f" {advice}, with the name or address by which the workers reach the sink's machine"
        )
