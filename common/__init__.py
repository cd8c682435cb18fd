"""Tradewind: a ventilator pushes tasks, workers on any machines run them, and a sink collects the results.

The package is `common` in a checkout and `tradewind` where it is installed. `docs/ARCHITECTURE.md` is its map.
"""

__version__ = "0.2.0"
