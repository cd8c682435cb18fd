"""What `crew ssh --check` says: from what `doctor` says on each host to a table, and to what is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ..causes import Cause
from ..plain_text import one_line

HEADS = ("host", "ssh", "python", "tradewind", "slots", "clock", "sink", "modules")
_WAY_TO_SINK = ("key file", "sink's name", "sink's port", "handshake", "results port", "ledger")


class DoctorCheck(msgspec.Struct, frozen=True):
    """A verdict of `doctor`, as it prints it."""

    check: str
    state: str
    what: str
    do: str = ""


class DoctorFacts(msgspec.Struct, frozen=True):
    """The figures behind them."""

    versions: dict[str, str] = {}
    slots: int | None = None
    clock_ahead_s: float | None = None


class DoctorSaid(msgspec.Struct, frozen=True):
    """All that `doctor --json` prints."""

    checks: list[DoctorCheck]
    facts: DoctorFacts


@dataclass(frozen=True, slots=True)
class HostReport:
    """What is known of a host: why ssh or Tradewind does not run there, or what `doctor` says there."""

    host: str
    cause: Cause | None = None
    is_connected: bool = False
    said: DoctorSaid | None = None

    @property
    def fails(self) -> bool:
        """Whether no worker can work there."""
        return self.said is None or any(each.state == "FAIL" for each in self.said.checks)


def read(lines: Sequence[str]) -> DoctorSaid | None:
    """What `doctor` has printed, after what the shell there may have printed before; None when that is not there."""
    for line in reversed(lines):
        try:
            return msgspec.json.decode(line, type=DoctorSaid)
        except msgspec.DecodeError:
            continue
    return None


def table(reports: Sequence[HostReport], own_version: str, slots: int | None = None) -> list[str]:
    """The lines to print: a row for each host, then what is wrong, and what to do.

    `slots` is how many each worker is given; without that, as many as doctor has found.
    """
    rows = [HEADS, *(_row(report, slots) for report in reports)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEADS))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    wrong = [line for report in reports for line in _wrong(report, own_version)]
    return [*lines, *([""] if wrong else []), *wrong]


def _row(report: HostReport, slots: int | None) -> tuple[str, ...]:
    ssh = "ok" if report.is_connected else "FAIL"
    if report.said is None:
        return (one_line(report.host), ssh, "", "FAIL" if report.is_connected else "", "", "", "", "")
    facts, states = report.said.facts, {each.check: each.state for each in report.said.checks}
    slots = facts.slots if slots is None else slots
    ahead_s = facts.clock_ahead_s
    return (
        one_line(report.host),
        ssh,
        one_line(facts.versions.get("Python", "")),
        one_line(facts.versions.get("Tradewind", "")),
        "" if slots is None else str(slots),
        # Of this machine's clock against the sink's.
        "" if ahead_s is None else f"{-ahead_s:+.1f} s",
        next((f"FAIL ({name})" for name in _WAY_TO_SINK if states.get(name) == "FAIL"), "ok"),
        one_line(states.get("modules", "")),
    )


def _wrong(report: HostReport, own_version: str) -> list[str]:
    """What is wrong with the host, and what may be."""
    if report.said is None:
        assert report.cause is not None
        return _advised(f"FAIL  {report.host}: {report.cause.what}", report.cause.do)
    found = [
        line
        for each in report.said.checks
        if each.state in ("FAIL", "warn")
        for line in _advised(f"{each.state:<4}  {report.host}: {each.check}: {each.what}", each.do)
    ]
    version = report.said.facts.versions.get("Tradewind", own_version)
    if version != own_version:
        advice = "install the same version there"
        found += _advised(f"warn  {report.host}: it has Tradewind {version}, this machine {own_version}", advice)
    return found


def _advised(text: str, advice: Any) -> list[str]:
    return [one_line(text), *([f"      -> {one_line(advice)}"] if advice else [])]
