"""SQLite alone: the rows that a job of ours left, inserted by one process as fast as its ledger's own way allows.

The ledger's schema, page size and pragmas; `executemany` in transactions of about the size that the sink made; what
all rows share stands in the statement, as in the sink's. Decoding, receipts and counters are left out.
"""

import re
import sqlite3
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

from benchmarks.farm import TOP

_TRANSACTION_ROWS_MIN = 1_000


def rate(ledger: Path, job: str) -> float:
    """Rows per second."""
    copy = ledger.with_name("sqlite-alone.db")
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as source:
        number = source.execute("SELECT job FROM jobs WHERE name = ?", (job,)).fetchone()[0]
        size = transaction_rows(source, number)
        try:
            with closing(_prepared(source, copy)) as target:
                return _insert(source, target, number, size)
        finally:
            for path in ledger.parent.glob(copy.name + "*"):
                path.unlink()


def transaction_rows(source: sqlite3.Connection, job: int) -> int:
    """About how many rows the sink wrote in one transaction: each leaves at least one receipt."""
    rows, receipts = source.execute("SELECT sum(count), count(*) FROM receipts WHERE job = ?", (job,)).fetchone()
    return max(_TRANSACTION_ROWS_MIN, round(rows / receipts))


def _prepared(source: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    target = sqlite3.connect(path, isolation_level=None, cached_statements=512)
    target.execute(f"PRAGMA page_size={source.execute('PRAGMA page_size').fetchone()[0]}")
    # Not that of the connection which only reads.
    for pragma in re.findall(r"PRAGMA (?!query_only)\w+=\w+", (TOP / "common" / "sink" / "sqlite_file.py").read_text()):
        target.execute(pragma)
    for (statement,) in source.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"):
        target.execute(statement)
    return target


def _insert(source: sqlite3.Connection, target: sqlite3.Connection, job: int, size: int) -> float:
    names = [row[1] for row in source.execute("PRAGMA table_info(task_rows)")]
    shared = {name: literal for name in names if (literal := _shared(source, job, name)) is not None}
    bound = [name for name in names if name not in shared]
    columns, places = ", ".join([*shared, *bound]), ", ".join([*shared.values(), *("?" for _ in bound)])
    statement = f"INSERT INTO task_rows ({columns}) VALUES ({places})"
    found = source.execute(f"SELECT {', '.join(bound)} FROM task_rows WHERE job = ? ORDER BY task", (job,))
    seconds, count = 0.0, 0
    while rows := list(islice(found, size)):
        started = time.perf_counter()
        target.execute("BEGIN IMMEDIATE")
        target.executemany(statement, rows)
        target.execute("COMMIT")
        seconds += time.perf_counter() - started
        count += len(rows)
    return count / seconds


def _shared(source: sqlite3.Connection, job: int, column: str) -> str | None:
    """The literal that stands in this column of all rows, or None when they differ."""
    query = (
        f"SELECT quote(min({column})), count(DISTINCT {column}), count({column}), count(*) FROM task_rows WHERE job = ?"
    )
    literal, kinds, filled, rows = source.execute(query, (job,)).fetchone()
    return str(literal) if kinds == 0 or (kinds == 1 and filled == rows) else None
