"""The roles that a key can be enrolled for, and an enrolled key."""

from dataclasses import dataclass

WORKER, VENTILATOR, OBSERVER = "worker", "ventilator", "observer"
ROLES = (WORKER, VENTILATOR, OBSERVER)
READERS = (OBSERVER, VENTILATOR)
"""Who may see all."""


@dataclass(frozen=True, slots=True)
class User:
    """An enrolled key: its role, its name, and its public half as 40 characters of Z85 (ZeroMQ RFC 32)."""

    role: str
    name: str
    key: str
