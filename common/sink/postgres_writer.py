"""Writes a ledger in PostgreSQL, a transaction each. The first result of a task wins by primary key."""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from psycopg import errors

from ..protocol.messages import Mark
from ..transport import clock
from .postgres_copy import ALL_COLUMNS, PLAIN_COLUMNS, all_lines, is_plain, plain_lines, shown
from .postgres_pages import iso
from .postgres_place import PostgresPlace
from .postgres_rows import Known, Plan, Receipt, merged, planned, waves
from .postgres_session import Session
from .postgres_site import SAVEPOINT, Site, SiteWrite
from .rows import RowSet
from .store import Ending, Forgetting, Job, Opening, Recording, Tidying, Write, Written

_PIECE_CHARACTERS = 64 * 1024
"""Rows are sent in pieces of about this size, so that the server reads while the next ones are formatted."""
_TIDIED_ROWS = 2_000
_SIZED_S = 10.0
KEPT_JOBS = (
    "SELECT job, name, function, source, state, total, done, failed, mark_count, mark_digest, key, retries, attempts,"
    " arguments, base, opened_at, ended_at FROM jobs JOIN ticket_keys USING (job) WHERE site=%s"
)


@dataclass(frozen=True, slots=True)
class KeptJob:
    """A job as it is in memory."""

    job: Job
    opened_at: str
    ended_at: str | None


@dataclass(frozen=True, slots=True)
class Made:
    """What a write has done."""

    result: Written | Job | bool | None = None
    jobs: dict[str, KeptJob | None] = field(default_factory=dict)
    """Those that it changed; None for one that is no longer there."""
    position: int | None = None
    """That of the site's last receipt, if it has written any."""


