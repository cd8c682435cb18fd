"""A Parquet file has each result exactly, by the type of its column or as JSON text."""

import gc
import io
import math
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import OperatorError
from common.protocol.values import Unsendable
from common.sink import result_columns
from common.sink.parquet import ParquetFile
from common.sink.rows import as_json
from common.sink.store import Row
from tests.unit.protocol.test_values import LEAVES, RESULTS, same
from tests.unit.sink.test_result_columns import row

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


class Pipe(io.BytesIO):
    """A file that does not know its position, and breaks once it has taken `bytes_max` bytes."""

    def __init__(self, bytes_max: int = 2**62) -> None:
        super().__init__()
        self.bytes_max = bytes_max

    def close(self) -> None:
        """Whoever deletes the text around it closes it."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError("a pipe has no position")

    def write(self, content: Any) -> int:
        if len(self.getvalue()) >= self.bytes_max:
            raise BrokenPipeError(32, "Broken pipe")
        return super().write(content)


def written(rows: list[Any], spread: bool = False, pipe: Pipe | None = None) -> Any:
    """The table that is read from what was written."""
    pipe = pipe or Pipe()
    ParquetFile().write(lambda: rows, spread, io.TextIOWrapper(pipe, "utf-8"))
    return parquet.read_table(io.BytesIO(pipe.getvalue()))


def listed(value: Any) -> Any:
    """A value as pyarrow gives it back: tuples are lists, an offset is UTC."""
    if isinstance(value, list | tuple):
        return [listed(each) for each in value]
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value


@given(st.lists(LEAVES, max_size=4) | st.lists(RESULTS, max_size=3) | st.lists(st.lists(st.integers() | st.floats())))
@example([datetime(2000, 1, 1, tzinfo=timezone(timedelta(microseconds=1)))])
@example([datetime(2000, 1, 1, tzinfo=timezone(-timedelta(hours=1, seconds=1)))])
@settings(max_examples=100)
def test_any_results_come_back_exactly(values: list[Any]) -> None:
    try:
        rows = [row(task, value) for task, value in enumerate(values)]
    except Unsendable:
        return
    table = written(rows)
    assert table["task"].to_pylist() == list(range(len(values)))
    kind = table.schema.field("value").type
    for found, value, each in zip(table["value"].to_pylist(), values, rows, strict=True):
        if isinstance(value, float) and kind == pyarrow.float64():
            assert same(found, value)
        elif isinstance(value, int) and kind == pyarrow.float64():
            assert found == value
        elif kind == pyarrow.string() and not isinstance(value, str):
            # Decimals and the like are text; all else is JSON text.
            assert found in (each.value, as_json(each.value, each.json)) or (found is None and value is None)
        elif kind == pyarrow.string():
            assert found in (value, as_json(each.value, each.json))
        elif not any(map(math.isnan, floats_in(value))):
            assert found == listed(value)


def floats_in(value: Any) -> list[float]:
    if isinstance(value, list | tuple):
        return [each for item in value for each in floats_in(item)]
    return [value] if isinstance(value, float) else []


def test_row_groups_join_and_each_is_written_before_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_columns, "_ROWS_MAX", 100)
    pipe = Pipe()
    sizes: list[int] = []

    def rows() -> Iterator[Row]:
        for task in range(1_000):
            sizes.append(len(pipe.getvalue()))
            yield row(task, {"n": task, "name": f"name {task}"})

    ParquetFile().write(rows, True, io.TextIOWrapper(pipe, "utf-8", write_through=True))
    file = parquet.ParquetFile(io.BytesIO(pipe.getvalue()))
    assert file.metadata.num_row_groups == 10
    assert file.read()["value.n"].to_pylist() == list(range(1_000))
    assert len(sizes) == 2_000
    assert len(set(sizes[1_000:])) == 10


def test_a_job_without_results_is_an_empty_table() -> None:
    table = written([])
    assert (table.num_rows, table.schema.names[:3]) == (0, ["task", "status", "value"])


def test_columns_of_json_text_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    written([row(0, {"a": [1, "b"], "c": 1})], spread=True)
    written([row(0, {"a": [1, "b"], "c": 1})])
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("because no other type holds all their values: value.a")
    assert second.endswith("all their values: value; --columns makes columns of the keys of maps")


@pytest.mark.parametrize("bytes_max", [0, 10])
def test_a_pipe_that_breaks_ends_it(bytes_max: int) -> None:
    with pytest.raises(BrokenPipeError):
        written([row(n, n) for n in range(1_000)], pipe=Pipe(bytes_max))


def test_half_of_a_file_does_not_look_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_columns, "_ROWS_MAX", 100)
    pipe = Pipe()
    seen: list[int] = []

    def rows() -> Iterator[Row]:
        for task in range(1_000):
            seen.append(task)
            if len(seen) == 1_500:
                raise KeyboardInterrupt
            yield row(task, task)

    with pytest.raises(KeyboardInterrupt):
        ParquetFile().write(rows, False, io.TextIOWrapper(pipe, "utf-8", write_through=True))
    gc.collect()
    assert len(pipe.getvalue()) > 1_000
    assert not pipe.getvalue().endswith(b"PAR1")


class Terminal(io.TextIOWrapper):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_no_parquet() -> None:
    with pytest.raises(OperatorError, match="not for a terminal: name a file with --output, or redirect with >"):
        ParquetFile().write(list, False, Terminal(io.BytesIO()))


def test_without_pyarrow_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OperatorError) as refused:
        ParquetFile()
    assert str(refused.value).endswith("does not have: pip install 'tradewind[parquet]'")
    assert "\n" not in str(refused.value)
