"""The classic: n → n·n.

python worker.py examples.squares
python ventilator.py examples.squares:square --range 1000000
"""


def square(n: int) -> int:
    """The square of n."""
    return n * n
