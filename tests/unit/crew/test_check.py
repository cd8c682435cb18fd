"""What `crew ssh --check` takes from a host."""

import asyncio
import tracemalloc
from dataclasses import replace

import pytest

from common.crew import check
from common.crew.remote import Way
from common.crew.worker_line import WorkerLine
from common.errors import ExitCode

LINE = WorkerLine((), ("work",), None, 30.0)
FACTS = '{"checks": [], "facts": {"versions": {"Python": "3.13"}, "slots": 64}}'


def test_a_host_that_says_much_takes_no_memory_and_is_read_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    way = Way(("sh", "-c", f"cat > /dev/null; yes | head -c 50000000 >&2; yes | head -c 50000000; echo '{FACTS}'"))
    tracemalloc.start()
    try:
        code = asyncio.run(check.examine(["lab1"], way, LINE, "key"))
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
    assert code == ExitCode.OK
    assert "3.13" in capsys.readouterr().out


def test_the_table_shows_the_slots_that_were_typed(capsys: pytest.CaptureFixture[str]) -> None:
    way = Way(("sh", "-c", f"cat > /dev/null; echo '{FACTS}'"))
    for line, slots in ((LINE, "64"), (replace(LINE, slots=4), "4")):
        asyncio.run(check.examine(["lab1"], way, line, "key"))
        heads, row = capsys.readouterr().out.splitlines()
        assert row[heads.index("slots") :].split()[0] == slots
