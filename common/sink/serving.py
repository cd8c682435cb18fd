"""Serves, or stands by while another sink writes the ledger."""

import logging

from ..errors import OperatorError
from ..transport import polling
from ..transport.key_files import is_missing
from ..transport.key_folder import KeyFolder
from .ledgers import open_ledger
from .loop import Sink, SinkOptions
from .store import LedgerAway, LedgerHeld, LedgerLost, Store

log = logging.getLogger(__name__)

_AGAIN_S = 1.0
"""How long to wait before the next try to reach a ledger that is away."""


def serve(options: SinkOptions) -> None:
    """Collect results until SIGTERM or Ctrl-C.

    No port is open while another sink writes the ledger: whoever knocks there is refused at once, and goes to that one.
    """
    signals: polling.Signals | None = None
    while True:
        ledger, signals = _opened(options, signals)
        if ledger is None:
            return
        try:
            # The same ones from the first wait on: one that comes in between is not lost.
            signals = signals or polling.Signals()
            Sink(options, ledger).run(signals)
            return
        except LedgerLost as lost:
            log.error("%s; standing by", lost)
        finally:
            ledger.close()


def _opened(options: SinkOptions, signals: polling.Signals | None) -> tuple[Store | None, polling.Signals | None]:
    """The ledger once it is this sink's, or None when a signal came first; and the signals. Raises OperatorError.

    There are none before the first wait: until then Ctrl-C ends the command at once.
    """
    said = ""
    while True:
        try:
            return open_ledger(options.ledger, lambda: KeyFolder(options.keys).prepare().public), signals
        except LedgerHeld as held:
            # A command that holds it has no key.
            if held.sink_key and _own_key(options) != held.sink_key:
                raise OperatorError(_other_key(options, held)) from None
            text, pause_s = f"standby: {held.holder} holds the ledger {held.ledger}; taking over when it ends", 0.0
        except LedgerAway as away:
            text, pause_s = f"{away}; still trying", _AGAIN_S
        if text != said:
            log.info("%s", text)
            said = text
        signals = signals or polling.Signals()
        if signals.pending(pause_s):
            log.info("leaving; this sink was not serving")
            return None, signals


def _own_key(options: SinkOptions) -> str:
    """The sink's public key; empty when it has none yet."""
    folder = KeyFolder(options.keys)
    return "" if is_missing(folder.path / "sink.key_secret") else folder.sink().public


def _other_key(options: SinkOptions, held: LedgerHeld) -> str:
    mine = "this sink has another key" if _own_key(options) else "this sink has no key yet"
    return (
        f"{held.holder} holds the ledger {held.ledger}, and {mine}: copy that sink's key folder to {options.keys} here,"
        " so that its peers know this one after a take-over, or give another --site"
    )
