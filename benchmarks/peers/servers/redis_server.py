"""A Redis of one's own on a free port, in memory only, and programs that end with the block."""

import contextlib
import socket
import subprocess
import sys
import time


@contextlib.contextmanager
def running(*command, **options):  # type: ignore[no-untyped-def]
    """A program that is ended with the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def redis():  # type: ignore[no-untyped-def]
    """Gives its URL."""
    for port in range(21_000, 31_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                break
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with running(*command):
        for _ in range(500):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.02)
        else:
            sys.exit("redis-server did not come up")
        yield f"redis://127.0.0.1:{port}/0"
