"""The ledger in PostgreSQL against what happens to servers: killed, stopped, another sink at the site, no room."""

import os
import re
import signal
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed")

import psycopg

from common.doctor.ledger_server import ledger_server
from common.errors import OperatorError
from common.protocol.messages import Mark
from common.sink.copy_command import copied
from common.sink.ledgers import open_care, open_ledger, open_reader
from common.sink.postgres_ledger import PostgresLedger
from common.sink.postgres_place import PostgresPlace, parsed, with_site
from common.sink.postgres_session import unusable
from common.sink.postgres_transfer import PostgresOrigin
from common.sink.sqlite_transfer import SqliteOrigin
from common.sink.store import LedgerLost, LedgerStuck
from tests.conftest import TOP, wait_until
from tests.postgres import Server
from tests.unit.builders import record
from tests.unit.writing import commit, end_job, forget, open_job


def ask(server: Server, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.address(), autocommit=True) as db:
        cursor = db.execute(sql)
        return cursor.fetchall() if cursor.description else []


class At:
    """A ledger with a job, written in a thread as the sink does."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.ledger = PostgresLedger(place)
        self.writer = self.ledger._writer
        open_job(self.ledger, "job", "tasks:square", "lines of text")
        self.fault: Exception | None = None

    def begin(self, write: Callable[[], object]) -> threading.Thread:
        """Write in a thread."""

        def run() -> None:
            try:
                write()
            except Exception as error:
                self.fault = error

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def commit(self, first: int, count: int = 3) -> threading.Thread:
        return self.begin(lambda: commit(self.ledger, [record(list(range(first, first + count)), first)]))

    def values(self) -> dict[int, Any]:
        with closing(open_reader(self.place)) as reader:
            return {row.task: row.value for row in reader.rows(reader.job("job"), failed=False)}


@pytest.fixture
def at(server: Server) -> Iterator[At]:
    made = At(server.address())
    yield made
    made.ledger.close()


def end(thread: threading.Thread) -> None:
    thread.join(60)
    assert not thread.is_alive()


def sound(at: At, count: int) -> None:
    """Nothing is lost and nothing is there twice."""
    assert at.values() == {task: task for task in range(count)}
    assert open_care(at.place).faults() == []
    page = at.ledger.receipts("job", 0, 1_000)
    assert sum(count for _, count in page.runs) == count


def test_a_server_that_was_killed_is_waited_for_and_the_write_is_made_again(at: At, server: Server) -> None:
    end(at.commit(0))
    server.stop("immediate")
    thread = at.commit(3)
    wait_until(lambda: "the database server is away" in at.writer.waits_for, "it says what it waits for")
    with pytest.raises(LedgerStuck):
        at.ledger.receipts("job", 0, 10)
    server.start()
    end(thread)
    assert at.fault is None
    assert at.writer.waits_for == ""
    wait_until(lambda: readable(at), "reads come back too")
    sound(at, 6)


def readable(at: At) -> bool:
    try:
        at.ledger.failed_attempts("job")
    except LedgerStuck:
        return False
    return True


def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    at: At, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also its counts are right: what was written is told from what would be a duplicate."""
    session = at.writer._site._session
    assert session is not None
    asked = session.ask

    def lose(sql: str, *values: object) -> Any:
        found = asked(sql, *values)
        if sql.endswith("COMMIT"):
            session._db.close()
            raise psycopg.OperationalError("the connection is lost")
        return found

    monkeypatch.setattr(session, "ask", lose)
    written = commit(at.ledger, [record([0, 1, None], errors={2: "no"})])
    assert (written.rows, written.failed) == (3, 1)
    job = at.ledger.job("job")
    assert job is not None
    assert (job.done, job.failed) == (3, 1)
    assert open_care(at.place).faults() == []


@pytest.mark.parametrize("which", ["session", "server"])
def test_while_the_server_is_stopped_the_sink_says_so_and_goes_on_after(at: At, server: Server, which: str) -> None:
    pid = at.writer.pid
    stop = (lambda number: os.kill(pid, number)) if which == "session" else server.signal
    stop(signal.SIGSTOP)
    try:
        thread = at.commit(0)
        wait_until(lambda: "does not answer" in at.writer.waits_for, "it says what it waits for")
        if which == "session":
            assert at.ledger.failed_attempts("job") == 0, "another session answers"
        else:
            with pytest.raises(LedgerStuck):
                at.ledger.failed_attempts("job")
    finally:
        stop(signal.SIGCONT)
    end(thread)
    assert at.fault is None
    wait_until(lambda: readable(at), "reads come back too")
    sound(at, 3)


