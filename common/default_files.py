"""Where the sink's files are: by default, and what a ledger is called that is no file."""

from pathlib import Path

from .errors import OperatorError

DEFAULT_LEDGER, DEFAULT_KEYS = Path("results.db"), Path("keys")


def key_file(role: str, keys: Path = DEFAULT_KEYS) -> Path:
    """The key file of this machine's worker, ventilator or observer."""
    return keys / f"{role}.key_secret"


def scheme_of(ledger: str) -> str:
    """What stands before :// in the name of a ledger; empty for a file."""
    before, colon, _ = ledger.partition("://")
    return before if colon else ""


def ledger_file(ledger: str, option: str) -> Path:
    """The file that this ledger is. Raises OperatorError, which names the option, for one that is none."""
    if scheme_of(ledger):
        raise no_file(ledger, f"a file with {option}")
    return Path(ledger)


def no_file(ledger: str, what: str) -> OperatorError:
    """This ledger cannot be used, give this; what may be a user, a password or parameters is not shown."""
    scheme, _, rest = ledger.partition("://")
    place = rest.rpartition("@")[2].partition("?")[0]
    return OperatorError(f"cannot use the ledger {scheme}://{place}: it is no file; give {what}")
