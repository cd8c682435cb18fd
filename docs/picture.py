"""Draw `docs/running.svg`: a sink, two workers and a ventilator at work, one worker killed on the way. Needs tmux.

.venv/bin/python docs/picture.py
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

TOP = Path(__file__).resolve().parents[1]
COLUMNS = 118
FILES = 1_800
PATIENCE_S = 60.0
LOOK_S = 2.0


class Terminals:
    """Named terminals, each with a shell, in a tmux server that ends with them."""

    def __init__(self, folder: Path) -> None:
        self._tmux = ["tmux", "-S", str(folder / "tmux"), "-f", os.devnull]
        self._folder = folder
        self._env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([*self._tmux, *arguments], env=self._env, check=True, capture_output=True, text=True)
        return done.stdout

    def open(self, name: str) -> None:
        """Open a terminal with an empty prompt in the folder."""
        shell = "exec env PS1='$ ' HISTFILE= bash --norc --noprofile"
        size = ["-x", str(COLUMNS - 4), "-y", "30"]
        self._run("new-session", "-d", "-s", name, "-c", str(self._folder), *size, shell)

    def type(self, name: str, command: str) -> None:
        """Type a command there."""
        self._run("send-keys", "-t", name, "-l", command)
        self._run("send-keys", "-t", name, "Enter")

    def screen(self, name: str) -> str:
        """What it shows, with its colours."""
        return self._run("capture-pane", "-e", "-p", "-t", name).rstrip()

    def wait_for(self, name: str, pattern: str) -> None:
        """Wait until it shows something that matches."""
        ends_at = time.monotonic() + PATIENCE_S
        while not re.search(pattern, Text.from_ansi(self.screen(name)).plain):
            if time.monotonic() > ends_at:
                raise TimeoutError(f"the {name} never showed {pattern!r}; it shows:\n{self.screen(name)}")
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        """Kill what its shell runs."""
        shell = self._run("display-message", "-p", "-t", name, "#{pane_pid}").strip()
        subprocess.run(["pkill", "-KILL", "-P", shell], check=True)

    def close(self) -> None:
        """End them and what runs in them."""
        self._run("kill-server")


def record(folder: Path) -> dict[str, str]:
    """Run the scene; returns what each terminal shows."""
    for name in ("sink.py", "worker.py", "ventilator.py", "common", "examples"):
        (folder / name).symlink_to(TOP / name)
    modules = [path for path in Path(os.__file__).parent.rglob("*.py") if "site-packages" not in path.parts]
    (folder / "files.txt").write_text("".join(f"{path}\n" for path in sorted(modules)[:FILES]))
    terminals = Terminals(folder)
    names = ("sink", "worker on lab1", "worker on lab2", "ventilator")
    try:
        for name in names:
            terminals.open(name)
        terminals.type("sink", "python sink.py")
        terminals.wait_for("sink", "listening")
        for machine in ("lab1", "lab2"):
            terminals.type(f"worker on {machine}", f"python worker.py examples.source --slots 1 --name {machine}")
            terminals.wait_for(f"worker on {machine}", "exposing")
        terminals.type("ventilator", "python ventilator.py examples.source:measure files.txt --job stdlib")
        terminals.wait_for("ventilator", r" [1-9]\d%")
        terminals.kill("worker on lab2")
        terminals.wait_for("sink", "silent")
        time.sleep(LOOK_S)
        return {name: terminals.screen(name) for name in names}
    finally:
        terminals.close()


def draw(screens: dict[str, str]) -> None:
    """Write the picture."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        panels = [
            Panel(Text.from_ansi(screen), title=f"[bold]{name}", title_align="left", border_style="grey50")
            for name, screen in screens.items()
        ]
        console.print(Group(*panels))
    console.save_svg(str(TOP / "docs" / "running.svg"), title="one worker of two was just killed; the job goes on")


def main() -> None:
    """Run the scene in a folder that goes away, and draw it."""
    with tempfile.TemporaryDirectory(prefix="tradewind-picture-") as folder:
        draw(record(Path(folder)))


if __name__ == "__main__":
    main()
