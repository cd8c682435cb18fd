"""What the tests of the sink's rules share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.sink.scene import Scene


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(str(tmp_path / "results.db"))
    yield made
    made.ledger.close()
