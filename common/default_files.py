"""Where the sink's files are: by default, and what a ledger is called that is no file."""

import re
from pathlib import Path

from .errors import OperatorError

DEFAULT_LEDGER, DEFAULT_KEYS = Path("results.db"), Path("keys")

_MEANT_FOR_LIBPQ = re.compile(r"postgres(ql)?(:(?!//)|//)|(.*\s)?(ssl)?password\s*=", re.IGNORECASE | re.DOTALL)


def key_file(role: str, keys: Path = DEFAULT_KEYS) -> Path:
    """The key file of this machine's worker, ventilator or observer."""
    return keys / f"{role}.key_secret"


def scheme_of(ledger: str) -> str:
    """What stands before :// in the name of a ledger; empty for a file.

    Raises OperatorError for an address of a database that is not written as one: it would be taken for a file, whose
    name is shown.
    """
    if _MEANT_FOR_LIBPQ.match(ledger):
        raise OperatorError(
            "cannot use the ledger: it seems to be an address (not shown, as it may have a password), but no"
            " postgresql://USER@HOST/DATABASE: write it so"
        )
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
