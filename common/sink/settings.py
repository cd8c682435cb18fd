"""The settings of the sink's rules."""

from dataclasses import dataclass

from ..protocol.settings import RELAY_PORT, RELAYED_TASKS_PORT, RESULTS_PORT, Timing


@dataclass(frozen=True, slots=True)
class CollectorSettings:
    """The sink's rules."""

    results_port: int = RESULTS_PORT
    relay_port: int = RELAY_PORT
    relayed_tasks_port: int = RELAYED_TASKS_PORT
    key: str = "0" * 40
    """The sink's public key, by which workers know the relay."""
    loopback: str = ""
    """The loopback address that the sink listens at; empty when other machines can reach it."""
    receipts_page: int = 10_000
    """Task ranges in one answer to a ventilator."""
    rows_page: int = 1_000
    """Rows in one answer to a reader."""
    rows_page_bytes: int = 1024 * 1024
    values_page: int = 10_000
    """Values in one answer to a reader that wants nothing else."""
    rows_scanned: int = 20_000
    """How many tasks are looked at for one answer to a reader of failed ones."""
    jobs_page: int = 1_000
    failures_shown: int = 5
    digests_page: int = 4_096
    """Digests of arguments in one answer to a ventilator: 64 KiB, read in some 10 ms."""
    retry_commit_s: float = 1.0
    """How long the sink waits before it retries a commit that the disk refused."""
    timing: Timing = Timing()
