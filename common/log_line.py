"""What pure rules want logged; the role's loop writes it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogLine:
    """Log this text at this level (debug, info, warning, error)."""

    level: str
    text: str
