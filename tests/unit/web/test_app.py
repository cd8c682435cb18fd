"""Requests and answers, with a ledger and reports of the test, without a socket."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `web` is not installed")
pytest.importorskip("httpx2", reason="httpx2 is not installed")

from starlette.testclient import TestClient

from common.protocol.messages import Counters, JobReport, Report, WorkerReport
from common.sink.sqlite_ledger import Ledger
from common.transport import clock
from common.web.app import make_app
from common.web.guard import HEADERS, Guard
from common.web.observer import Observer, Snapshot
from common.web.settings import ROWS_SHOWN, SILENT_S, VALUE_BYTES
from tests.unit.builders import record
from tests.unit.writing import commit, open_job

TOKEN = "a token that nobody guesses"
JOB = JobReport("job", "tasks:square", 4, 2, 10, 1, 2.0, [(0, 4, 2, 12.5)])
WORKER = WorkerReport("lab1.1-a", "lab1", "10.0.0.1", 4, 2, 3, 0.1, [(0, 2)])
TRACEBACK = 'Traceback (most recent call last):\n  File "tasks.py", line 2, in square\nValueError: no <b>root</b>'


class Site:
    """The application over a ledger, and what its observer has heard."""

    def __init__(self, folder: Path) -> None:
        path = str(folder / "results.db")
        self.ledger = Ledger(path)
        open_job(self.ledger, "job", "tasks:square", "lines of text", arguments="text")
        commit(
            self.ledger,
            [
                record(
                    [1, None, None, 9],
                    errors={1: TRACEBACK, 2: "x" * 5_000},
                    arguments=["a", "b", "c", "d"],
                    form="text",
                )
            ],
            [],
        )
        self.observer = Observer(folder / "no.key", None, path)
        self.hear(Report([JOB], [WORKER], Counters(ok=2, failed=2)))

    def hear(self, report: Report | None, **fields: Any) -> None:
        jobs = tuple(self.observer.books.jobs())
        fields = {"heard_at": None if report is None else clock.now(), "jobs": jobs} | fields
        self.observer.snapshot = Snapshot(self.observer.snapshot.number + 1, report, **fields)

    @contextmanager
    def client(self, root: str = "", token: str | None = TOKEN, show_values: bool = False) -> Iterator[TestClient]:
        app = make_app(self.observer, Guard(TOKEN, []), root, 5550, show_values)
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        yield TestClient(app, base_url="http://localhost:5550", root_path=root, headers=headers, follow_redirects=False)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.ledger.close()


PATHS = ["/", "/jobs", "/crew", "/jobs/job", "/jobs/job/tasks/1", "/api/state", "/metrics", "/nothing"]


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_seen(site: Site, path: str) -> None:
    with site.client(token=None) as client:
        answer = client.get(path)
    assert answer.status_code == 401
    assert "lab1" not in answer.text
    assert "Token" in answer.text


@pytest.mark.parametrize("path", [*PATHS, "/healthz", "/readyz", "/static/page.css"])
def test_every_answer_has_the_headers(site: Site, path: str) -> None:
    for token in (TOKEN, None):
        with site.client(token=token) as client:
            answer = client.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert answer.status_code in (200, 401, 404)


def test_a_token_in_the_address_becomes_a_cookie(site: Site) -> None:
    with site.client(token=None) as client:
        answer = client.get("/jobs", params={"token": TOKEN, "q": "a b"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?q=a+b")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/").status_code == 200, "the cookie is enough"
        assert client.get("/", params={"token": "wrong"}).status_code == 401


def test_no_address_leads_to_another_site(site: Site) -> None:
    with site.client(token=None) as client:
        for path in (
            "//evil.example.org/",
            "/%2f%2fevil.example.org",
            "/\\evil.example.org",
            "/http://evil.example.org",
        ):
            answer = client.get(f"http://localhost:5550{path}", params={"token": TOKEN})
            to = answer.headers.get("location", "/")
            assert to.startswith("/"), path
            assert not to.startswith(("//", "/\\")), path


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_only_reads(site: Site, method: str) -> None:
    with site.client() as client:
        for path in PATHS:
            assert client.request(method, path).status_code == 405
        assert client.head("/").status_code == 200


def test_an_unknown_host_is_refused(site: Site) -> None:
    with site.client() as client:
        answer = client.get("/", headers={"host": "evil.example.org"})
        assert answer.status_code == 400
        assert "--allow-host evil.example.org" in answer.text
        assert client.get("/healthz", headers={"host": "10.1.2.3"}).status_code == 200


def test_the_overview(site: Site) -> None:
    with site.client() as client:
        text = client.get("/").text
    for shown in ("2.0/s", "tasks:square", ">4</b>", "of 10", "lab1.1-a", "2 <small>of 4", "× 2", "live"):
        assert shown in text, shown


def test_a_job_has_its_failures_run_times_and_stragglers(site: Site) -> None:
    with site.client() as client:
        text = client.get("/jobs/job").text
    for shown in ("ValueError: no &lt;b&gt;root&lt;/b&gt;", "200 ms – 500 ms", "4–5", "12 s", "Median 250 ms", ">3 s<"):
        assert shown in text, shown
    assert "Traceback" not in text
    assert "--show-values" in text
    assert "Argument" not in text.replace("arguments", "")


def test_values_are_shown_only_when_that_was_asked_for(site: Site) -> None:
    with site.client() as client:
        text = client.get("/jobs/job/tasks/1").text
        assert "Traceback" not in text
        assert "ValueError: no &lt;b&gt;root" in text
    with site.client(show_values=True) as client:
        assert "&#34;b&#34;" in client.get("/jobs/job").text
        failed = client.get("/jobs/job/tasks/1").text
        assert "Traceback (most recent call last):\n    File &#34;tasks.py" in failed.replace("  File", "    File")
        assert "&#34;b&#34;" in failed
        assert "<pre>9</pre>" in client.get("/jobs/job/tasks/3").text
        long = client.get("/jobs/job/tasks/2").text
        assert "x" * VALUE_BYTES in long
        assert "x" * (VALUE_BYTES + 1) not in long
        assert "Cut at 2 KB" in long


def test_failures_page_by_page(site: Site) -> None:
    errors = {at: f"no {at}" for at in range(45)}
    open_job(site.ledger, "many", "m:f", "lines")
    commit(site.ledger, [record([None] * 45, errors=errors, job="many")])
    site.hear(Report([], []))
    seen, path = [], "/jobs/many"
    with site.client() as client:
        for _ in range(3):
            text = client.get(path).text
            seen += [at for at in errors if f">no {at}<" in text]
            path = "/jobs/many?after=" + text.partition("?after=")[2].partition("#")[0]
    assert seen == list(errors)


@pytest.mark.parametrize("path", ["/jobs/none", "/jobs/<b>", "/jobs/none/tasks/1", "/nothing", "/jobs/job/tasks/x"])
def test_what_is_not_there_is_said(site: Site, path: str) -> None:
    with site.client() as client:
        answer = client.get(path)
    assert answer.status_code == 404
    assert "Overview" in answer.text
    assert "<b>" not in answer.text


def test_a_task_without_a_result(site: Site) -> None:
    with site.client() as client:
        assert "It has no result yet" in client.get("/jobs/job/tasks/7").text
        assert client.get(f"/jobs/job/tasks/{2**60}").status_code == 404


def test_long_lists_have_pages_and_a_search(site: Site) -> None:
    workers = [WorkerReport(f"w{number:03}", "lab", "::1", 1, 0, 0, 0.0) for number in range(2 * ROWS_SHOWN + 1)]
    site.hear(Report([], workers))
    with site.client() as client:
        assert "1–50 of 101" in client.get("/crew").text
        last = client.get("/crew?page=3").text
        assert "w100" in last
        assert "w000" not in last
        assert client.get("/crew?page=99").text == last
        assert "101–101 of 101" in last
        found = client.get("/crew", params={"q": "W07"}).text
        assert "1–10 of 10" in found
        assert "No worker matches" in client.get("/crew", params={"q": '"><script>'}).text
        assert "<script>" not in client.get("/crew", params={"q": '"><script>'}).text
        assert "101" in client.get("/").text


def test_a_page_that_has_not_changed_is_not_sent_again(site: Site) -> None:
    with site.client() as client:
        first = client.get("/")
        again = client.get("/", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        site.hear(Report([], []))
        assert client.get("/", headers={"if-none-match": first.headers["etag"]}).status_code == 200


def test_many_browsers_read_the_ledger_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    failures = site.observer.books.failures
    monkeypatch.setattr(site.observer.books, "failures", lambda *values: reads.append(values) or failures(*values))
    with site.client() as client:
        pages = {client.get("/jobs/job").content for _ in range(20)}
    assert (len(pages), len(reads)) == (1, 1)


def test_a_silent_sink_is_said_with_how_things_stood(site: Site) -> None:
    site.hear(Report([JOB], [WORKER]), heard_at=clock.now() - SILENT_S - 2, trouble="no answer from 10.0.0.9")
    with site.client() as client:
        text = client.get("/").text
        assert "The sink has been silent for 5 s" in text
        assert "no answer from 10.0.0.9" in text
        assert "lab1.1-a" in text
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
        assert "tradewind_up 0.0" in client.get("/metrics").text
    site.hear(None, trouble="")
    with site.client() as client:
        assert "The sink has not answered yet" in client.get("/").text


def test_a_stuck_ledger_is_said(site: Site) -> None:
    site.hear(Report([], [], Counters(), True))
    with site.client() as client:
        assert "The ledger accepts no results" in client.get("/").text
        assert "tradewind_ledger_stuck 1.0" in client.get("/metrics").text


def test_a_ledger_that_cannot_be_read_is_said(site: Site, tmp_path: Path) -> None:
    site.ledger.close()
    (tmp_path / "results.db").write_bytes(b"no ledger" * 1000)
    with site.client() as client:
        assert "cannot use the ledger" in client.get("/jobs/job").text
        answer = client.get("/jobs/job/tasks/1")
        assert answer.status_code == 503
        assert "results.db" in answer.text


def test_behind_a_proxy_all_links_have_its_prefix(site: Site) -> None:
    with site.client(root="/tw") as client:
        answer = client.get("/tw/jobs/job")
        assert answer.status_code == 200
        links = [part.partition('"')[0] for part in answer.text.split('href="')[1:]]
        assert links
        assert [link for link in links if not link.startswith("/tw/")] == []
        assert client.get("/tw/static/page.js").status_code == 200
    with site.client(root="/tw", token=None) as client:
        answer = client.get("/tw/jobs", params={"token": TOKEN})
        assert answer.headers["location"] == "/tw/jobs"
        assert "path=/tw" in answer.headers["set-cookie"].lower()


def test_the_state_for_programs(site: Site) -> None:
    with site.client() as client:
        state = json.loads(client.get("/api/state").content)
    assert state["silent_s"] is not None
    assert state["farm"]["slots"] == 4
    assert state["jobs"][0]["left_s"] == 3.0
    assert state["workers"][0]["runs"] == [["job", 2]]
    assert state["counters"]["ok"] == 2
    assert len(state["chart"]["times"]) == len(state["chart"]["rates"])


def test_hostile_names_are_text(site: Site) -> None:
    evil = '<img src=x onerror="alert(1)">\u202e\x1b[31m'
    job = JobReport("job", f"m:{evil}", 4, 2, 10, 1, 2.0, [(0, 4, 2, 1.0)])
    site.hear(Report([job], [WorkerReport(evil, evil, evil, 4, 2, 3, 0.1, [(0, 2)])]), trouble=evil)
    with site.client() as client:
        for path in ("/", "/jobs", "/crew", "/jobs/job"):
            text = client.get(path).text
            assert "<img" not in text, path
            assert not {"\u202e", "\x1b"} & set(text), path
