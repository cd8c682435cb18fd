#!/usr/bin/env python3
"""The sink: collects the results of all jobs in its ledger, and is the authority over keys.

common/sink/command.py    its options
common/sink/loop.py       its sockets and signals; the rules are beside it
"""

import signal
import sys

if __name__ == "__main__":
    # Ctrl-C while the rest is imported is no reason for a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    if sys.version_info < (3, 11):
        raise ImportError("Python 3.11 or later is needed")
    from common.sink.command import main
except ImportError as error:
    top = __file__.removesuffix("sink.py")
    print(f"sink: {error}; run `make run` once, and start `{top}.venv/bin/python -m tradewind sink`", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    main()
