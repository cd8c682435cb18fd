"""Where the sink's files are, when nobody says otherwise."""

from pathlib import Path

DEFAULT_LEDGER, DEFAULT_KEYS = Path("results.db"), Path("keys")
