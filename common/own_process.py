"""What a role does about its own process: signals that its starter has changed, memory that holds a key, orphans."""

import gc
import os
import signal
import sys
from collections.abc import Collection

_PR_SET_DUMPABLE = 4
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_COLLECT_AFTER = 10_000
"""How many objects more than before there must be before Python looks for cycles; it looks after 700 by itself."""
_KEPT_BYTES = 32 * 1024 * 1024
"""The largest that glibc takes for the second."""


def take_signals() -> None:
    """Undo what the starter did to signals; an ignored or a blocked one is inherited.

    With SIGCHLD ignored nobody learns how a child has ended, and a blocked SIGTERM stops nothing.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def prepare() -> None:
    """What the process of a role does before it reads a key, and before it moves messages."""
    hide_memory()
    keep_freed_memory()
    collect_seldom()


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


def keep_freed_memory() -> None:
    """Let glibc keep what was freed, up to 32 MiB, for the next message.

    It gives it back to the system otherwise, page by page, and takes it anew for each large message.
    """
    if sys.platform != "linux":
        return
    try:
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    except (ImportError, OSError, AttributeError):
        # Another C library.
        return


def collect_seldom() -> None:
    """Let Python look for cycles of objects seldom: messages and what is kept of them are none.

    Messages that wait for their turn are many objects for a moment. Each time Python takes that for growth, and in the
    end looks through all that the role knows: with a crew of 10,000 that is 0.1 s without an answer, each second.
    """
    gc.set_threshold(_COLLECT_AFTER)


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
