"""A line that pure rules want logged; the loop of the role writes it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogLine:
    """Log this text at this level (debug, info, warning, error)."""

    level: str
    text: str
