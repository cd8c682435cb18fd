"""The file that keeps the token."""

from pathlib import Path

import pytest

from common.errors import OperatorError
from common.web.token_file import kept_token, new_token


def test_a_missing_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = kept_token(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert kept_token(path) == token == path.read_text().strip()
    assert len({new_token() for _ in range(100)} | {token}) == 101


@pytest.mark.parametrize(
    "text", ["", "short\n", "two words that are long enough\n", "line one is long enough\nand two", "ümlaut" * 9]
)
def test_what_is_no_token_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(OperatorError, match="remove the file, and a new one is made"):
        kept_token(path)


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(new_token())
    path.chmod(0o640)
    with pytest.raises(OperatorError, match="chmod 600"):
        kept_token(path)


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "token"):
        with pytest.raises(OperatorError, match=f"cannot use the token file {path}"):
            kept_token(path)
