#!/usr/bin/env python3
"""The ventilator: reads the input of one job, pushes it to the workers in batches, and waits for every receipt.

common/ventilator/command.py    its options
common/ventilator/loop.py       its sockets and signals; the rules are beside it
"""

import signal
import sys

if __name__ == "__main__":
    # Ctrl-C while the rest is imported is no reason for a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    if sys.version_info < (3, 11):
        raise ImportError("Python 3.11 or later is needed")
    from common.ventilator.command import main
except ImportError as error:
    top = __file__.removesuffix("ventilator.py")
    print(
        f"ventilator: {error}; run `make run` once, and start `{top}.venv/bin/python -m tradewind ventilator`",
        file=sys.stderr,
    )
    sys.exit(2)

if __name__ == "__main__":
    main()
