"""The page as a process: beside a real sink, and in a real Chromium where that is installed."""

import json
import re
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("starlette", reason="the extra `web` is not installed")

from tests.conftest import PATIENCE_S, Pipeline, wait_until

CHROMIUM = shutil.which("chromium")
TASKS = "\n".join(
    (
        "import time",
        "def slow(n):",
        "    time.sleep(0.02)",
        "    if n % 7 == 3:",
        "        raise ValueError(f'<img src=x onerror=\"document.title=1\"> {n}')",
        "    return n",
        "def stuck(n):",
        "    time.sleep(600)",
        "",
    )
)


class Site:
    """The page's process, and how to ask it without a browser."""

    def __init__(self, pipeline: Pipeline, *arguments: str) -> None:
        self.process = pipeline.start("sink", "web", "--port", "0", *arguments)
        self.process.wait_for(r"listening at (\S+), port (\d+)")
        wait_until(lambda: "\n" in self.process.out, "the address is printed")
        self.address = self.process.out.strip()
        base, _, self.token = self.address.partition("?token=")
        self.base = base.rstrip("/")

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        asked = urllib.request.Request(self.base + path, headers={"authorization": f"Bearer {self.token}"} | headers)
        try:
            with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def state(self) -> Any:
        return json.loads(self.get("/api/state")[1])


@pytest.fixture
def farm(pipeline: Pipeline) -> Pipeline:
    pipeline.module("tasks", TASKS)
    return pipeline


def test_the_page_beside_a_sink(farm: Pipeline) -> None:
    sink = farm.sink()
    site = Site(farm)
    wait_until(lambda: site.get("/readyz")[0] == 200, "the sink is heard")
    farm.worker("tasks", "--slots", "2", "--name", "lab1")
    farm.ventilator("tasks:stuck", "--range", "1", "--job", "stuck")
    assert farm.ventilator("tasks:slow", "--range", "60", "--job", "photos").wait() == 1
    wait_until(lambda: "photos" in site.get("/jobs?q=done")[1], "the page knows that the job is done")
    page = site.get("/jobs/photos")[1]
    assert "ValueError: &lt;img" in page
    assert re.search(r"60\W+<small>of 60", page)
    wait_until(lambda: any(job["longest"] for job in site.state()["jobs"]), "what runs longest is known")
    state = site.state()
    assert [job["name"] for job in state["jobs"]] == ["stuck"]
    assert state["workers"][0]["runs"][0][0] == "stuck"
    assert sum(state["chart"]["rates"]) > 0 or state["counters"]["ok"] > 0
    metrics = site.get("/metrics")[1]
    assert 'tradewind_tasks_recorded_total{status="failed"} 9.0' in metrics
    assert 'tradewind_job_tasks{job="stuck",state="total"} 1.0' in metrics
    sink.kill()
    wait_until(lambda: site.get("/readyz")[0] == 503, "the sink is missed")
    assert "The sink has been silent" in site.get("/")[1]
    assert site.get("/healthz")[0] == 200
    farm.sink()
    wait_until(lambda: site.get("/readyz")[0] == 200, "the new sink is heard")
    site.process.signal(signal.SIGTERM)
    assert site.process.wait() == 0
    assert site.token not in site.process.err


def test_the_page_of_another_machine(farm: Pipeline) -> None:
    """It has an observer's key and no ledger."""
    farm.sink()
    assert farm.run("sink", "enrol", "observer", "desk", "--address", "tcp://127.0.0.1:1").wait() == 0
    port = re.search(r"127.0.0.1:(\d+)", (farm.folder / "keys" / "worker.key_secret").read_text())
    assert port
    farm.worker("tasks", "--slots", "2")
    assert farm.ventilator("tasks:slow", "--range", "60", "--job", "photos").wait() == 1
    site = Site(farm, "--key", "desk.key_secret", "--sink", f"127.0.0.1:{port[1]}", "--show-values")
    wait_until(lambda: "/jobs/photos" in site.get("/jobs")[1], "the page knows the job")
    page = site.get("/jobs/photos")[1]
    assert "ValueError: &lt;img" in page
    assert "10 ms – 20 ms" in page or "20 ms – 50 ms" in page
    assert "Traceback (most recent call last)" in site.get("/jobs/photos/tasks/3")[1]
    assert "<pre>4</pre>" in site.get("/jobs/photos/tasks/4")[1]