def test_a_sink_that_lost_its_session_takes_the_lock_again(at: At, server: Server) -> None:
    ask(server, f"SELECT pg_terminate_backend({at.writer.pid})")
    end(at.commit(0))
    assert at.fault is None
    sound(at, 3)


def test_a_sink_whose_site_was_taken_over_meanwhile_writes_nothing_more(at: At, server: Server) -> None:
    end(at.commit(0))
    pid = at.writer.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        thread = at.commit(3)
        wait_until(lambda: "does not answer" in at.writer.waits_for, "it waits for the server")
        # What ends that session is what a failover does.
        ask(server, f"SELECT pg_terminate_backend({pid})")
    finally:
        os.kill(pid, signal.SIGCONT)
    end(thread)
    ask(server, f"SELECT pg_terminate_backend({at.writer.pid})")
    other = PostgresLedger(at.place)
    held = other._writer.pid
    end(at.commit(6))
    assert isinstance(at.fault, LedgerLost)
    assert "another sink (process" in str(at.fault)
    commit(other, [record([6, 7, 8], 6)])
    assert other._writer.pid == held, "it was let alone"
    other.close()
    at.fault = None
    end(at.commit(9))
    assert isinstance(at.fault, LedgerLost), "also when the other one has left"
    assert sorted(at.values()) == list(range(9))
    assert open_care(at.place).faults() == []


def test_a_holder_that_wakes_up_after_a_take_over_finds_another_run_at_its_site(at: At, server: Server) -> None:
    """Its session may be alive, behind a pooler: the site's row tells, in the same transaction."""
    ask(server, "UPDATE tradewind.sites SET holder='another'")
    end(at.commit(0))
    assert isinstance(at.fault, LedgerLost)
    assert at.values() == {}


def test_the_lock_of_a_session_that_was_cut_off_is_had_back_from_it(at: At, server: Server) -> None:
    """The server takes a while to see that a client is gone."""
    session = at.writer._site._session
    assert session is not None
    os.kill(session.pid, signal.SIGSTOP)
    try:
        session._db.close()
        thread = at.commit(0)
        wait_until(lambda: "this sink's last session" in at.writer.waits_for, "it says what it waits for")
    finally:
        os.kill(session.pid, signal.SIGCONT)
    end(thread)
    assert at.fault is None
    sound(at, 3)


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_sink_that_is_to_end_does_not_wait_for_a_server(at: At, server: Server, how: str) -> None:
    if how == "killed":
        server.stop("immediate")
    else:
        server.signal(signal.SIGSTOP)
    try:
        thread = at.commit(0)
        wait_until(lambda: at.writer.waits_for, "it waits")
        at.writer.interrupt()
        end(thread)
        assert isinstance(at.fault, LedgerStuck)
    finally:
        if how == "killed":
            server.start()
        else:
            server.signal(signal.SIGCONT)


def test_sites_of_one_database_are_ledgers_of_their_own(at: At, server: Server) -> None:
    night = with_site(at.place, "night")
    other = PostgresLedger(night)
    open_job(other, "job", "tasks:cube", "lines of text")
    commit(other, [record([8])])
    end(at.commit(0))
    assert at.values() == {0: 0, 1: 1, 2: 2}
    assert other.id != at.ledger.id
    with closing(open_reader(night)) as reader:
        assert [(job.name, job.function, job.done) for job in reader.jobs()] == [("job", "tasks:cube", 1)]
        assert reader.history(None, 0, 10).position == 1
    other.close()
    with pytest.raises(OperatorError, match=r"there is no site day in .*: it has main, night"):
        open_reader(with_site(at.place, "day"))
    assert ask(server, "SELECT site, job, count(*) FROM tradewind.task_results GROUP BY 1, 2 ORDER BY 1") == [
        ("main", "job", 3),
        ("night", "job", 1),
    ]


def test_people_find_results_as_json_in_a_view(at: At, server: Server) -> None:
    open_job(at.ledger, "lines", "tasks:square", "lines of text", arguments="json")
    values = [1, 2.5, "a\x00é", None, b"\x00\xff", {"a": [1]}, float("inf"), float("nan"), "t\t\\n", None]
    arguments = [{"k": 1}, "x", None, 1.5, "é", [], 0, "\x00", "e", "f"]
    row_set = record(values, job="lines", arguments=arguments, form="json", errors={9: "no\x00"})
    commit(at.ledger, [row_set])
    open_job(at.ledger, "range", "tasks:square", "range -5:9")
    commit(at.ledger, [record([25], job="range")])
    found = ask(
        server, "SELECT job, argument::text, status, value::text, error FROM tradewind.task_results ORDER BY job, task"
    )
    assert [row[1:] for row in found] == [
        ('{"k":1}', "ok", "1", None),
        ('"x"', "ok", "2.5", None),
        ("null", "ok", '"a\\u0000é"', None),
        ("1.5", "ok", "null", None),
        ('"é"', "ok", '"AP8="', None),
        ("[]", "ok", '{"a":[1]}', None),
        ("0", "ok", '"Infinity"', None),
        ('"\\u0000"', "ok", '"NaN"', None),
        ('"e"', "ok", '"t\\t\\\\n"', None),
        ('"f"', "failed", None, "no\\x00"),
        ("-5", "ok", "25", None),
    ]


