"""What the page refuses at its start."""

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra `web` is not installed")

from common.errors import OperatorError
from common.web.server import WebOptions, serve

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


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OperatorError, match=f"port {port} is in use: give another --port"):
            serve(replace(OPTIONS, port=port))
