"""The private sink and worker of `--local`: the order in which they end."""

import subprocess
import sys
from pathlib import Path

from common.ventilator import local_farm

# Their standard input ends when they are to leave.
WORKER = "import pathlib, sys, time; sys.stdin.read(); time.sleep(0.1); pathlib.Path('left').touch()"
SINK = "import pathlib, sys; sys.stdin.read(); sys.exit(not pathlib.Path('left').exists())"


def test_the_sink_removes_the_keys_only_when_the_worker_is_gone(tmp_path: Path) -> None:
    sink, worker = (
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, cwd=tmp_path)
        for program in (SINK, WORKER)
    )
    local_farm.end([("sink", sink), ("worker", worker)])
    assert (worker.returncode, sink.returncode) == (0, 0)