def test_what_a_text_of_postgresql_cannot_hold_ends_no_sink(at: At) -> None:
    job = open_job(at.ledger, "nul", "tasks:square", "a\x00b")
    assert job.source == r"a\x00b"
    assert open_job(at.ledger, "nul", "tasks:square", "a\x00b") == job


@pytest.mark.parametrize(
    ("damage", "words"),
    {
        "UPDATE jobs SET done=done+1": "job job says that 4 of its tasks are recorded, and has 3 results",
        "UPDATE task_rows SET kind='x' WHERE task=1": "has 1 failed results",
        "DELETE FROM receipts": "has receipts for fewer tasks",
        "UPDATE sites SET position=0": "there is a receipt at position 1",
        "DELETE FROM ticket_keys": "job job has no ticket key",
        "DELETE FROM jobs": "results of a job that does not exist (number 1)",
    }.items(),
)
def test_a_contradiction_is_named(at: At, server: Server, damage: str, words: str) -> None:
    end(at.commit(0))
    assert open_care(at.place).faults() == []
    ask(server, f"SET search_path=tradewind; {damage}")
    assert any(words in fault for fault in open_care(at.place).faults())


def test_a_database_is_copied_with_its_own_command(at: At, tmp_path: Any) -> None:
    with pytest.raises(OperatorError, match="copy it with `pg_dump --schema=tradewind`"):
        open_care(at.place).back_up(tmp_path / "copy")


# -- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["postgresql://me:s3cr@t@host/db", "postgresql://me@host/db?password=s3cr@t"])
def test_a_password_in_an_address_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(OperatorError, match=r"postgresql://me@.*has a password in its address.*~/\.pgpass") as refused:
        open_ledger(secret)
    assert "s3cr" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql://me@127.0.0.1:9/db?connect_timeout=2", "refused.*; start the server, or correct the address"),
        ("postgresql://host/db?nonsense=1", "its address cannot be read"),
        ("postgresql:///?service=none-of-this-name", "none-of-this-name"),
    ],
)
@pytest.mark.parametrize("opener", [open_ledger, open_reader])
def test_an_address_where_no_ledger_is_fails_in_one_line(
    opener: Callable[[str], Any], address: str, words: str
) -> None:
    with pytest.raises(OperatorError, match=words) as refused:
        opener(address)
    assert "\n" not in str(refused.value)


CORRECT = "correct what it names: the address, the certificate, or what the server allows"


@pytest.mark.parametrize(
    ("libpq", "said"),
    [
        (
            'root certificate file "ca.pem" does not exist\nEither provide the file, or change sslmode.\n',
            f'root certificate file "ca.pem" does not exist; Either provide the file, or change sslmode; {CORRECT}',
        ),
        (
            'server certificate for "other" does not match host name "db"',
            f'server certificate for "other" does not match host name "db"; {CORRECT}',
        ),
        (
            'FATAL:  no pg_hba.conf entry for host "::1", user "me", database "db", no encryption',
            'FATAL: no pg_hba.conf entry for host "::1", user "me", database "db", no encryption; ' + CORRECT,
        ),
        (
            "server does not support SSL, but SSL was required",
            f"server does not support SSL, but SSL was required; {CORRECT}",
        ),
        (
            "FATAL:  the database system is starting up",
            "FATAL: the database system is starting up; wait until it takes connections",
        ),
        ("Connection refused", "Connection refused; start the server, or correct the address"),
    ],
)
def test_what_helps_follows_from_what_libpq_says(libpq: str, said: str) -> None:
    place = PostgresPlace("", "main", "postgresql://host/db")
    assert unusable(place, psycopg.OperationalError(libpq)) == f"cannot use the ledger postgresql://host/db: {said}"


