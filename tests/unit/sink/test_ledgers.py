"""Which ledger is meant by `--ledger`."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from common.default_files import scheme_of
from common.errors import OperatorError
from common.sink.ledger_reader import LedgerReader
from common.sink.ledgers import open_care, open_ledger, open_reader
from common.sink.postgres_place import PostgresPlace, _shown, parsed, with_site
from common.sink.sqlite_ledger import Ledger
from common.sink.store import Opening


@pytest.mark.parametrize("name", ["results.db", "a name: with/colons.db", "no.suffix:"])
def test_a_file_is_a_ledger_of_sqlite(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    ledger, reader = open_ledger(str(path)), open_reader(str(path))
    assert (type(ledger), type(reader)) == (Ledger, LedgerReader)
    ledger.close()
    reader.close()


def test_a_ledger_in_memory_is_read_where_it_is_written() -> None:
    """A second connection would have another, empty database."""
    ledger = open_ledger(":memory:")
    ledger.submit(Opening("job", "m:f", "lines of text"))
    assert [each.job for each in ledger.listed(0, 10)] == ["job"]
    assert ledger.fileno() is None
    ledger.close()


@pytest.mark.parametrize("opener", [open_ledger, open_reader])
def test_another_scheme_is_refused_in_one_line(opener: object) -> None:
    assert callable(opener)
    with pytest.raises(OperatorError, match="cannot use the ledger mysql://host/results") as refused:
        opener("mysql://host/results")
    assert str(refused.value).endswith(": it is no file; give a file or postgresql://USER@HOST/DATABASE with --ledger")


@pytest.mark.parametrize("place", ["mysql://me:w/o?r@d@host/results", "mysql://host/results?password=word"])
def test_a_password_in_the_name_of_a_ledger_is_not_shown(place: str) -> None:
    with pytest.raises(OperatorError, match="cannot use the ledger mysql://host/results: it is no file; give a file"):
        open_ledger(place)


@pytest.mark.parametrize(
    "place",
    [
        *(
            "postgresql:me:word@host",
            "postgres:/me:word@host/db",
            "postgresql//me:word@host",
            "PostgreSQL:me:word@host",
        ),
        *("host=h password=word", "password = word", "host=h\tsslpassword=word"),
    ],
)
@pytest.mark.parametrize("opener", [open_ledger, open_reader, open_care])
def test_an_address_that_is_none_makes_no_file_and_is_not_shown(
    opener: Callable[[str], object], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OperatorError, match=r"it seems to be an address .* postgresql://USER@HOST/DATABASE") as refused:
        opener(place)
    assert "word@" not in str(refused.value) and "=word" not in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["postgresql/results.db", "my password.db", "postgres.db", "password/a=b.db"])
def test_a_file_may_have_such_words_in_its_name(place: str) -> None:
    assert scheme_of(place) == ""


@pytest.mark.parametrize("opener", [open_ledger, open_reader, open_care])
def test_without_psycopg_a_database_says_what_to_install(opener: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(opener)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(OperatorError, match=r"needs psycopg, which .*: run `pip install 'tradewind\[postgres\]'`$"):
        opener("postgresql://host/results")


def test_a_site_is_one_of_a_database() -> None:
    assert with_site("results.db", None) == "results.db"
    assert with_site("postgresql://host/db", "night") == "postgresql://host/db?site=night"
    with pytest.raises(OperatorError, match="--site is for a ledger in PostgreSQL"):
        with_site("results.db", "night")


@pytest.mark.parametrize(
    "place", ["postgresql://me:w?o@host:5/db", "postgresql://me:w?o@r/d@host:5/db", "postgresql://me:5/o@host:5/db"]
)
def test_a_password_is_seen_and_not_shown_wherever_it_ends_for_libpq(place: str) -> None:
    assert _shown(place) == "postgresql://me@host:5/db"
    pytest.importorskip("psycopg")
    with pytest.raises(OperatorError, match="the ledger postgresql://me@host:5/db has a password in its address"):
        parsed(place)


def test_a_missing_site_names_those_that_there_are() -> None:
    address = "postgresql://me@host/farm"
    place = PostgresPlace(address, "tow", f"{address}, site tow")
    assert place.no_site(["main", "two"]) == f"there is no site tow in {address}: it has main, two"
    assert PostgresPlace(address, "main", address).no_site([]) == f"there is no site main in {address}: it has none yet"
