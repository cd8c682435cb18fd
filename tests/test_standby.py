"""Two sinks of one site: the one that stands by takes over when the other is killed or stopped, in mid-job."""

import logging
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed")

import psycopg

from common.errors import OperatorError
from common.sink import postgres_ledger
from common.sink.ledgers import open_care
from common.sink.postgres_ledger import PostgresLedger
from common.sink.postgres_place import parsed, with_site
from common.sink.postgres_reads import PostgresReads
from common.sink.postgres_session import Session, is_away
from common.sink.postgres_standby import SilentHolder
from common.sink.store import LedgerAway, LedgerHeld, LedgerLost
from common.transport.key_folder import KeyFolder
from common.transport.sockets import listener
from tests.conftest import Pipeline, Process, wait_until
from tests.postgres import Server
from tests.test_faults import SLEEP
from tests.test_postgres import At

HOSTS = ("127.0.0.1", "127.0.0.2")


def free_port() -> str:
    with listener() as free:
        return str(free.getsockname()[1])


class Site:
    """Two machines, each with its own folder and address, and the same keys."""

    def __init__(self, pipeline: Pipeline, server: Server) -> None:
        self._pipeline = pipeline
        self.ledger = server.address()
        self._ports = {host: free_port() for host in HOSTS}
        keys = KeyFolder(self.keys(HOSTS[0]))
        keys.prepare()
        both = ",".join(f"tcp://{host}:{port}" for host, port in self._ports.items())
        for role in ("worker", "ventilator"):
            keys.enrol(role, f"{role}2", both, pipeline.folder / f"{role}2.key_secret")
        shutil.copytree(keys.path, self.keys(HOSTS[1]))
        self.db = psycopg.connect(self.ledger, autocommit=True)

    def keys(self, host: str) -> Path:
        return self._pipeline.folder / f"keys-{host}"

    def sink(self, host: str) -> Process:
        ports = "--control-port", self._ports[host], "--results-port", "0", "--relay-port", "0", "--tasks-port", "0"
        keys = "--ledger", self.ledger, "--keys", str(self.keys(host))
        return self._pipeline.start("sink", "--listen", host, *ports, *keys)

    def pair(self) -> tuple[Process, Process]:
        """The one that serves, and the one that stands by."""
        serving = self.sink(HOSTS[0])
        serving.wait_for("listening at")
        standing_by = self.sink(HOSTS[1])
        standing_by.wait_for(r"standby: the sink of site main \(process \d+ on \S+\) holds the ledger")
        return serving, standing_by

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return self.db.execute(sql).fetchall()

    def done(self) -> int:
        return int(self.ask("SELECT coalesce(sum(done), 0) FROM tradewind.jobs")[0][0])


@pytest.fixture
def site(pipeline: Pipeline, server: Server) -> Iterator[Site]:
    pipeline.module("sleep", SLEEP.replace(".05", ".01"))
    made = Site(pipeline, server)
    yield made
    made.db.close()


def run_job(pipeline: Pipeline, site: Site, count: int) -> Process:
    """A job in its middle."""
    pipeline.worker("sleep", "--slots", "2", "--key", "worker2.key_secret")
    job = "--range", str(count), "--batch", "2", "--relay", "always", "--key", "ventilator2.key_secret"
    ventilator = pipeline.start("ventilator", "sleep:sleep", *job)
    wait_until(lambda: site.done() > 10, "some tasks are recorded")
    return ventilator


def everything_once(site: Site, count: int) -> None:
    rows = site.ask("SELECT task, value::text FROM tradewind.task_results ORDER BY task")
    assert rows == [(n, str(n)) for n in range(count)]
    assert site.ask("SELECT sum(count) FROM tradewind.receipts") == [(count,)]
    assert open_care(site.ledger).faults() == []


def test_a_sink_that_is_killed_is_replaced_and_the_job_goes_on(pipeline: Pipeline, site: Site) -> None:
    serving, standing_by = site.pair()
    ventilator = run_job(pipeline, site, 300)
    serving.kill()
    standing_by.wait_for("listening at 127.0.0.2")
    assert ventilator.wait() == 0, ventilator.err
    everything_once(site, 300)
    again = site.sink(HOSTS[0])
    again.wait_for("standby: the sink of site main")
    again.signal(signal.SIGTERM)
    assert again.wait() == 0
    standing_by.signal(signal.SIGTERM)
    assert standing_by.wait() == 0


