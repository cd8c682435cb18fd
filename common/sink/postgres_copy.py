"""Results as the text that COPY reads (https://www.postgresql.org/docs/current/sql-copy.html). No socket, no clock.

Rows are formatted in few large pieces, because this is done for each task.
"""

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import msgspec

from .rows import RowSet

PLAIN_COLUMNS = "job, task, attempt, worker, seconds, kind, value"
ALL_COLUMNS = PLAIN_COLUMNS + ", bin, exact, error, argument, argument_bin, argument_digest"
_NULL = r"\N"
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
_SPECIAL = "\\\n\r\t"
_KINDS: dict[type, str] = {int: "i", float: "f", str: "s", type(None): "n"}
"""Of values whose text needs one column."""


def is_plain(row_set: RowSet) -> bool:
    """True when its rows need only PLAIN_COLUMNS; then its values are all of one type."""
    return (
        not (row_set.errors or row_set.digests or row_set.has_forms or row_set.has_arguments)
        and type(row_set.stored[0]) in _KINDS
        and not (type(row_set.stored[0]) is str and "\0" in "".join(row_set.stored))
    )


def plain_lines(job: int, row_set: RowSet, low: int, high: int) -> str:
    """The rows at these offsets, of a row set that is plain."""
    results = row_set.results
    values = row_set.stored[low:high]
    kind = _KINDS[type(row_set.stored[0])]
    texts: Iterable[Any] = repeat(_NULL) if kind == "n" else escaped(values) if kind == "s" else values
    start, middle = f"{job}\t", f"\t{results.attempt}\t{_text(results.worker)}\t"
    end = f"\t{kind}\t"
    tasks = range(results.first + low, results.first + high)
    # Of an integer and of a float repr is shorter or equal to any other text that gives it back.
    if kind in "if":
        rows = zip(tasks, row_set.seconds[low:high], texts, strict=True)
        return "".join([f"{start}{task}{middle}{seconds!r}{end}{value!r}\n" for task, seconds, value in rows])
    rows = zip(tasks, row_set.seconds[low:high], texts, strict=False)
    return "".join([f"{start}{task}{middle}{seconds!r}{end}{value}\n" for task, seconds, value in rows])


def all_lines(job: int, row_set: RowSet, low: int, high: int) -> str:
    """The rows at these offsets with all columns."""
    results = row_set.results
    return "".join(
        line(
            *(job, results.first + at, results.attempt, results.worker, row_set.seconds[at]),
            *(row_set.stored[at], row_set.json[at] if row_set.json else None, row_set.exact.get(at)),
            *(row_set.errors.get(at), row_set.arguments[at] if row_set.arguments else None, row_set.digests.get(at)),
        )
        for at in range(low, high)
    )


def line(
    job: int,
    task: int,
    attempt: int,
    worker: str,
    seconds: float,
    value: Any,
    json: int | None,
    exact: bytes | None,
    error: str | None,
    argument: str | bytes | None,
    digest: bytes | None,
) -> str:
    """A row with all columns. With an error there is no value."""
    if error is None:
        kind, text, content = _stored(value, json)
        form, said = _bytes(exact), _NULL
    else:
        kind, text, form, said = "x", _NULL, _NULL, _text(shown(error))
        content = _bytes(error.encode()) if "\0" in error else _NULL
    start = f"{job}\t{task}\t{attempt}\t{_text(worker)}\t{seconds!r}\t{kind}\t{text}\t{content}\t{form}\t{said}"
    return f"{start}\t{_argument(argument)}\t{_bytes(digest)}\n"


def escaped(texts: Sequence[str]) -> Sequence[str]:
    """The texts as COPY reads them."""
    joined = "".join(texts)
    if any(each in joined for each in _SPECIAL):
        return [text.translate(_ESCAPES) for text in texts]
    return texts


def shown(text: str) -> str:
    r"""The text with NUL, which PostgreSQL refuses, as \x00."""
    return text.replace("\0", r"\x00")


def _stored(value: Any, json: int | None) -> tuple[str, str, str]:
    """The columns `kind`, `value` and `bin`."""
    kind = type(value)
    if json:
        return "j", _text(value), _NULL
    if kind is bytes:
        return "b", _NULL, _bytes(value)
    if kind is str and "\0" in value:
        return "z", _text(msgspec.json.encode(value).decode()), _NULL
    if value is None:
        return "n", _NULL, _NULL
    return _KINDS[kind], _text(value) if kind is str else repr(value), _NULL


def _argument(argument: str | bytes | None) -> str:
    """The columns `argument` and `argument_bin`; a text with NUL is in both, bytes in the second one only."""
    if argument is None:
        return f"{_NULL}\t{_NULL}"
    if isinstance(argument, bytes):
        return f"{_NULL}\t{_bytes(argument)}"
    return f"{_text(shown(argument))}\t{_bytes(argument.encode()) if chr(0) in argument else _NULL}"


def _text(text: str) -> str:
    return text.translate(_ESCAPES)


def _bytes(content: bytes | None) -> str:
    return _NULL if content is None else rf"\\x{content.hex()}"
