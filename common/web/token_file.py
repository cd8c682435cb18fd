"""The page's token: made at start, or kept in a file."""

import os
import secrets
import shlex
from pathlib import Path

from ..errors import OperatorError

_CHARACTERS_MIN = 16


def new_token() -> str:
    """A token that nobody can guess."""
    return secrets.token_urlsafe(24)


def kept_token(path: Path) -> str:
    """The token of this file, which is made when it is not there. Raises OperatorError."""
    try:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(descriptor, "w") as file:
                file.write(new_token() + "\n")
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise OperatorError(f"cannot use the token file {path}: {reason}") from None
    if mode & 0o077:
        raise OperatorError(f"others can read the token in {path}: run `chmod 600 {shlex.quote(str(path))}`")
    token = text.strip()
    if len(token) < _CHARACTERS_MIN or not token.isascii() or not token.isprintable() or " " in token:
        raise OperatorError(
            f"the token in {path} must be one line of at least {_CHARACTERS_MIN} letters, digits and signs: remove the"
            " file, and a new one is made"
        )
    return token
