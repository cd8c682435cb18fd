#!/usr/bin/env python3
"""The worker: pulls tasks from the ventilators, runs them in child processes, pushes the results to the sink.

common/worker/command.py    its options
common/worker/loop.py       its sockets and signals; the rules are beside it
"""

import signal

if __name__ == "__main__":
    # Ctrl-C while the rest is imported is no reason for a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from common.worker.command import main

if __name__ == "__main__":
    main()