def test_a_database_that_cannot_be_used_says_why(server: Server) -> None:
    with pytest.raises(OperatorError, match='database "nosuch" does not exist; make'):
        open_ledger(server.address("nosuch"))
    for opener in (open_reader, PostgresOrigin, lambda place: open_care(place).faults()):
        with pytest.raises(OperatorError, match="there is no ledger in postgresql:///postgres: start the sink there"):
            opener(server.address())
    ask(server, "CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(OperatorError, match="has the encoding SQL_ASCII: make one with ENCODING 'UTF8'"):
        open_ledger(server.address("ascii"))
    ask(server, "DROP DATABASE ascii")


def test_a_newer_ledger_is_refused_in_words(server: Server) -> None:
    open_ledger(server.address()).close()
    ask(server, "UPDATE tradewind.meta SET value='2'")
    for opener in (open_ledger, open_reader, PostgresOrigin, lambda place: open_care(place).faults()):
        with pytest.raises(OperatorError, match="is of version 2, and this Tradewind knows versions up to 1: install"):
            opener(server.address())


def test_a_service_names_the_database(server: Server, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    services = tmp_path / "services"
    services.write_text(f"[farm]\nhost={server.folder}\nport=5432\nuser=postgres\ndbname=postgres\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    ledger = open_ledger("postgresql:///?service=farm")
    open_job(ledger, "job", "tasks:square", "lines of text")
    ledger.close()
    with closing(open_reader("postgresql:///?service=farm")) as reader:
        assert [job.name for job in reader.jobs()] == ["job"]
    assert parsed("postgresql:///?service=farm").shown == "postgresql:///?service=farm"


def test_the_rights_that_the_page_lists_are_enough_and_not_too_many(server: Server) -> None:
    page = (TOP / "docs" / "CLUSTERS.md").read_text()
    of_sink, of_reader = re.findall(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    ask(server, "REVOKE CREATE ON DATABASE postgres FROM PUBLIC")
    try:
        for statement in of_sink.split(";")[:-1]:
            ask(server, statement)
        ledger = open_ledger(as_user(server, "farm"))
        open_job(ledger, "job", "tasks:square", "lines of text")
        commit(ledger, [record([1])])
        role, *grants = of_reader.split(";")[:-1]
        ask(server, role)
        reads = as_user(server, "reader")
        for look in (open_reader, lambda place: open_care(place).faults()):
            with pytest.raises(OperatorError, match=r"permission denied for schema tradewind; give the role"):
                look(reads)
        for statement in grants:
            ask(server, statement)
        reads = as_user(server, "reader")
        with closing(open_reader(reads)) as reader:
            assert [row.value for row in reader.rows(reader.job("job"), failed=False)] == [1]
            assert reader.history(None, 0, 10).points
        assert ledger_server(reads).sink
        with psycopg.connect(reads) as db:
            assert db.execute("SELECT value FROM tradewind.task_results").fetchall() == [(1,)]
        for forbidden in ("SELECT * FROM tradewind.ticket_keys", "DELETE FROM tradewind.task_rows"):
            with psycopg.connect(reads) as db, pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(forbidden)
        ledger.close()
        with pytest.raises(OperatorError, match=r"permission denied.*; give the role of the address the rights"):
            open_ledger(reads)
    finally:
        ask(server, "DROP SCHEMA tradewind CASCADE")
        ask(server, "DROP ROLE farm; DROP ROLE reader")


def as_user(server: Server, name: str) -> str:
    return server.address().replace("user=postgres", f"user={name}")


# -- copies ---------------------------------------------------------------------------------------------------------


def everything(place: str) -> list[Any]:
    """All that a reader finds in a ledger."""
    with closing(open_reader(place)) as reader:
        return [
            (job, [*reader.rows(reader.job(job.name), False)], [*reader.rows_after(reader.job(job.name), 0, False)])
            for job in reader.jobs()
        ] + [reader.history(None, 1, 1_000)]


def test_a_ledger_is_copied_to_the_other_kind_and_back(at: At, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    ledger = open_ledger(str(path))
    open_job(ledger, "gone", "tasks:square", "lines of text")
    commit(ledger, [record([1], job="gone")])
    forget(ledger, "gone")
    open_job(ledger, "job", "tasks:square", "lines of text", 2, 1, "json")
    values = [1, 2.5, "a\x00é", None, b"\x00\xff", {"a": [1]}, float("inf"), float("nan"), "x" * 5_000, None]
    arguments = [{"k": 1}, "x", None, 1.5, "é", [], 0, "y" * 9_000, "e", "\x00"]
    exact = {5: b"exact" * 1_000, 0: b"\x01"}
    fields: Any = {"arguments": arguments, "form": "json", "exact": exact, "errors": {9: "no\x00"}}
    commit(ledger, [record(values, 3, **fields)], [Mark("job", 13, b"mark", None)])
    open_job(ledger, "range", "tasks:square", "range -5:9")
    commit(ledger, [record([25], job="range"), record([1, 0], 4, job="range")])
    end_job(ledger, "range", "cancelled", 9)
    before, key, kept = everything(str(path)), ledger.job("job"), ledger.id
    ledger.close()

    there, back = with_site(server.address(), "copy"), str(tmp_path / "back.db")
    assert copied(str(path), there) == (2, 13)
    assert everything(there) == before
    assert copied(there, back) == (2, 13)
    assert everything(back) == before
    for place in (there, back):
        assert open_care(place).faults() == []
        again = open_ledger(place)
        found = again.job("job")
        assert key is not None and found is not None
        assert replace(found, job=0) == replace(key, job=0), "also the key of its tickets"
        assert (again.id[:8], again.id == kept) == (kept[:8], False)
        commit(again, [record(["late"], 3), record(["new"], 20)])
        assert again.receipts("job", before[-1].position, 10).runs == [(20, 1)], "positions go on"
        again.close()


def test_a_copy_is_whole_or_not_there(at: At, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end(at.commit(0, 9))
    rows = PostgresOrigin.rows
    monkeypatch.setattr(PostgresOrigin, "rows", lambda source, job: interrupted(rows(source, job)))
    there, file = with_site(server.address(), "copy"), tmp_path / "copy.db"
    for target in (there, str(file)):
        with pytest.raises(RuntimeError, match="interrupted"):
            copied(at.place, target)
    assert list(tmp_path.iterdir()) == []
    with closing(open_reader(there)) as reader:
        assert reader.jobs() == []
    monkeypatch.undo()
    for target in (there, str(file)):
        assert copied(at.place, target) == (1, 9)
        with pytest.raises(OperatorError, match=r"(has jobs|exists) already: give another"):
            copied(at.place, target)
    with pytest.raises(OperatorError, match="in use by another sink"):
        copied(str(file), at.place)


def test_a_copy_says_what_it_waits_for_and_goes_on(
    at: At, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    end(at.commit(0, 9))
    path, there = str(tmp_path / "results.db"), with_site(at.place, "copy")
    copied(at.place, path)
    rows = SqliteOrigin.rows
    errors: list[str] = []

    def is_said() -> bool:
        errors.append(capsys.readouterr().err)
        return "the database server is away" in "".join(errors)

    def leave(source: SqliteOrigin, job: int) -> Iterator[Any]:
        monkeypatch.undo()
        server.stop("immediate")
        return rows(source, job)

    monkeypatch.setattr(SqliteOrigin, "rows", leave)
    copying = at.begin(lambda: copied(path, there))
    try:
        wait_until(is_said, "it says what it waits for")
    finally:
        server.start()
    end(copying)
    assert at.fault is None
    assert re.fullmatch(r"(sink: the database server is away \(.*\); waiting for it\n)+", "".join(errors))
    assert everything(there) == everything(path)


def test_a_ledger_that_cannot_be_copied_is_closed(at: At, server: Server, tmp_path: Path) -> None:
    """Also while somebody still has the error."""
    path = tmp_path / "results.db"
    open_ledger(str(path)).close()
    with closing(sqlite3.connect(path)) as file:
        file.execute("UPDATE meta SET value='1' WHERE key='version'")
        file.commit()
    with pytest.raises(OperatorError, match="is of version 1: start a sink with it once"):
        copied(str(path), at.place)
    with pytest.raises(OperatorError, match="there is no site night") as refused:
        copied(with_site(at.place, "night"), str(tmp_path / "copy.db"))
    assert str(path) not in [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()]
    wait_until(lambda: not sessions(server, "copy-ledger"), "its session has ended")
    assert str(refused.value)


def sessions(server: Server, name: str) -> list[tuple[Any, ...]]:
    return ask(server, f"SELECT pid FROM pg_stat_activity WHERE application_name='tradewind {name}'")


def interrupted(rows: Iterator[Any]) -> Iterator[Any]:
    yield next(rows)
    raise RuntimeError("interrupted")


def test_doctor_sees_server_site_and_holder(at: At, server: Server, tmp_path: Path) -> None:
    held = ledger_server(at.place)
    assert (held.fault, held.is_made, held.is_durable) == ("", True, True)
    assert held.sink == f"process {os.getpid()} on {socket.gethostname()}"
    assert not ledger_server(with_site(at.place, "night")).is_made
    at.ledger.close()
    wait_until(lambda: ledger_server(at.place).sink == "", "nobody holds it")
    assert "database" in ledger_server(server.address("nosuch")).fault
