"""The pages, as jinja2 makes them. All that comes from others is escaped, and cannot control a screen."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from . import words
from .series import BUCKETS_MAX, Chart, line, nice_top

FOLDER = Path(__file__).parent
_WIDTH, _HEIGHT = 1000.0, 200.0
_TICKS = 4


class Renderer:
    """Makes pages of the templates."""

    def __init__(self, root: str) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_harmless,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals["root"] = root
        self._environment.filters |= {
            "brief": words.brief,
            "duration": words.duration,
            "instant": words.instant,
            "lines": _lines,
            "number": lambda count: f"{count:,}",
            "percent": words.percent,
            "rate": words.rate_text,
            "short": words.short_count,
        }

    def page(self, template: str, **context: Any) -> bytes:
        """One page."""
        return self._environment.get_template(template).render(context).encode()


def _harmless(shown: Any) -> Any:
    return words.one_line(shown) if isinstance(shown, str) and not isinstance(shown, Markup) else shown


def _lines(text: str) -> Markup:
    """A text of several lines, for a `pre`."""
    return Markup("\n").join(escape(words.one_line(line.expandtabs(4))) for line in text.splitlines())


def drawn(chart: Chart) -> dict[str, Any]:
    """What a template needs to draw a chart without scripts, and what a script needs to draw it better."""
    top = nice_top(max(chart.rates, default=0.0))
    points = line(chart.rates, _WIDTH, _HEIGHT, top)
    end = chart.times[-1] + chart.width_s if chart.times else 0
    start = chart.times[0] if chart.times else 0
    ticks = [
        (100 * number / _TICKS, words.clock_time(start + (end - start) * number / _TICKS))
        for number in range(_TICKS + 1)
    ]
    return {
        "top": top,
        "points": points,
        "area": f"0,{_HEIGHT:.0f} {points} {_WIDTH:.0f},{_HEIGHT:.0f}" if points else "",
        "ticks": ticks,
        "times": chart.times[-2 * BUCKETS_MAX :],
        "rates": [round(rate, 3) for rate in chart.rates[-2 * BUCKETS_MAX :]],
        "width_s": chart.width_s,
        "is_empty": not any(chart.rates),
    }
