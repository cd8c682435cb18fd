"""Finds out how a ledger in PostgreSQL is: whether its server answers, what it promises, and who holds the site."""

import socket

from ..errors import OperatorError
from ..sink.ledgers import shown
from ..transport import clock
from .facts import LedgerServer


def ledger_server(place: str) -> LedgerServer:
    """The server and the site. Raises OperatorError for an address that cannot be used at all."""
    name = shown(place)
    from ..sink.postgres_state import state

    began_at = clock.now()
    try:
        found = state(place)
    except OperatorError as error:
        return LedgerServer(name, fault=str(error))
    took_s = clock.now() - began_at
    return LedgerServer(
        name,
        driver=found.driver,
        version=found.version,
        answer_s=took_s,
        is_made=found.is_made,
        is_durable=found.is_durable,
        size_bytes=found.size_bytes,
        sink=found.held_by,
        sink_is_here=found.held_by.endswith(f" on {socket.gethostname()}"),
    )
