"""What a role does about its own process, in real processes: as another user where this one is root."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
NOBODY = 65534


def _run(program: str) -> str:
    start = f"import sys; sys.path.insert(0, {str(TOP)!r}); from common import own_process\n"
    command = [sys.executable, "-c", start + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def _as_it_was_started(before: str) -> str:
    """What a process knows of a child's end and of blocked signals, when its starter did this."""
    program = (
        "import signal, subprocess\n"
        "own_process.take_signals()\n"
        "code = subprocess.run(['sh', '-c', 'kill -SEGV $$']).returncode\n"
        "print(code, sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))\n"
    )
    inside = f"import os, signal, sys\n{before}\nos.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    start = f"import sys; sys.path.insert(0, {str(TOP)!r}); from common import own_process\n"
    command = [sys.executable, "-c", inside, "-c", start + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_ignored_and_blocked_signals_of_the_starter_do_not_count() -> None:
    assert _as_it_was_started("signal.signal(signal.SIGCHLD, signal.SIG_IGN)") == f"{-signal.SIGSEGV} []"
    assert _as_it_was_started("signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())") == "-11 []"


def test_other_processes_of_the_user_cannot_reach_into_this_one() -> None:
    """A process that may read another one's environment in /proc may read its memory too."""
    # Root may read everything, and is nobody for this.
    become = (
        f"import ctypes; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); ctypes.CDLL(None).prctl(4, 1)\n"
    )
    look = (
        "if os.fork() == 0:\n"
        "    try:\n"
        "        open(f'/proc/{os.getppid()}/environ', 'rb').read()\n"
        "    except PermissionError:\n"
        "        os._exit(13)\n"
        "    os._exit(0)\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    program = "import os\n" + become * (os.getuid() == 0)
    assert _run(program + look).strip() == "0"
    assert _run(f"{program}own_process.hide_memory()\n{look}").strip() == "13"


def test_orphans_are_reaped_and_the_children_of_others_left_to_them() -> None:
    program = (
        "import ctypes, os, subprocess, time\n"
        "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"  # PR_SET_CHILD_SUBREAPER, as process 1 is one.
        "ours = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL)\n"
        "shell = subprocess.Popen(['sh', '-c', 'sleep 60 & echo $!'], stdout=subprocess.PIPE)\n"
        "orphan = int(shell.stdout.readline()); shell.wait(); os.kill(orphan, 9)\n"
        "os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOWAIT)\n"
        "own_process.reap_orphans([ours.pid])\n"
        "print(os.path.exists(f'/proc/{orphan}'), ours.poll())\n"
        "ours.kill(); os.waitid(os.P_PID, ours.pid, os.WEXITED | os.WNOWAIT)\n"
        "own_process.reap_orphans([ours.pid]); print(ours.wait())\n"
        "own_process.reap_orphans([])\n"
    )
    assert _run(program).split() == ["False", "None", "-9"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_was_freed_is_taken_again_without_the_system() -> None:
    program = (
        "import resource\n"
        "own_process.keep_freed_memory()\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "use = lambda: [b'x' * 1_000_000 for _ in range(4)]\n"
        "for _ in range(3): use()\n"
        "before = faults()\n"
        "for _ in range(20): use()\n"
        "print(faults() - before)\n"
    )
    # Without it there are some 20,000.
    assert int(_run(program)) < 1_000


def test_a_turns_messages_do_not_make_python_look_for_cycles() -> None:
    """It would look through the whole crew again and again."""
    turns = (
        "import gc\n"
        "looks = []\n"
        "gc.callbacks.append(lambda phase, found: looks.append(phase))\n"
        "for _ in range(100):\n"
        "    messages = [[number] for number in range(3_000)]\n"
        "print(len(looks))\n"
    )
    assert int(_run(turns)) > 100
    assert int(_run(f"own_process.prepare()\n{turns}")) == 0
