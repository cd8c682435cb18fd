"""What a role does about its own process: signals that its starter has changed, memory that holds a key, orphans."""

import os
import signal
import sys
from collections.abc import Collection

_PR_SET_DUMPABLE = 4


def take_signals() -> None:
    """Undo what the starter did to signals; an ignored or a blocked one is inherited.

    With SIGCHLD ignored nobody learns how a child has ended, and a blocked SIGTERM stops nothing.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def hide_memory() -> None:
    """Keep other processes of this user out of this one's memory, where its secret key is; on Linux only.

    This ends core dumps too, and debuggers and profilers that attach need root.
    """
    if sys.platform != "linux":
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        # A Python without ctypes, or a system without prctl: there is no other way.
        return


def inherits_orphans() -> bool:
    """True for process 1 of a container: what tasks have left behind becomes its own."""
    return os.getpid() == 1


def reap_orphans(own: Collection[int]) -> None:
    """Reap the ended children that are not in `own`."""
    try:
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if found.si_pid in own:
                # Who started it asks for its exit code; the rest has time until then.
                return
            os.waitpid(found.si_pid, 0)
    except ChildProcessError:
        return
