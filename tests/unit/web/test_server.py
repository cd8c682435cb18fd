"""What the page refuses at its start."""

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra `web` is not installed")

from common.errors import OperatorError
from common.sink.ledgers import open_ledger
from common.sink.postgres_place import with_site
from common.web.server import WebOptions, serve
from tests.postgres import Server

OPTIONS = WebOptions(Path("none.key"), None, None, "127.0.0.1", 0, None, (), "", False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"listen": "0.0.0.0"}, "lets other machines see the page: give --token-file FILE too"),
        ({"listen": "*"}, "lets other machines see the page"),
        ({"listen": "::"}, "lets other machines see the page"),
        ({"listen": "farm.example.org"}, "lets other machines see the page"),
        ({"root": "tw"}, "--root-path begins with a slash"),
        ({"root": "/tw/"}, "does not end with one"),
        ({"root": "/"}, "does not end with one"),
        ({"root": "//evil.example.org"}, "begins with a slash"),
        ({"root": '/"><script>'}, "like /tradewind"),
        ({"token_file": Path()}, "cannot use the token file"),
        ({"listen": "127.0.0.1.9"}, "cannot listen at 127.0.0.1.9"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    if changes.get("listen") == "127.0.0.1.9":
        changes = changes | {"token_file": tmp_path / "token"}
    with pytest.raises(OperatorError, match=r"^[^\n]*$") as refused:
        serve(replace(OPTIONS, **changes))
    assert said in str(refused.value)


def test_a_ledger_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"^there is no ledger .*/nosuch\.db: [^\n]*$"):
        serve(replace(OPTIONS, ledger=str(tmp_path / "nosuch.db")))


def test_a_site_that_is_not_there_is_refused(postgres: Server) -> None:
    night = with_site(postgres.address(), "night")
    open_ledger(night).close()
    with pytest.raises(OperatorError, match=r"^there is no site nigth in postgresql:///postgres: it has .*night"):
        serve(replace(OPTIONS, ledger=with_site(postgres.address(), "nigth")))


@pytest.mark.parametrize("ledger", ["empty.db", "postgresql://me@127.0.0.1:9/farm"])
def test_a_ledger_whose_sink_or_server_is_still_to_start_is_waited_for(
    ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    monkeypatch.chdir(tmp_path)
    Path("empty.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OperatorError, match="is in use"):
        serve(replace(OPTIONS, ledger=ledger, port=other.getsockname()[1]))


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OperatorError, match=f"port {port} is in use: give another --port"):
            serve(replace(OPTIONS, port=port))
