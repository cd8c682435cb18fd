"""Numbers, times and texts as the pages show them. No clock."""

from datetime import UTC, datetime

from ..pace import duration, rate_text
from ..plain_text import one_line

__all__ = ["brief", "clock_time", "duration", "instant", "one_line", "percent", "rate_text", "short_count"]


def brief(seconds: float) -> str:
    """A run time: below a second in milliseconds or microseconds."""
    if seconds >= 0.9995:
        return duration(seconds)
    if seconds >= 0.0009995:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} µs"


def percent(share: float | None) -> str:
    """A share, of which neither nothing nor everything is claimed too early."""
    if share is None:
        return ""
    if share >= 1:
        return "100 %"
    if share > 0.999:
        return "99.9 %"
    return f"{share * 100:.0f} %" if share >= 0.1 or share == 0 else f"{share * 100:.1f} %"


def short_count(count: float) -> str:
    """A count for an axis."""
    for power, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= power:
            return f"{count / power:.3g} {letter}"
    return f"{count:.3g}"


def instant(text: str | None) -> str:
    """An instant as ISO 8601 writes it, for people."""
    return "" if text is None else datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def clock_time(at: float) -> str:
    """A time of day."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M")
