"""The main job of `make run`: measure Python source files.

    python worker.py examples.source
    find . -name '*.py' > files.txt; python ventilator.py examples.source:measure files.txt

Run as a program it does the whole walk on this machine: a sink, two workers and a ventilator, all over CURVE sockets,
measure every `.py` file of this Python's own standard library. The task's argument is the path; the worker opens it.
"""

import argparse
import ast
import hashlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

__all__ = ["measure"]

TOP = Path(__file__).resolve().parent.parent


def measure(path: str) -> dict[str, Any]:
    """Lines, bytes, sha256 and syntax-tree nodes of a source file; nodes are None where Python cannot parse it."""
    text = Path(path).read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = sum(1 for _ in ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):
        nodes = None
    return {
        "path": path,
        "lines": len(text.splitlines()),
        "bytes": len(text),
        "sha256": hashlib.sha256(text).hexdigest(),
        "nodes": nodes,
    }


def source_files(folder: Path) -> list[str]:
    """Every `.py` file below the folder, without what was installed beside the standard library."""
    found = (path for path in folder.rglob("*.py") if "site-packages" not in path.parts and path.is_file())
    return sorted(map(str, found))


def start(folder: Path, stack: ExitStack, script: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start one of the commands in the folder; it is ended with the stack. Ctrl-C reaches only this program."""
    python_path = os.pathsep.join(filter(None, [str(TOP), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, str(TOP / f"{script}.py"), *arguments]
    process = subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": python_path}, process_group=0)
    stack.callback(end, process)
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """End a command in order."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the sink has written the file."""
    while not path.exists():
        if process.poll() is not None:
            sys.exit("the sink did not start; it has said why")
        time.sleep(0.02)


def run(files: list[str], folder: Path) -> int:
    """The three commands, as a user would type them; returns the ventilator's exit code."""
    (folder / "files.txt").write_text("".join(f"{path}\n" for path in files))
    with ExitStack() as stack:
        ports = ["--listen", "127.0.0.1", "--control-port", "0", "--results-port", "0"]
        sink = start(folder, stack, "sink", *ports)
        wait_for(folder / "keys" / "observer.key_secret", sink)
        slots = str(max(1, (os.cpu_count() or 2) // 2))
        for name in ("first", "second"):
            start(folder, stack, "worker", "examples.source", "--slots", slots, "--name", name)
        ventilator = start(folder, stack, "ventilator", "examples.source:measure", "files.txt", "--port", "0")
        return ventilator.wait()


def show(folder: Path, seconds: float) -> None:
    """A table of what the ledger holds."""
    from rich.console import Console
    from rich.table import Table

    command = [sys.executable, str(TOP / "sink.py"), "results"]
    printed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    rows = [row["value"] for row in map(json.loads, printed.splitlines()) if row["status"] == "ok"]
    table = Table("file", "lines", "bytes", "nodes", "sha256", box=None, header_style="bold")
    for column in table.columns[1:4]:
        column.justify = "right"
    for row in sorted(rows, key=lambda row: -row["bytes"])[:10]:
        nodes = "-" if row["nodes"] is None else f"{row['nodes']:,}"
        name = "/".join(Path(row["path"]).parts[-2:])
        table.add_row(name, f"{row['lines']:,}", f"{row['bytes']:,}", nodes, row["sha256"][:12])
    totals = [sum(row[field] or 0 for row in rows) for field in ("lines", "bytes", "nodes")]
    table.add_section()
    table.add_row(f"all {len(rows):,} files", *(f"{total:,}" for total in totals), "", style="bold")
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(table)
    console.print(f"{len(rows):,} tasks in {seconds:.1f} s, {len(rows) / seconds:,.0f} tasks/s, start and end included")
    console.print(f"the ledger: {folder / 'results.db'}", soft_wrap=True)


def main() -> int:
    """The whole walk; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Measure Python source files with a sink, two workers and a ventilator."
    )
    parser.add_argument("--folder", type=Path, default=Path(sysconfig.get_path("stdlib")), help="where the files are")
    folder = Path(tempfile.mkdtemp(prefix="tradewind-run-"))
    files = source_files(parser.parse_args().folder.resolve())
    started = time.monotonic()
    try:
        code = run(files, folder)
    except KeyboardInterrupt:
        print(f"interrupted; what was recorded is in {folder / 'results.db'}", file=sys.stderr)
        return 130
    if code in (0, 1):
        show(folder, time.monotonic() - started)
    return code


if __name__ == "__main__":
    sys.exit(main())
