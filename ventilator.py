#!/usr/bin/env python3
"""The ventilator: reads the input of one job, pushes it to the workers in batches, and waits for every receipt.

common/ventilator/command.py    its options
common/ventilator/loop.py       its sockets and signals; the rules are beside it
"""

import signal

if __name__ == "__main__":
    # Ctrl-C while the rest is imported is no reason for a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from common.ventilator.command import main

if __name__ == "__main__":
    main()
