"""What `local` refuses before it starts anything."""

from pathlib import Path

import pytest

import common


def test_a_ledger_that_is_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        common.JobRefused, match="cannot use the ledger postgresql://host/db: it is no file; give a file with ledger="
    ):
        common.local(ledger="postgresql://me:word@host/db")
    assert not list(tmp_path.iterdir())
