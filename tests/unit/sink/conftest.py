"""What the tests of the sink's rules share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.transport.key_folder import KeyFolder
from tests.unit.sink.scene import Scene


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    """The keys of a sink that nobody has joined yet."""
    made = KeyFolder(tmp_path / "keys")
    made.prepare()
    return made


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(str(tmp_path / "results.db"))
    yield made
    made.ledger.close()
