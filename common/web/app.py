"""The page's requests and answers, as an ASGI application. It only reads."""

import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request, cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import OperatorError
from ..job_names import is_job
from ..sink.headline import headline
from ..sink.rows import as_json
from ..sink.store import Row
from ..transport import clock
from . import metrics, pictures
from .guard import COOKIE_S, HEADERS, OPEN_PATHS, Asked, Guard, bearer
from .observer import Observer, Snapshot
from .render import FOLDER, Renderer, drawn
from .series import histogram, quantile
from .settings import FAILURES_SHOWN, ROWS_IN_FRONT, ROWS_SHOWN, SAMPLE, SILENT_S, VALUE_BYTES
from .words import duration

HTML, JSON = "text/html; charset=utf-8", "application/json"


@dataclass(frozen=True, slots=True)
class ListPart:
    """A part of a list."""

    shown: Sequence[Any]
    count: int
    page: int
    pages: int
    wanted: str

    @property
    def first(self) -> int:
        """The number of the first one that is shown, from 1."""
        return min(self.count, (self.page - 1) * ROWS_SHOWN + 1)

    @property
    def last(self) -> int:
        """The number of the last one."""
        return min(self.count, self.page * ROWS_SHOWN)

    @property
    def query(self) -> str:
        """What a link to another page has to carry."""
        return "&" + urlencode({"q": self.wanted}) if self.wanted else ""