def test_a_sink_that_comes_back_from_a_pause_records_nothing_and_stands_by(pipeline: Pipeline, site: Site) -> None:
    """Its process is stopped: its connections live on, and so would its lock."""
    serving, standing_by = site.pair()
    ventilator = run_job(pipeline, site, 300)
    serving.signal(signal.SIGSTOP)
    standing_by.wait_for("has said nothing to the server for 5 s: ending its session there")
    standing_by.wait_for("listening at 127.0.0.2")
    before = site.done()
    wait_until(lambda: site.done() > before, "the other sink records")
    serving.signal(signal.SIGCONT)
    serving.wait_for("another sink .* has taken over the ledger .*: this one writes nothing more; standing by")
    serving.wait_for("standby: the sink of site main")
    assert ventilator.wait() == 0, ventilator.err
    everything_once(site, 300)
    assert standing_by.popen.poll() is None


def test_a_standby_with_other_keys_is_refused(pipeline: Pipeline, site: Site) -> None:
    serving = site.sink(HOSTS[0])
    serving.wait_for("listening at")
    shutil.rmtree(site.keys(HOSTS[1]))
    stranger = site.sink(HOSTS[1])
    assert stranger.wait() == 2
    assert "this sink has no key yet: copy that sink's key folder to" in stranger.err
    assert not site.keys(HOSTS[1]).exists()


# -- what a ledger and its standby see of each other -----------------------------------------------------------------

KEY = "k" * 40


@pytest.fixture
def at(server: Server) -> Iterator[At]:
    made = At(server.address())
    yield made
    made.ledger.close()


class Held:
    """A connection that has the lock of the site, and is about to send rows."""

    def __init__(self, server: Server) -> None:
        self.db = psycopg.connect(server.address())
        self.db.execute("SELECT pg_advisory_lock(hashtextextended('tradewind:main', 0))")
        self.db.execute("CREATE TEMP TABLE t (n int)")
        self._copy = self.db.cursor().copy("COPY t FROM STDIN")
        self._copy.__enter__()

    def is_open(self) -> bool:
        with suppress(psycopg.OperationalError):
            self.db.pgconn.consume_input()
        return self.db.pgconn.status == psycopg.pq.ConnStatus.OK


def test_a_sink_that_is_silent_in_the_middle_of_its_rows_is_ended(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No time limit of the server ends that."""
    monkeypatch.setattr(SilentHolder, "_SILENT_S", 0.2)
    held = Held(server)
    with pytest.raises(LedgerHeld):
        PostgresLedger(server.address())
    PostgresLedger(server.address(), lambda: KEY).close()
    wait_until(lambda: not held.is_open(), "its connection has ended")


def test_a_sink_that_goes_on_sending_is_let_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SilentHolder, "_SILENT_S", 3600.0)
    held = Held(server)
    with pytest.raises(LedgerHeld, match="is in use by another sink"):
        PostgresLedger(server.address(), lambda: KEY)
    assert held.is_open()
    held.db.close()


def test_without_a_write_a_sink_hears_all_the_same_that_it_was_replaced(at: At, site: Site) -> None:
    wait_until(lambda: at.ledger.completed() is None and at.ledger._is_pinging, "it looks")
    site.ask("UPDATE tradewind.sites SET holder='another' RETURNING 1")
    with pytest.raises(LedgerLost, match=r"another sink .* has taken over"):
        wait_until(at.ledger.completed, "it looks again")


def test_a_write_that_comes_while_it_looks_is_made(at: At) -> None:
    wait_until(lambda: at.ledger.completed() is None and at.ledger._is_pinging, "it looks")
    at.commit(0).join(60)
    assert at.fault is None
    assert at.values() == {0: 0, 1: 1, 2: 2}


def test_a_sink_that_cannot_reach_the_server_leaves_the_site_to_its_standby(
    at: At, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peers that can reach it would stay with it all the same."""
    monkeypatch.setattr(postgres_ledger, "_LEAVES_S", 0.0)
    with psycopg.connect(server.address(), application_name="tradewind standby main"):
        wait_until(lambda: at.ledger.completed() is None and at.ledger._has_standby, "it sees the standby")
    server.signal(signal.SIGSTOP)
    try:
        with pytest.raises(LedgerLost, match="does not answer for 0 s, and the site has a standby"):
            wait_until(at.ledger.completed, "it leaves")
    finally:
        server.signal(signal.SIGCONT)


def test_an_idle_sink_says_when_the_server_is_away_and_when_it_is_back(
    at: At, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.stop("immediate")
    try:
        wait_until(lambda: at.ledger.completed() or len(caplog.messages) == 1, "it says so")
        assert re.fullmatch(r"the database server is away \(.*\); nothing can be recorded", caplog.messages[0])
    finally:
        server.start()
    wait_until(lambda: at.ledger.completed() or len(caplog.messages) > 1, "it says that too")
    assert caplog.messages[1:] == ["the database server answers again"]


def test_a_sink_without_a_standby_waits_for_the_server(at: At, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_ledger, "_LEAVES_S", 0.0)
    server.signal(signal.SIGSTOP)
    try:
        wait_until(lambda: at.ledger.completed() or at.writer.waits_for, "it waits")
        assert at.ledger.completed() is None
    finally:
        server.signal(signal.SIGCONT)


def test_a_site_with_a_long_name_finds_its_standby_too(server: Server) -> None:
    """The server cuts names."""
    ledger = PostgresLedger(with_site(server.address(), "s" * 100), lambda: KEY)
    try:
        with psycopg.connect(server.address(), application_name=f"tradewind standby {'s' * 100}"):
            wait_until(lambda: ledger.completed() is None and ledger._has_standby, "it sees the standby")
    finally:
        ledger.close()


@pytest.mark.parametrize("is_made", [False, True])
def test_a_server_that_goes_while_a_sink_starts_is_away_too(
    server: Server, monkeypatch: pytest.MonkeyPatch, is_made: bool
) -> None:
    """The lock of the site is given back."""

    def lost(reads: PostgresReads) -> Session:
        if not is_made:
            raise psycopg.OperationalError("connection refused")
        session = Session(parsed(server.address()), "reads", False, 1.0)
        with server.asked() as db:
            db.execute("SELECT pg_terminate_backend(%s)", [session.pid])
        return session

    monkeypatch.setattr(PostgresReads, "_opened", lost)
    with pytest.raises(LedgerAway, match="cannot use the ledger postgresql:///postgres: ") as away:
        PostgresLedger(server.address(), lambda: KEY)
    assert "\n" not in str(away.value)
    monkeypatch.undo()
    PostgresLedger(server.address(), lambda: KEY).close()


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("postgresql://me@127.0.0.1:9/farm", LedgerAway),
        ("postgresql://me@nosuchhost.invalid/farm", LedgerAway),
        ("{server}/nosuch", OperatorError),
        ("postgresql:///?service=none-of-this-name", OperatorError),
        ("postgresql://me@127.0.0.1:99999/farm", OperatorError),
    ],
    ids=["nobody listens", "no such name", "no such database", "no such service", "no such port"],
)
def test_a_server_that_is_away_is_told_from_one_that_refuses(
    server: Server, address: str, kind: type[OperatorError]
) -> None:
    place = server.address("nosuch") if "{server}" in address else address
    with pytest.raises(OperatorError) as refused:
        PostgresLedger(place, lambda: KEY)
    assert type(refused.value) is kind