class PostgresWriter:
    """What writes. `make` may be called in a thread, and no other one meanwhile.

    Jobs are in memory, because nobody else changes those of this site; what a write changes is put there by `take`.
    """

    def __init__(self, place: PostgresPlace, sink_key: Callable[[], str] | None = None) -> None:
        self._site = Site(place, sink_key)
        self.id = self._site.id
        self.number = self._site.number
        self.jobs: dict[str, KeptJob] = {}
        self.position = 0
        """That of the site's last receipt. Those behind it are of the write in flight."""
        self.size_bytes = 0
        self._sized_at = float("-inf")
        self._is_tidy = False
        try:
            kept_jobs, self.position = self._load()
            self.jobs = {kept.job.name: kept for kept in kept_jobs}
        except BaseException:
            self._site.close()
            raise

    @property
    def waits_for(self) -> str:
        """What a write in flight waits for; empty when it is nothing worth a word."""
        return self._site.waiting

    @property
    def pid(self) -> int:
        """The server's process that has the lock."""
        return self._site.pid

    def _load(self) -> tuple[list[KeptJob], int]:
        def read(site_write: SiteWrite) -> tuple[list[KeptJob], int]:
            rows = site_write.session.ask(f"{KEPT_JOBS} ORDER BY job", self.number)
            return [_kept(row) for row in rows], site_write.position

        return self._site.write(read)

    def make(self, write: Write) -> Made:
        """Make it in one transaction, and wait until that is committed.

        Raises LedgerStuck when it is known not to be, and OperatorError.
        """
        match write:
            case Recording():
                return self._recorded(write)
            case Opening():
                kept = self._site.write(lambda site_write: self._opened(site_write, write))
                return Made(kept.job, {write.name: kept})
            case Ending():
                return Made(None, {write.name: self._site.write(lambda site_write: self._ended(site_write, write))})
            case Forgetting():
                self._site.write(lambda site_write: self._forgotten(site_write, write.name))
                self._is_tidy = False
                return Made(None, {write.name: None})
            case Tidying():
                self._is_tidy = self._is_tidy or not self._site.write(self._tidied)
                return Made(not self._is_tidy)

    def ping(self) -> bool:
        """Say to the server that this sink is there; returns whether a standby is.

        Raises LedgerLost when the site is another one's.
        """
        return self._site.ping()

    def take(self, made: Made) -> None:
        """Put into memory what a write has changed."""
        self.position = self.position if made.position is None else made.position
        for name, kept in made.jobs.items():
            if kept is None:
                del self.jobs[name]
            else:
                self.jobs[name] = kept

    def _opened(self, site_write: SiteWrite, opening: Opening) -> KeptJob:
        base = ", base=jobs.total, mark_count=jobs.total, mark_digest='', total=NULL" if opening.appends else ""
        what = shown(opening.function), shown(opening.source), _now()
        (job,) = site_write.session.one(
            "INSERT INTO jobs (site, name, function, source, opened_at, retries, attempts, arguments)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (site, name) DO UPDATE"
            " SET state='open', ended_at=NULL, retries=excluded.retries, attempts=excluded.attempts,"
            f" arguments=coalesce(nullif(excluded.arguments, ''), jobs.arguments){base} RETURNING job",
            *(self.number, opening.name, *what, opening.retries, opening.attempts, opening.arguments),
        )
        key = "INSERT INTO ticket_keys VALUES (%s, %s) ON CONFLICT (job) DO NOTHING"
        site_write.session.change(key, job, secrets.token_bytes(32))
        return self._read(site_write, opening.name)

    def _ended(self, site_write: SiteWrite, ending: Ending) -> KeptJob:
        change = "UPDATE jobs SET state=%s, total=coalesce(%s, total), ended_at=%s WHERE site=%s AND name=%s"
        site_write.session.change(change, ending.state, ending.total, _now(), self.number, ending.name)
        return self._read(site_write, ending.name)

    def _read(self, site_write: SiteWrite, name: str) -> KeptJob:
        return _kept(site_write.session.one(f"{KEPT_JOBS} AND name=%s", self.number, name))

    def _forgotten(self, site_write: SiteWrite, name: str) -> None:
        number = self.jobs[name].job.job
        site_write.session.change("DELETE FROM jobs WHERE job=%s", number)
        site_write.session.change("INSERT INTO forgotten VALUES (%s, %s)", number, self.number)

    def _tidied(self, site_write: SiteWrite) -> bool:
        session = site_write.session
        # A crash may take it back: then it is done again.
        session.ask("SET LOCAL synchronous_commit = off")
        for (job,) in session.ask("SELECT job FROM forgotten WHERE site=%s ORDER BY job LIMIT 1", self.number):
            some = f"SELECT ctid FROM {{}} WHERE job=%s LIMIT {_TIDIED_ROWS}"
            for table in ("task_rows", "receipts"):
                if session.change(f"DELETE FROM {table} WHERE ctid = ANY(ARRAY({some.format(table)}))", job):
                    return True
            session.change("DELETE FROM forgotten WHERE job=%s", job)
            return True
        return False

    def _recorded(self, recording: Recording) -> Made:
        began_at = clock.now()
        changed, position = self._site.write(lambda site_write: self._commit(site_write, recording))
        kept_jobs: dict[str, KeptJob | None] = {}
        rows = failed = 0
        for name, change in changed.items():
            kept = self.jobs[name]
            job = replace(kept.job, done=kept.job.done + change.done, failed=kept.job.failed + change.failed)
            if change.mark is not None:
                total = job.total if change.mark.total is None else change.mark.total
                job = replace(job, mark_count=change.mark.count, mark_digest=change.mark.digest, total=total)
            kept_jobs[name] = replace(kept, job=job)
            rows, failed = rows + change.rows, failed + change.failed_rows
        return Made(Written(rows, failed, clock.now() - began_at), kept_jobs, position)

    def _commit(self, site_write: SiteWrite, recording: Recording) -> "tuple[dict[str, _Change], int]":
        changed: dict[str, _Change] = {}
        for number, wave in enumerate(waves(recording.row_sets)):
            if number:
                site_write.session.ask(f"SAVEPOINT {SAVEPOINT}")
            plan, replaced = self._copied(site_write.session, wave)
            for name, count in replaced.items():
                change = changed.setdefault(name, _Change())
                change.done, change.failed = change.done - count, change.failed - count
            for written in plan.written:
                changed.setdefault(written.row_set.results.job, _Change()).add(written.receipt)
        for mark in recording.marks:
            changed.setdefault(mark.job, _Change()).mark = mark
        self._receipted(site_write, changed)
        self._measured(site_write.session)
        return changed, site_write.position

    def _copied(self, session: Session, wave: list[RowSet]) -> tuple[Plan, dict[str, int]]:
        """Write the rows of a wave as if none of its tasks had one; when one has, look which have and do it again.

        A savepoint stands before it.

        Returns what was written, and of how many tasks a failed row was replaced.
        """
        plan = planned(wave, {})
        if not plan.written:
            return plan, {}
        try:
            self._copy(session, plan)
            return plan, {}
        except errors.UniqueViolation:
            session.ask(f"ROLLBACK TO {SAVEPOINT}")
        plan = planned(wave, self._known(session, wave))
        replaced = {}
        for name, tasks in plan.replaced.items():
            removal = "DELETE FROM task_rows WHERE job=%s AND task = ANY(%s)"
            replaced[name] = session.change(removal, self.jobs[name].job.job, tasks)
        self._copy(session, plan)
        return plan, replaced

    def _copy(self, session: Session, plan: Plan) -> None:
        if not plan.written:
            return
        plain = {id(each.row_set): is_plain(each.row_set) for each in plan.written}
        is_all = all(plain.values())

        def pieces() -> Iterator[bytes]:
            lines: list[str] = []
            size = 0
            for each in plan.written:
                job = self.jobs[each.row_set.results.job].job.job
                formatted = (plain_lines if is_all else all_lines)(job, each.row_set, each.low, each.high)
                lines.append(formatted)
                size += len(formatted)
                if size >= _PIECE_CHARACTERS:
                    yield "".join(lines).encode()
                    lines, size = [], 0
            yield "".join(lines).encode()

        session.copy(f"COPY task_rows ({PLAIN_COLUMNS if is_all else ALL_COLUMNS}) FROM STDIN", pieces())

    def _known(self, session: Session, wave: list[RowSet]) -> Known:
        ranges = [
            (self.jobs[each.results.job].job.job, each.results.first, each.results.first + each.results.count)
            for each in wave
        ]
        jobs, firsts, ends = map(list, zip(*ranges, strict=True))
        names = {self.jobs[each.results.job].job.job: each.results.job for each in wave}
        known: Known = {}
        # The inner one by the primary key, whatever the statistics say.
        found = session.ask(
            "SELECT job, task, has_failed, attempt FROM"
            " unnest(%s::int[], %s::bigint[], %s::bigint[]) AS ranges(j, low, high),"
            " LATERAL (SELECT job, task, kind='x' AS has_failed, attempt FROM task_rows"
            " WHERE job=j AND task>=low AND task<high ORDER BY task OFFSET 0) AS rows",
            *(jobs, firsts, ends),
        )
        for job, task, has_failed, attempt in found:
            known.setdefault(names[job], {})[task] = has_failed, attempt
        return known

    def _receipted(self, site_write: SiteWrite, changed: "dict[str, _Change]") -> None:
        rows = []
        at = int(time.time())
        for name, change in changed.items():
            job = self.jobs[name].job.job
            for each in merged(change.receipts):
                site_write.position += 1
                where = f"{self.number}, {site_write.position}, {job}, {each.first}, {each.count}"
                rows.append(f"({where}, {each.seconds!r}, to_timestamp({at}))")
            if change.done or change.failed or change.receipts:
                counts = f"done=done+({change.done}), failed=failed+({change.failed})"
                site_write.last.append(f"UPDATE jobs SET {counts} WHERE job={job}")
            if mark := change.mark:
                total = "total" if mark.total is None else f"{int(mark.total)}"
                mark_text = f"mark_count={int(mark.count)}, mark_digest='\\x{mark.digest.hex()}'"
                site_write.last.append(f"UPDATE jobs SET {mark_text}, total={total} WHERE job={job}")
        if rows:
            insertion = "INSERT INTO receipts (site, position, job, first, count, seconds, at) VALUES "
            site_write.last.append(insertion + ", ".join(rows))

    def _measured(self, session: Session) -> None:
        """Look now and then how large the tables are."""
        if clock.now() < self._sized_at + _SIZED_S:
            return
        tables = "pg_total_relation_size('task_rows') + pg_total_relation_size('receipts')"
        self.size_bytes = int(session.one(f"SELECT {tables} + pg_total_relation_size('jobs')")[0])
        self._sized_at = clock.now()

    def interrupt(self) -> None:
        """End a write that waits for a server: it raises LedgerStuck. May be called by any thread."""
        self._site.stop.set()

    def close(self) -> None:
        """Give the site back."""
        self._site.close()


class _Change:
    """What a commit does to a job."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.rows = self.failed_rows = 0
        """How many were written."""
        self.done = self.failed = 0
        """By how much the job's counts grow."""
        self.mark: Mark | None = None

    def add(self, receipt: Receipt) -> None:
        """Rows that are written."""
        self.receipts.append(receipt)
        self.rows, self.failed_rows = self.rows + receipt.count, self.failed_rows + receipt.failed
        self.done, self.failed = self.done + receipt.count, self.failed + receipt.failed


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _kept(row: tuple[Any, ...]) -> KeptJob:
    *fields, opened_at, ended_at = row
    return KeptJob(Job(*fields), iso(opened_at), iso(ended_at) if ended_at is not None else None)