class Entrance:
    """Lets requests in, and puts the headers on all answers."""

    def __init__(self, app: ASGIApp, guard: Guard, cookie: str, root: str, say: Callable[..., bytes]) -> None:
        self._app = app
        self._guard = guard
        self._cookie = cookie
        self._root = root
        self._say = say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        answer = self._refusal(scope) or self._app
        await answer(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, query = Headers(scope=scope), QueryParams(scope["query_string"])
        path = scope["path"].removeprefix(self._root) or "/"
        cookie = cookie_parser(headers.get("cookie", "")).get(self._cookie)
        asked = Asked(path, headers.get("host", ""), query.get("token"), cookie, bearer(headers))
        if scope["method"] not in ("GET", "HEAD"):
            return Response("the page only reads: GET and HEAD\n", 405, {"allow": "GET, HEAD"}, "text/plain")
        if reason := self._guard.wrong_host(asked):
            return Response(reason + "\n", 400, media_type="text/plain")
        if asked.token is not None and asked.path not in OPEN_PATHS:
            return self._exchange(asked, query)
        if self._guard.may_see(asked):
            return None
        return self._sign_in(
            "The token is in the address that was printed when the page was started, or in its token file."
        )

    def _exchange(self, asked: Asked, query: QueryParams) -> Response:
        """A token in the address becomes a cookie, so that it does not stay there."""
        if not self._guard.is_token(asked.token or ""):
            return self._sign_in(
                "That is not the token of this page. It changes with each start, unless it is kept in a file."
            )
        rest = urlencode([(name, value) for name, value in query.multi_items() if name != "token"])
        # With two slashes it would be another site.
        to = quote(f"{self._root}/{asked.path.lstrip('/')}") + ("?" + rest if rest else "")
        answer = RedirectResponse(to, HTTPStatus.SEE_OTHER)
        where = self._root or "/"
        answer.set_cookie(self._cookie, self._guard.cookie, COOKIE_S, path=where, httponly=True, samesite="strict")
        return answer

    def _sign_in(self, text: str) -> Response:
        content = self._say("plain.html", title="Sign in", text=text, asks_token=True)
        return Response(content, 401, {"www-authenticate": "Bearer"}, HTML)


class Pages:
    """What each address answers."""

    def __init__(self, observer: Observer, renderer: Renderer, show_values: bool) -> None:
        self._observer = observer
        self._renderer = renderer
        self._show_values = show_values
        self._metrics = metrics.registry(self._heard)
        self._made: dict[tuple[str, str], bytes] = {}
        self._made_of: tuple[int, str] = (-1, "")
        self._samples: dict[str, tuple[int, list[float]]] = {}
        self._lock = threading.Lock()
        """Of what was made."""

    def routes(self) -> list[Route | Mount]:
        """All addresses."""
        return [
            Route("/", self._once(self._overview)),
            Route("/jobs", self._once(self._jobs)),
            Route("/crew", self._once(self._crew)),
            Route("/jobs/{job}", self._once(self._job)),
            Route("/jobs/{job}/tasks/{task:int}", self._once(self._task)),
            Route("/api/state", self._once(self._state, JSON)),
            Route("/metrics", self._read_metrics),
            Route("/healthz", lambda _: Response("ok\n", media_type="text/plain")),
            Route("/readyz", self._ready),
            Mount("/static", StaticFiles(directory=FOLDER / "static")),
        ]

    # -- what is asked once a snapshot, whatever the number of browsers -------------------------------------------

    def _once(self, make: Callable[[Snapshot, Request], bytes], kind: str = HTML) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            snapshot = self._observer.look()
            content = self._kept(snapshot, request, make)
            etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
            if request.headers.get("if-none-match") == etag:
                return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"etag": etag})
            return Response(content, headers={"etag": etag}, media_type=kind)

        return answer

    def _kept(self, snapshot: Snapshot, request: Request, make: Callable[[Snapshot, Request], bytes]) -> bytes:
        key = request.url.path, request.url.query
        made_of = snapshot.number, _silence(snapshot) or ""
        with self._lock:
            if self._made_of != made_of:
                self._made_of, self._made = made_of, {}
            if key in self._made:
                return self._made[key]
        content = make(snapshot, request)
        with self._lock:
            if self._made_of == made_of:
                self._made[key] = content
        return content

    # -- pages ---------------------------------------------------------------------------------------------------

    def _page(self, template: str, here: str, snapshot: Snapshot, **context: Any) -> bytes:
        is_stuck = snapshot.report is not None and snapshot.report.is_stuck
        return self._renderer.page(
            template,
            here=here,
            silent_s=_silence(snapshot),
            trouble=snapshot.trouble,
            unread=snapshot.unread,
            is_stuck=is_stuck,
            **context,
        )

    def _overview(self, snapshot: Snapshot, request: Request) -> bytes:
        jobs, workers = pictures.JobList(snapshot.report, snapshot.jobs), pictures.workers(snapshot.report)
        busiest = sorted(workers, key=lambda worker: (-worker.running, worker.name))[:ROWS_IN_FRONT]
        return self._page(
            "overview.html",
            "overview",
            snapshot,
            farm=pictures.farm(snapshot.report),
            drawn=drawn(self._observer.chart()),
            jobs=jobs[:ROWS_IN_FRONT],
            jobs_count=len(jobs),
            workers=busiest if len(workers) > ROWS_IN_FRONT else workers,
        )

    def _jobs(self, snapshot: Snapshot, request: Request) -> bytes:
        wanted = _wanted(request)
        found = pictures.JobList(snapshot.report, snapshot.jobs, wanted)
        return self._page("jobs.html", "jobs", snapshot, found=_page(found, request, wanted))

    def _crew(self, snapshot: Snapshot, request: Request) -> bytes:
        wanted = _wanted(request)
        found = pictures.matching_workers(pictures.workers(snapshot.report), wanted)
        return self._page("crew.html", "crew", snapshot, found=_page(found, request, wanted))

    def _job(self, snapshot: Snapshot, request: Request) -> bytes:
        job = self._named(snapshot, request)
        after = _number(request, "after", -1)
        rows: list[Row] = []
        try:
            if job.failed:
                rows = self._observer.books.failures(job.name, after, FAILURES_SHOWN + 1)
            seconds = self._sample(job)
            chart = self._observer.chart_of(job.name, job.opened_at, job.is_live)
        except OperatorError as error:
            snapshot = replace(snapshot, unread=str(error))
            seconds, chart = [], self._observer.chart_of_nothing()
        shown = rows[:FAILURES_SHOWN]
        return self._page(
            "job.html",
            "jobs",
            snapshot,
            job=job,
            drawn=drawn(chart),
            bins=histogram(seconds),
            median=quantile(seconds, 0.5) if seconds else 0.0,
            high=quantile(seconds, 0.95) if seconds else 0.0,
            sampled=len(seconds),
            failures=[_failure(row) for row in shown],
            after=after,
            next_after=shown[-1].task if len(rows) > FAILURES_SHOWN else None,
            show_values=self._show_values,
        )

    def _sample(self, job: pictures.JobPicture) -> list[float]:
        """Run times; read again when a twentieth more tasks are recorded, because all places are looked at again."""
        key = f"{job.name} {job.opened_at}"
        done, seconds = self._samples.get(key, (0, []))
        if not done <= job.done <= done * 1.05 or (not job.is_live and job.done != done):
            seconds = self._observer.books.sample(job.name, job.done, SAMPLE)
            if len(self._samples) >= 2 * ROWS_SHOWN:
                self._samples.clear()
            self._samples[key] = job.done, seconds
        return seconds

    def _task(self, snapshot: Snapshot, request: Request) -> bytes:
        job, task = self._named(snapshot, request), request.path_params["task"]
        if task > 2**53:
            raise HTTPException(404, "no job has that many tasks")
        try:
            row = self._observer.books.row(job.name, task)
        except OperatorError as error:
            raise HTTPException(503, str(error)) from None
        values = self._values(row) if row is not None and self._show_values else {}
        title = headline(row.error) if row is not None and row.error else ""
        return self._page(
            "task.html",
            "jobs",
            snapshot,
            job=job.name,
            task=task,
            row=row,
            headline=title,
            show_values=self._show_values,
            **values,
        )

    def _values(self, row: Row) -> dict[str, Any]:
        value, argument = as_json(row.value, row.json), as_json(row.argument, row.argument_json)
        texts = {"value": value, "argument": argument, "error": row.error or ""}
        is_cut = any(len(text) > VALUE_BYTES for text in texts.values()) or row.argument_digest is not None
        # Of a traceback the end says most.
        shown = {name: text[:VALUE_BYTES] for name, text in texts.items()} | {"error": texts["error"][-VALUE_BYTES:]}
        return {**shown, "is_cut": is_cut}

    def _named(self, snapshot: Snapshot, request: Request) -> pictures.JobPicture:
        name = request.path_params["job"]
        job = pictures.JobList(snapshot.report, snapshot.jobs).named(name) if is_job(name) else None
        if job is not None:
            return job
        raise HTTPException(404, "There is no such job. Was it forgotten, or is its name written in another way?")

    # -- for programs ----------------------------------------------------------------------------------------------

    def _state(self, snapshot: Snapshot, request: Request) -> bytes:
        jobs, workers = pictures.JobList(snapshot.report, snapshot.jobs), pictures.workers(snapshot.report)
        silent_s = snapshot.silent_s(clock.now())
        fields = {
            "silent_s": None if math.isinf(silent_s) else round(silent_s, 1),
            "trouble": snapshot.trouble or snapshot.unread or None,
            "farm": asdict(pictures.farm(snapshot.report)),
            "jobs": [asdict(job) for job in jobs.open()],
            "workers": [asdict(worker) for worker in workers],
            "counters": snapshot.report and snapshot.report.counters,
            "chart": asdict(self._observer.chart()),
        }
        return msgspec.json.encode(fields)

    def _heard(self) -> Any:
        snapshot = self._observer.snapshot
        return snapshot.report if _silence(snapshot) is None else None

    def _read_metrics(self, request: Request) -> Response:
        return Response(metrics.text(self._metrics), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _ready(self, request: Request) -> Response:
        silent = _silence(self._observer.snapshot)
        if silent is None:
            return Response("ok\n", media_type="text/plain")
        return Response("the sink does not answer\n", HTTPStatus.SERVICE_UNAVAILABLE, media_type="text/plain")


def make_app(observer: Observer, guard: Guard, root: str, port: int, show_values: bool) -> Starlette:
    """The whole application."""
    renderer = Renderer(root)

    def say(request: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else 500
        text = str(error.detail) if isinstance(error, HTTPException) else "The log of the web process says more."
        title = HTTPStatus(code).phrase.capitalize()
        return Response(renderer.page("plain.html", title=title, text=text, asks_token=False), code, media_type=HTML)

    app = Starlette(
        routes=Pages(observer, renderer, show_values).routes(), exception_handlers={HTTPException: say, 500: say}
    )
    # Cookies do not know ports: two pages on one host need two names.
    app.add_middleware(Entrance, guard=guard, cookie=f"tradewind-{port}", root=root, say=renderer.page)
    return app


def _silence(snapshot: Snapshot) -> str | None:
    """For how long the sink has been silent, in words; None when it has not."""
    silent_s = snapshot.silent_s(clock.now())
    if math.isinf(silent_s):
        return "never"
    return duration(int(silent_s)) if silent_s > SILENT_S else None


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 17 else default


def _wanted(request: Request) -> str:
    return request.query_params.get("q", "").strip()[:100]


def _page(found: Sequence[Any], request: Request, wanted: str) -> ListPart:
    pages = max(1, math.ceil(len(found) / ROWS_SHOWN))
    page = min(pages, max(1, _number(request, "page", 1)))
    return ListPart(found[(page - 1) * ROWS_SHOWN : page * ROWS_SHOWN], len(found), page, pages, wanted)


def _failure(row: Row) -> dict[str, Any]:
    argument = as_json(row.argument, row.argument_json) if row.argument is not None else "not kept"
    shown = argument if len(argument) <= 100 and row.argument_digest is None else argument[:100] + "…"
    return {
        "task": row.task,
        "argument": shown,
        "headline": headline(row.error or ""),
        "attempt": row.attempt,
        "worker": row.worker,
    }