def test_what_is_refused_at_the_start_is_one_line(farm: Pipeline) -> None:
    assert farm.run("sink", "enrol", "observer", "desk", "--address", "tcp://127.0.0.1:1").wait() == 0
    done = farm.run("sink", "web", "--key", "desk.key_secret", "--listen", "0.0.0.0")
    assert done.wait() == 2
    assert "lets other machines see the page: give --token-file FILE too" in done.err
    assert done.err.count("\n") == 1


def test_other_machines_are_let_in_with_a_token_file(farm: Pipeline) -> None:
    farm.sink()
    site = Site(farm, "--listen", "0.0.0.0", "--token-file", "page.token")
    site.token = (farm.folder / "page.token").read_text().strip()
    assert site.token not in site.process.out + site.process.err
    site.base = site.base.replace("0.0.0.0", "127.0.0.1")
    assert site.get("/")[0] == 200
    assert site.get("/", host="sinkhost")[0] == 400


# -- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        # As root there is no sandbox; what the browser loads here is ours.
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Tab:
    """A page of a browser that has signed in, and what went wrong in it."""

    def __init__(self, browser: Any, site: Site, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}} | options)
        self.context.set_default_timeout(PATIENCE_S * 1_000)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append("a dialog") or dialog.dismiss())
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.site = site
        self.page.goto(f"{site.base}/?token={site.token}")

    def goto(self, path: str) -> None:
        self.page.goto(self.site.base + path)

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)


@pytest.fixture(scope="module")
def shown(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A farm with a job that has failed tasks and one that runs, and its page."""
    with closing(Pipeline(tmp_path_factory.mktemp("shown"))) as farm:
        farm.module("tasks", TASKS)
        farm.sink()
        farm.worker("tasks", "--slots", "2", "--name", "lab1")
        assert farm.ventilator("tasks:slow", "--range", "60", "--job", "photos").wait() == 1
        farm.ventilator("tasks:stuck", "--range", "1", "--job", "stuck")
        site = Site(farm, "--show-values")
        wait_until(lambda: "stuck" in site.get("/")[1], "the page shows what runs")
        yield site


def test_signing_in(browser: Any, shown: Site) -> None:
    tab = Tab(browser, shown)
    assert tab.page.url == f"{shown.base}/", "the token went from the address"
    assert tab.run("document.cookie") == "", "scripts do not see the cookie"
    [cookie] = tab.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert shown.token not in cookie["value"]
    other = browser.new_context()
    page = other.new_page()
    page.goto(f"{shown.base}/jobs")
    assert "Sign in" in page.content()
    page.fill("input", shown.token)
    page.click("button")
    page.wait_for_selector("text=Busy slots")


def test_the_page_follows_the_farm(browser: Any, shown: Site) -> None:
    tab = Tab(browser, shown)
    tab.page.wait_for_selector("canvas")
    tab.run("document.querySelector('.figures dd').textContent = 'old'")
    tab.page.wait_for_selector(".figures dd:has-text('/s')")
    tab.page.wait_for_selector("text=stuck")
    assert tab.faults == []
    assert {url.removeprefix(shown.base).partition("?")[0] for url in tab.asked} <= {
        "/", "/static/page.css", "/static/page.js", "/static/uplot-1.6.32.min.js", "/static/uplot-1.6.32.min.css",
        "/static/icon.svg",
    }  # fmt: skip


def test_a_tab_that_nobody_sees_asks_nothing(browser: Any, shown: Site) -> None:
    tab = Tab(browser, shown)
    # A browser without a screen has no hidden tabs: the page is told that it is one.
    tab.run("Object.defineProperty(document, 'visibilityState', {get: () => window.seen || 'hidden'})")
    tab.run("document.dispatchEvent(new Event('visibilitychange'))")
    tab.asked.clear()
    tab.run("new Promise(wait => setTimeout(wait, 1500))")
    assert tab.asked == []
    tab.run("window.seen = 'visible'; document.dispatchEvent(new Event('visibilitychange'))")
    tab.page.wait_for_event("request")


HOSTILE = {
    "script": "<script>document.title='hit'</script>",
    "image": "<img src=x onerror=\"document.title='hit'\">",
    "svg": "<svg onload=\"document.title='hit'\">",
    "end of an attribute": '"><b onmouseover="document.title=\'hit\'">x</b>',
    "end of the figures": "</td></tr></table><script>document.title='hit'</script>",
    "template": "{{ 7 * 7 }}${7 * 7}",
    "address": "javascript:document.title='hit'",
    "comment": "<!-- --!><script>document.title='hit'</script>",
    "textarea": "</textarea></noscript></style><script>document.title='hit'</script>",
    "direction": "\u202egnp.exe",
    "control": "\x1b[31m\x07\x9b31m",
    "not utf-8": "\udcff\ud800",
    "long": "<b>" * 3_000,
}
"""Errors, and names where they may have such characters, that were tried."""


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_errors_are_text(hostile: Tab, kind: str) -> None:
    tab = hostile
    number = list(HOSTILE).index(kind)
    for path in ("/jobs/evil", f"/jobs/evil/tasks/{number}"):
        tab.goto(path)
        text = tab.page.inner_text("main")
        assert "ValueError: " in text
        assert (
            tab.run("document.querySelectorAll('main script, main img, main b[onmouseover], main svg[onload]').length")
            == 0
        )
        assert tab.page.title() in ("evil · Tradewind", f"Task {number} of evil · Tradewind")
        assert not set(text) & set("\u202e\x1b\x07\x9b")
    assert HOSTILE[kind][:40] in text or kind in ("direction", "control", "not utf-8")
    tab.goto(f"/jobs?q={quote(HOSTILE[kind].encode(errors='replace')[:200])}")
    assert tab.run("document.querySelectorAll('main script, main img').length") == 0
    assert tab.page.title() == "Jobs · Tradewind"
    assert tab.faults == []


@pytest.fixture(scope="module")
def hostile(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A job whose tasks fail with these errors and have these arguments."""
    with closing(Pipeline(tmp_path_factory.mktemp("hostile"))) as farm:
        farm.module("evil", f"TEXTS = {[*HOSTILE.values()]!a}\ndef run(n):\n    raise ValueError(TEXTS[n])\n")
        farm.sink()
        farm.worker("evil", "--slots", "1")
        assert farm.ventilator("evil:run", "--range", str(len(HOSTILE)), "--job", "evil").wait() == 1
        site = Site(farm, "--show-values")
        wait_until(lambda: "evil" in site.get("/jobs")[1], "the page knows the job")
        yield Tab(browser, site)


def test_a_page_of_others_cannot_read_ours(browser: Any, shown: Site) -> None:
    tab = Tab(browser, shown)
    for host in ("evil.example.org", "localhost.evil.example.org"):
        assert shown.get("/", host=host)[0] == 400
    other = tab.context.new_page()
    other.goto("data:text/html,<iframe></iframe>")
    other.evaluate(f"document.querySelector('iframe').src = '{shown.base}/'")
    said = other.evaluate(f"fetch('{shown.base}/api/state').then(() => 'read', () => 'refused')")
    assert said == "refused"
    assert len(other.frames) == 1 or "Tradewind" not in other.frames[1].content()


def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Any, shown: Site) -> None:
    tab = Tab(browser, shown, viewport={"width": 360, "height": 740}, is_mobile=True)
    for path in ("/", "/jobs", "/crew", "/jobs/photos", "/jobs/photos/tasks/3"):
        tab.goto(path)
        assert tab.run("document.documentElement.scrollWidth") == 360, path
        assert tab.page.is_visible("main")


