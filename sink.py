#!/usr/bin/env python3
"""The sink: collects the results of all jobs in its ledger, and is the authority over keys.

common/sink/command.py    its options
common/sink/loop.py       its sockets and signals; the rules are beside it
"""

import signal

if __name__ == "__main__":
    # Ctrl-C while the rest is imported is no reason for a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from common.sink.command import main

if __name__ == "__main__":
    main()
