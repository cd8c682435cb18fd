"""What a worker's slots report."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ready:
    """A child has imported the modules and waits for its first run."""

    slot: int
    functions: list[str]


@dataclass(frozen=True, slots=True)
class Broken:
    """A child could not import the modules; the text says why."""

    slot: int
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Encoded `Outcomes` of the tasks from `first` on, and the seconds that they ran."""

    slot: int
    first: int
    count: int
    seconds: float
    outcomes: bytes
    by_sigterm: bool = False
    """Its child was ended by SIGTERM, which may have been meant for the worker and all its children."""


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A child is stuck with a task, and will not run what waits behind it."""

    slot: int
    firsts: list[int]
    """Where the parts of its order begin that it gives back."""
    orders_back: int
    """How many of the orders ahead it gives back, the last ones."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A child is gone with what it had left; `unclear` when nobody knows which task of its order is to blame.

    The slot's next child says when it is ready.
    """

    slot: int
    unclear: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The slot has run all tasks of its order."""

    slot: int


@dataclass(frozen=True, slots=True)
class Edited:
    """These files of the modules are not what the children have imported."""

    files: list[str]
    refused: bool = False
    """A trial child could not import them as they are."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A trial child has imported the edited modules, and could serve these functions."""

    functions: list[str]


@dataclass(frozen=True, slots=True)
class NotImported:
    """A trial child could not import the edited modules; the text says why."""

    text: str


Event = Ready | Broken | Outcome | GivenBack | Lost | Done | Edited | Imported | NotImported