def test_without_scripts_there_is_all_of_it(browser: Any, shown: Site) -> None:
    tab = Tab(browser, shown, java_script_enabled=False)
    assert tab.page.is_visible("svg[role=img]")
    tab.page.click("text=photos")
    assert "ValueError: <img" in tab.page.inner_text("main")
    tab.page.click("th a >> nth=0")
    assert "Traceback (most recent call last)" in tab.page.inner_text("pre.traceback")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(browser: Any, shown: Site, scheme: str) -> None:
    """By the contrast that WCAG asks for: 4.5 for text."""
    tab = Tab(browser, shown, color_scheme=scheme)
    colours = tab.run(
        "['--paper', '--ink', '--dim', '--accent', '--bad'].map(name =>"
        " getComputedStyle(document.documentElement).getPropertyValue(name).trim())"
    )
    paper, *others = map(luminance, colours)
    for text in others:
        assert (max(text, paper) + 0.05) / (min(text, paper) + 0.05) >= 4.5


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_page_that_is_gone_says_so_and_goes_on_when_it_is_back(browser: Any, farm: Pipeline) -> None:
    farm.sink()
    site = Site(farm, "--token-file", "page.token")
    site.token = (farm.folder / "page.token").read_text().strip()
    tab = Tab(browser, site)
    site.process.signal(signal.SIGTERM)
    assert site.process.wait() == 0, "also while a browser is connected"
    tab.page.wait_for_selector("#lost", state="visible")
    farm.start("sink", "web", "--port", site.base.rpartition(":")[2], "--token-file", "page.token")
    tab.page.wait_for_selector("#lost", state="hidden")
