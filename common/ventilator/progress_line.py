"""How far a job is, in a line that fits: counts, percent, rate and time left come first, the job's name last."""

from dataclasses import dataclass

from ..pace import duration, rate_text
from ..plain_text import counted
from .summary import Standing

_GAP = "  "
_BAR_COLUMNS = 20
_BAR_COLUMNS_MIN = 6
_NAME_COLUMNS_MIN = 8


@dataclass(frozen=True, slots=True)
class Style:
    """What the terminal can show."""

    columns: int
    colours: bool = True
    ascii: bool = False

    def bar(self, share: float, columns: int) -> str:
        """A bar of this many columns, of which this share is full."""
        full = int(share * columns)
        done, left = ("#", "-") if self.ascii or not self.colours else ("━", "━")
        return self._coloured("32", done * full) + self._coloured("2", left * (columns - full))

    def alarming(self, text: str) -> str:
        """The text in red."""
        return self._coloured("31", text)

    def cut(self, text: str, columns: int) -> str:
        """The text, or its beginning."""
        mark = "..." if self.ascii else "…"
        return text if len(text) <= columns else (text[: max(0, columns - len(mark))] + mark)[:columns]

    def _coloured(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours and text else text


def in_words(standing: Standing, rate: float) -> str:
    """How the job stands, without its name."""
    others = [f"{standing.failed:,} failed", *_outside(standing)]
    return ", ".join([*_first(standing, rate), *others])


def for_terminal(standing: Standing, rate: float, job: str, style: Style) -> str:
    """The same for a terminal, as far as there is room; a bar comes before all that is less important."""
    first = _GAP.join(_first(standing, rate))
    room = style.columns - 1 - len(first)
    if room < 0:
        return style.cut(first, max(0, style.columns - 1))
    name_columns = len(_GAP) + min(_NAME_COLUMNS_MIN, len(job))
    others: list[str] = []
    if standing.failed and len(failed := f"{standing.failed:,} failed") + len(_GAP) <= room:
        others.append(style.alarming(failed))
        room -= len(failed) + len(_GAP)
    if standing.total and room >= len(_GAP) + _BAR_COLUMNS_MIN:
        # The bar leaves room for a part of the name, if it can.
        bar_columns = min(_BAR_COLUMNS, max(_BAR_COLUMNS_MIN, room - len(_GAP) - name_columns))
        others.insert(0, style.bar(standing.done / standing.total, bar_columns))
        room -= len(_GAP) + bar_columns
    for text in _outside(standing):
        if len(_GAP) + len(text) + name_columns <= room:
            others.append(text)
            room -= len(_GAP) + len(text)
    if room >= name_columns:
        others.append(style.cut(job, room - len(_GAP)))
    return _GAP.join([first, *others])


def _first(standing: Standing, rate: float) -> list[str]:
    """What is shown in any case."""
    if standing.total is None:
        return [f"{standing.done:,} done", rate_text(rate)]
    percent = 100 * standing.done // standing.total if standing.total else 100
    about = "~" if standing.is_estimate else ""
    left = [f"{duration((standing.total - standing.done) / rate)} left"] if rate else []
    return [f"{standing.done:,}/{about}{standing.total:,}", f"{percent}%", rate_text(rate), *left]


def _outside(standing: Standing) -> list[str]:
    crew = (
        f"{counted(standing.crew, 'worker')} with {counted(standing.slots, 'slot')}" if standing.crew else "no worker"
    )
    return [crew, f"{counted(standing.outstanding, 'batch', 'batches')} outstanding"]
