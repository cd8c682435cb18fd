#!/usr/bin/env python3
"""The worker: pulls tasks from the ventilators, runs them in child processes, pushes the results to the sink.

common/worker/command.py    its options
common/worker/loop.py       its sockets and signals; the rules are beside it
"""

import signal
import sys

if __name__ == "__main__":
    # Ctrl-C while the rest is imported is no reason for a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    if sys.version_info < (3, 11):
        raise ImportError("Python 3.11 or later is needed")
    from common.worker.command import main
except ImportError as error:
    top = __file__.removesuffix("worker.py")
    print(
        f"worker: {error}; run `make run` once, and start `{top}.venv/bin/python -m tradewind worker`", file=sys.stderr
    )
    sys.exit(2)

if __name__ == "__main__":
    main()
