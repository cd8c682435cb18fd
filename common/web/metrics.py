"""The metrics for Prometheus: what the sink counts, and how things stand now."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..protocol.messages import Counters, Report, WorkerReport
from .settings import METRIC_JOBS_MAX


class SinkCollector:
    """A collector of prometheus_client. `look` gives the newest report, or None while the sink is silent."""

    def __init__(self, look: Callable[[], Report | None]) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        """All metrics; only `tradewind_up` while the sink is silent."""
        report = self._look()
        yield _gauge("up", "1 while the sink answers, else 0.", report is not None)
        if report is not None:
            yield from _counted(report.counters)
            yield from _standing(report)


def registry(look: Callable[[], Report | None]) -> CollectorRegistry:
    """A registry with nothing else in it."""
    made = CollectorRegistry()
    made.register(SinkCollector(look))
    return made


def text(of: CollectorRegistry) -> bytes:
    """What Prometheus reads."""
    return generate_latest(of)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"tradewind_{name}", help_text, float(value))


def _counted(counters: Counters) -> Iterable[Metric]:
    recorded = CounterMetricFamily(
        "tradewind_tasks_recorded", "Tasks that got a row since the sink started.", labels=["status"]
    )
    recorded.add_metric(["ok"], counters.ok)
    recorded.add_metric(["failed"], counters.failed)
    yield recorded
    for name, help_text, value in (
        ("retries", "Failures without a row, because their task is tried again.", counters.retried),
        ("duplicates", "Results of tasks that already had a row.", counters.duplicates),
        ("returned", "Batches that workers have handed back.", counters.returned),
        ("quarantined", "Tasks given up on, because workers died while running them.", counters.quarantined),
        ("workers_lost", "Workers that fell silent.", counters.workers_lost),
        ("commits", "Transactions that wrote results.", counters.commits),
        ("commit_seconds", "How long these transactions took together.", counters.commit_s),
    ):
        yield CounterMetricFamily(f"tradewind_{name}", help_text, value)


def _standing(report: Report) -> Iterable[Metric]:
    yield _gauge("ledger_stuck", "1 while the ledger accepts no results, else 0.", report.is_stuck)
    yield _gauge("ledger_bytes", "The size of the ledger.", report.ledger_bytes)
    by_key: dict[str, list[WorkerReport]] = {}
    for worker in report.workers:
        by_key.setdefault(worker.key, []).append(worker)
    slots = GaugeMetricFamily("tradewind_slots", "Slots of the workers with this key.", labels=["key"])
    busy = GaugeMetricFamily("tradewind_slots_busy", "Slots that run a batch.", labels=["key"])
    crew = GaugeMetricFamily("tradewind_workers", "Workers with this key that are beating.", labels=["key"])
    held = GaugeMetricFamily(
        "tradewind_batches_in_hands", "Batches that workers with this key hold, running or not.", labels=["key"]
    )
    for key, workers in sorted(by_key.items()):
        slots.add_metric([key], sum(each.slots for each in workers))
        busy.add_metric([key], sum(min(each.running, each.slots) for each in workers))
        crew.add_metric([key], len(workers))
        held.add_metric([key], sum(each.held for each in workers))
    yield from (slots, busy, crew, held)
    yield _gauge("jobs_open", "Jobs whose ventilator is here.", len(report.jobs))
    tasks = GaugeMetricFamily(
        "tradewind_job_tasks", "Tasks of open jobs: recorded, failed, and in all.", labels=["job", "state"]
    )
    for job in report.jobs[:METRIC_JOBS_MAX]:
        tasks.add_metric([job.job, "done"], job.done)
        tasks.add_metric([job.job, "failed"], job.failed)
        if job.total is not None:
            tasks.add_metric([job.job, "total"], job.total)
    yield tasks
