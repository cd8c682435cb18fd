"""Where a ledger in PostgreSQL is: its address, its site, and what may be shown of both. psycopg is an extra."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from ..default_files import scheme_of
from ..errors import OperatorError

if TYPE_CHECKING:
    import psycopg

SCHEMES = ("postgresql", "postgres")
DEFAULT_SITE = "main"
_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_SITE_KEY = "site"
"""The parameter of an address that names the site; it is ours, not libpq's."""
_SECRETS = ("password", "sslpassword")


@dataclass(frozen=True, slots=True)
class PostgresPlace:
    """A ledger: one site of a database."""

    address: str
    """For libpq, without a password."""
    site: str
    shown: str
    """For messages: user, host and database, and nothing else of the address."""

    def no_ledger(self) -> str:
        """What to say when the database has no tables of ours."""
        return f"there is no ledger in {self.shown}: start the sink there, or name another one"

    def no_site(self, sites: Iterable[str]) -> str:
        """What to say when the database has these sites and not this one."""
        database = self.shown.removesuffix(_site_shown(self.site))
        return f"there is no site {self.site} in {database}: it has {', '.join(sites) or 'none yet'}"


def with_site(ledger: str, site: str | None) -> str:
    """The name of the ledger of this site. Raises OperatorError."""
    if site is None:
        return ledger
    if scheme_of(ledger) not in SCHEMES:
        raise OperatorError("--site is for a ledger in PostgreSQL: leave it out, or give another --ledger FILE")
    return f"{ledger}{'&' if '?' in ledger else '?'}{urlencode({_SITE_KEY: site})}"


def parsed(ledger: str) -> PostgresPlace:
    """The place that this name of a ledger means. Raises OperatorError."""
    address, mark, query = ledger.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    # The last one counts, so that --site does.
    site = dict(pairs).get(_SITE_KEY, DEFAULT_SITE)
    if not _SITE.fullmatch(site):
        raise OperatorError("the name of a site has letters, digits, and ._:- between them, at most 100")
    kept = "&".join(part for part in query.split("&") if part and not part.startswith(f"{_SITE_KEY}="))
    address += mark + kept if kept else ""
    shown = _shown(address)
    driver()
    from psycopg.conninfo import conninfo_to_dict

    try:
        given = conninfo_to_dict(address)
    except Exception as error:
        # What libpq says repeats the address.
        kind = type(error).__name__
        raise OperatorError(
            f"cannot use the ledger {shown}: its address cannot be read ({kind}): write postgresql://USER@HOST/DATABASE"
        ) from None
    found = [name for name in _SECRETS if given.get(name)]
    if "@" in address.partition("?")[0].partition("://")[2].partition("/")[2]:
        # libpq ends a password at a /, and would say the rest of it as the name of the database.
        found.append("password")
    if found:
        raise OperatorError(
            f"the ledger {shown} has a {found[0]} in its address, which ps shows to everybody: put it into ~/.pgpass,"
            " or into a file that PGPASSFILE names"
        )
    return PostgresPlace(address, site, shown + _site_shown(site))


def _site_shown(site: str) -> str:
    return "" if site == DEFAULT_SITE else f", site {site}"


def _shown(address: str) -> str:
    """The address without what may be a password, and without parameters other than that of a service."""
    scheme, _, rest = address.partition("://")
    # A password may have any character, an @, a / and a ? too: libpq takes a ? before an @ for a part of it.
    head, slash, tail = rest.partition("/")
    before, at, host = head.rpartition("@")
    more, also, place = f"{host}{slash}{tail}".partition("?")[0].rpartition("@")
    user = (before if at else more).partition(":")[0] + (at or also)
    services = [value for key, value in parse_qsl(address.partition("?")[2]) if key == "service"]
    return f"{scheme}://{user}{place}" + (f"?service={services[0]}" if services else "")


def driver() -> "type[psycopg.Connection]":
    """Import psycopg. Raises OperatorError where it is missing."""
    try:
        import psycopg
    except ImportError as error:
        missing = "psycopg" if error.name == "psycopg" else f"psycopg ({error})"
        raise OperatorError(
            f"a ledger in PostgreSQL needs {missing}, which is not installed: run `pip install 'tradewind[postgres]'`"
        ) from None
    return psycopg.Connection
