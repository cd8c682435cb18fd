"""The command `tradewind`, also `python -m tradewind`: a command for each role, which imports only what it needs."""

import signal
import sys

from . import __version__


def main() -> None:
    """The command line."""
    # Ctrl-C during the imports ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:] == ["--version"]:
        print(f"tradewind {__version__}")
        return
    from .command import run

    run()


if __name__ == "__main__":
    main()
