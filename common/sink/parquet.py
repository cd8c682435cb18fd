"""Results as a Parquet file, written group by group. pyarrow is an extra, imported when it is needed."""

import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, BinaryIO, TextIO

from ..errors import OperatorError
from .column_types import JSON, LIST_OF
from .result_columns import ResultColumns
from .store import Row

_NAMES = {
    "null": "null", "bool": "bool_", "int64": "int64", "uint64": "uint64", "float64": "float64", "text": "string",
    "bytes": "binary", "date": "date32", JSON: "string",
}  # fmt: skip
"""What pyarrow calls the types that have no parameter."""


class _Output:
    """A file or pipe as pyarrow needs it: it asks where it is, which a pipe does not know."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.is_given_up = False
        """The writer ends its file also when it is deleted; half of the results must not look like all."""
        self._file = file
        self._position = 0

    def write(self, content: bytes) -> int:
        """Write all of it."""
        if not self.is_given_up:
            self._file.write(content)
        self._position += len(content)
        return len(content)

    def tell(self) -> int:
        """How much was written."""
        return self._position

    def flush(self) -> None:
        """Whoever has opened the file does it."""

    def close(self) -> None:
        """The same."""


class ParquetFile:
    """Writes results. Raises OperatorError where pyarrow is missing."""

    def __init__(self) -> None:
        try:
            self._arrow: Any = import_module("pyarrow")
            self._parquet: Any = import_module("pyarrow.parquet")
        except ImportError as error:
            why = "" if isinstance(error, ModuleNotFoundError) and error.name == "pyarrow" else f" ({error})"
            raise OperatorError(
                f"Parquet needs pyarrow, which this Python ({sys.executable}) does not have{why}:"
                " pip install 'tradewind[parquet]'"
            ) from None

    def write(self, rows: Callable[[], Iterable[Row]], spread: bool, out: TextIO) -> None:
        """Write the rows, which are read twice: first for the columns and their types."""
        if out.isatty():
            raise OperatorError("Parquet is not for a terminal: name a file with --output, or redirect with >")
        columns = ResultColumns(spread)
        columns.look(rows())
        types = columns.types
        schema = self._arrow.schema([(name, self._type(kind)) for name, kind in types.items()])
        output = _Output(out.buffer)
        writer = self._parquet.ParquetWriter(output, schema)
        try:
            for group in columns.groups(rows()):
                writer.write_table(self._arrow.Table.from_pydict(group, schema))
            writer.close()
        except BaseException:
            output.is_given_up = True
            raise
        if mixed := [name for name, kind in types.items() if kind == JSON]:
            more = "" if spread else "; --columns makes columns of the keys of maps"
            why = "written as JSON text, because no other type holds all their values"
            print(f"sink: {why}: {', '.join(mixed)}{more}", file=sys.stderr)

    def _type(self, name: str) -> Any:
        if name.startswith(LIST_OF):
            return self._arrow.list_(self._type(name.removeprefix(LIST_OF)))
        if name in ("datetime", "instant"):
            return self._arrow.timestamp("us", "UTC" if name == "instant" else None)
        if name == "duration":
            return self._arrow.duration("us")
        return getattr(self._arrow, _NAMES[name])()
