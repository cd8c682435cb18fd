"""Which ledger is meant by `--ledger`."""

from pathlib import Path

import pytest

from common.errors import OperatorError
from common.sink.ledger_reader import LedgerReader
from common.sink.ledgers import open_ledger, open_reader
from common.sink.sqlite_ledger import Ledger


@pytest.mark.parametrize("name", ["results.db", "a name: with/colons.db", "no.suffix:"])
def test_a_file_is_a_ledger_of_sqlite(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    ledger, reader = open_ledger(str(path)), open_reader(str(path))
    assert (type(ledger), type(reader)) == (Ledger, LedgerReader)
    ledger.close()
    reader.close()


@pytest.mark.parametrize("opener", [open_ledger, open_reader])
def test_another_scheme_is_refused_in_one_line(opener: object) -> None:
    assert callable(opener)
    with pytest.raises(OperatorError, match="cannot use the ledger mysql://host/results") as refused:
        opener("mysql://host/results")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("place", ["mysql://me:w/o?r@d@host/results", "mysql://host/results?password=word"])
def test_a_password_in_the_name_of_a_ledger_is_not_shown(place: str) -> None:
    with pytest.raises(OperatorError, match="cannot use the ledger mysql://host/results: it is no file"):
        open_ledger(place)
