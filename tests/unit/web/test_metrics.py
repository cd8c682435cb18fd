"""The metrics: names, values, and that Prometheus' own tool accepts them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra `web` is not installed")

from prometheus_client.parser import text_string_to_metric_families

from common.protocol.messages import Counters, JobReport, Report, WorkerReport
from common.web import metrics
from common.web.settings import METRIC_JOBS_MAX
from tests.conftest import TOP

REPORT = Report(
    [JobReport("a", "m:f", 5, 1, 10, 2, 1.0), JobReport("b", "m:f", 0, 0, None, 2, 0.0)],
    [
        WorkerReport("w1", "lab", "::1", 4, 3, 5, 0.1),
        WorkerReport("w2", "lab", "::1", 2, 5, 2, 0.1),
        WorkerReport("w3", "desk", "::1", 1, 0, 0, 0.1),
    ],
    Counters(1, 2, 3, 4, 5, 6, 7, 8, 9.5),
    True,
    4096,
)


def values(report: Report | None) -> dict[tuple[str, str], float]:
    text = metrics.text(metrics.registry(lambda: report)).decode()
    return {
        (sample.name.removeprefix("tradewind_"), ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_figure_has_its_place() -> None:
    assert values(REPORT) == {
        ("up", ""): 1, ("tasks_recorded_total", "ok"): 1, ("tasks_recorded_total", "failed"): 2,
        ("retries_total", ""): 3, ("duplicates_total", ""): 4, ("returned_total", ""): 5, ("quarantined_total", ""): 6,
        ("workers_lost_total", ""): 7, ("commits_total", ""): 8, ("commit_seconds_total", ""): 9.5,
        ("ledger_stuck", ""): 1, ("ledger_bytes", ""): 4096, ("jobs_open", ""): 2,
        ("slots", "lab"): 6, ("slots_busy", "lab"): 5, ("workers", "lab"): 2, ("batches_in_hands", "lab"): 7,
        ("slots", "desk"): 1, ("slots_busy", "desk"): 0, ("workers", "desk"): 1, ("batches_in_hands", "desk"): 0,
        ("job_tasks", "a,done"): 5, ("job_tasks", "a,failed"): 1, ("job_tasks", "a,total"): 10,
        ("job_tasks", "b,done"): 0, ("job_tasks", "b,failed"): 0,
    }  # fmt: skip


def test_a_silent_sink_has_no_figures() -> None:
    assert values(None) == {("up", ""): 0}


def test_the_number_of_series_is_bounded() -> None:
    jobs = [JobReport(f"j{number}", "m:f", 0, 0, 1, 0, 0.0) for number in range(2_000)]
    workers = [WorkerReport(f"w{number}", "lab", "::1", 1, 0, 0, 0.0) for number in range(1_000)]
    assert len(values(Report(jobs, workers))) < 3 * METRIC_JOBS_MAX + 30


def test_what_the_page_documents_is_what_there_is() -> None:
    table = (TOP / "docs" / "the-page.md").read_text().split("\n## Metrics\n")[1]
    documented = {part.partition("{")[0] for part in table.split("`") if part.startswith("tradewind_")}
    assert documented == {f"tradewind_{name}" for name, _ in values(REPORT)}


DOCS = TOP / "docs"
DASHBOARD = json.loads((DOCS / "grafana.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian's prometheus is not installed")


@needs_promtool
def test_promtool_accepts_them() -> None:
    text = metrics.text(metrics.registry(lambda: REPORT))
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@needs_promtool
@pytest.mark.parametrize("command", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")], ids=str)
def test_promtool_accepts_the_alerts(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=DOCS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_can_read_what_the_dashboard_asks(tmp_path: Path) -> None:
    asked = [text.replace("$__rate_interval", "5m").replace("$instance", ".*") for text in EXPRESSIONS]
    rules = [{"record": f"asked:{number}", "expr": text} for number, text in enumerate(asked)]
    # JSON is YAML.
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text", [*EXPRESSIONS, (DOCS / "alerts.yml").read_text()], ids=lambda text: text[:40])
def test_what_is_asked_for_there_is(text: str) -> None:
    named = set(re.findall(r"tradewind_\w+", text))
    assert named
    assert named <= {f"tradewind_{name}" for name, _ in values(REPORT)}


def test_every_alert_is_tested() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (DOCS / "alerts.yml").read_text()))
    tested = set(re.findall(r"alertname: (\w+)", (DOCS / "alerts_test.yml").read_text()))
    assert alerts - tested <= {"TradewindPageDown", "TradewindLedgerStuck"}, "those are one comparison each"