def test_a_server_without_a_free_connection_is_waited_for(server: Server) -> None:
    with server.asked() as db:
        db.execute("CREATE ROLE many LOGIN CONNECTION LIMIT 0")
    words = r"too many connections for role .*; let the server accept more connections"
    try:
        with pytest.raises(LedgerAway, match=words):
            PostgresLedger(server.address().replace("user=postgres", "user=many"), lambda: KEY)
    finally:
        with server.asked() as db:
            db.execute("DROP ROLE many")


@pytest.mark.parametrize(
    "said",
    [
        "server does not support SSL, but SSL was required",
        'root certificate file "/nosuch" does not exist\nEither provide the file, or change sslmode.',
        'server certificate for "other" does not match host name "db"',
        "SSL error: certificate verify failed",
        'private key file "/k" has group or world access; file must have permissions u=rw (0600) or less',
        "fe_sendauth: no password supplied",
        'FATAL:  password authentication failed for user "pw"',
        'invalid sslmode value: "nonsense"',
        'invalid integer value "abc" for connection option "tcp_user_timeout"',
        "channel binding required, but server authenticated client without channel binding",
        'authentication method requirement "scram-sha-256" failed: server did not complete authentication',
        'FATAL:  database "recovery" does not exist',
        'FATAL:  role "the database system is starting up" does not exist',
        'root certificate file "/shutting down/recovery state/ca.pem" does not exist',
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "db-recovery"])
def test_what_no_waiting_changes_is_no_server_that_is_away(said: str, host: str) -> None:
    at = f'connection failed: connection to server at "{host}", port 5432 failed: '
    assert not is_away(psycopg.OperationalError(at + said))


@pytest.mark.parametrize(
    "said",
    [
        "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?",
        "server closed the connection unexpectedly",
        "session is read-only",
        "FATAL:  the database system is starting up",
        "FATAL:  the database system is shutting down",
        "FATAL:  the database system is in recovery mode",
        "FATAL:  the database system is not yet accepting connections\n"
        "DETAIL:  Consistent recovery state has not been yet reached.",
        "FATAL:  sorry, too many clients already",
        "FATAL:  remaining connection slots are reserved for non-replication superuser connections",
        'FATAL:  too many connections for database "farm"',
        "SSL SYSCALL error: EOF detected",
        "received invalid response to SSL negotiation: H",
    ],
)
def test_what_may_pass_is_a_server_that_is_away(said: str) -> None:
    """Whatever the server is called."""
    at = 'connection failed: connection to server at "certificate-service.password", port 5432 failed: '
    assert is_away(psycopg.OperationalError(at + said))
